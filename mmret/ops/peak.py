"""What accelerators can compute at most, by name and number format: the denominator of MFU."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import torch

Format = Literal["16-bit", "tf32", "fp32"]


class Peak(NamedTuple):
    """10^12 operations a second with dense matrices, two for a multiplication with addition."""

    half: float
    """float16 and bfloat16 with sums in float32, by tensor cores."""
    tf32: float
    fp32: float


PEAKS: dict[str, Peak] = {
    r"B200": Peak(2250, 1125, 75),
    r"H200 NVL|H100 NVL": Peak(835.5, 417.8, 60),
    r"H200|GH200|H100 80GB HBM3|H100 SXM|H800 SXM": Peak(989.4, 494.7, 66.9),
    r"H100 PCIe|H800 PCIe": Peak(756, 378, 51.2),
    r"A100|A800": Peak(312, 156, 19.5),
    r"A40": Peak(149.7, 74.8, 37.4),
    r"A30": Peak(165, 82, 10.3),
    r"A10G": Peak(70, 35, 35),
    r"A10": Peak(125, 62.5, 31.2),
    r"RTX A6000": Peak(154.8, 77.4, 38.7),
    r"L40S": Peak(362, 183, 91.6),
    r"L40": Peak(181, 90.5, 90.5),
    r"L4": Peak(121, 60.5, 30.3),
    r"RTX 6000 Ada": Peak(364.2, 182.1, 91.1),
    r"RTX 5090": Peak(209.5, 104.8, 104.8),
    r"RTX 4090": Peak(165.2, 82.6, 82.6),
    r"RTX 3090": Peak(71, 35.6, 35.6),
    r"V100-SXM\d": Peak(125, 15.7, 15.7),
    r"V100-PCIE": Peak(112, 14, 14),
    r"T4": Peak(65, 8.1, 8.1),
    r"MI300X": Peak(1307.4, 653.7, 163.4),
}
"""Pattern of the device's name -> the makers' published dense figures; the first that fits.

Data sheets of many cards print those with sparsity, twice as much. Compared on 2026-11-21 with published tables of the
sheets, and each with multiprocessors x clock x operations a cycle (`tests/unit/ops/test_peak.py`). GeForce cards sum
float16 products in float32 at half their speed. Cards before Ampere have no TF32.
"""

WITHOUT_BFLOAT16 = ("V100", "T4")
"""They compute bfloat16 without tensor cores."""


def peak_flops(name: str, format: Format, bfloat16: bool = False) -> float | None:
    """Operations a second that a device of this name reaches at most; None where we do not know.

    A part of a card (MIG), a laptop's or another variant's of the same number are unknown: they are slower.
    """
    if re.search(r"MIG|Laptop|RTX \d+ (D|SUPER|Ti)\b", name):
        return None
    peak = next((peak for known, peak in PEAKS.items() if re.search(rf"\b({known})(?![A-Za-z0-9])", name)), None)
    if peak is None or (bfloat16 and format == "16-bit" and any(old in name for old in WITHOUT_BFLOAT16)):
        return None
    return {"16-bit": peak.half, "tf32": peak.tf32, "fp32": peak.fp32}[format] * 1e12


def peak_of(device: torch.device, precision: str) -> float | None:
    """Of this machine's device under Lightning's name of a precision ("bf16-mixed", "32-true")."""
    if device.type != "cuda":
        return None
    if precision.startswith(("bf16", "16")):
        return peak_flops(torch.cuda.get_device_name(device), "16-bit", precision.startswith("bf16"))
    tf32 = torch.get_float32_matmul_precision() != "highest"
    return peak_flops(torch.cuda.get_device_name(device), "tf32" if tf32 else "fp32")
