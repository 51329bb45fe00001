import re

import pytest

from mmret.evaluation.plots import histogram


@pytest.mark.parametrize(
    "counts, bars",
    [
        ({1: 3, 4: 1}, 4),  # a bar for each whole number from 1 to 4
        ({0: 1, 79: 1}, 40),  # two to a bar
        ({0: 1, 80: 1}, 27),  # three to a bar
        ({0.0: 1, 0.5: 2, 1.0: 1}, 40),
    ],
)
def test_a_histogram_has_a_bar_for_each_whole_number_or_forty_at_most(counts, bars):
    svg = histogram(counts, name="toy", x_label="words")
    assert len(re.findall(r'style="fill: var\(--series-1\)"', svg)) == bars
    assert 'aria-label="toy"' in svg
    assert ">words<" in svg
