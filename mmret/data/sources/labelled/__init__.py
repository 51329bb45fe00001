"""Readers of collections whose rows have classes: VQAv2, NLVR2, folders of pictures by class."""

from mmret.data.sources.labelled.class_folder import ClassFolderConfig, build_class_folder
from mmret.data.sources.labelled.nlvr2 import NLVR2Config, build_nlvr2
from mmret.data.sources.labelled.vqav2 import VQAv2Config, build_vqav2

__all__ = ["ClassFolderConfig", "NLVR2Config", "VQAv2Config", "build_class_folder", "build_nlvr2", "build_vqav2"]
