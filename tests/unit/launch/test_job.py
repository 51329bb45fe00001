"""Times as sbatch reads them."""

import pytest

from mmret.launch.job import seconds_of


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("2:30", 150),
        ("24:00:00", 86400),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("2-01:00:05", 176405),
    ],
)
def test_every_form_of_time_is_read(time, seconds):
    assert seconds_of(time) == seconds
