"""`make parity` under pytest: every golden set below $MMRET_GOLDEN."""

import os

import pytest

from mmret.parity import Report, compare_folder

pytestmark = pytest.mark.parity


@pytest.mark.skipif("MMRET_GOLDEN" not in os.environ, reason="MMRET_GOLDEN names no folder with golden tensors")
def test_every_golden_tensor_is_reproduced():
    report = compare_folder(os.environ["MMRET_GOLDEN"], Report(print))
    assert report.compared
    assert not report.failures, "\n".join(map(str, report.failures))
