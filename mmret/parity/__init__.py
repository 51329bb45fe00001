"""Comparison with tensors that published implementations computed. Readers of golden sets only; no model code."""

from mmret.parity.golden import READERS, Reader, compare_folder
from mmret.parity.report import Comparison, Report

__all__ = ["READERS", "Comparison", "Reader", "Report", "compare_folder"]
