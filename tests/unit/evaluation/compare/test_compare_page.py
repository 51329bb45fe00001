"""What a comparison writes: Markdown, CSV, the page, the terminal."""

import csv
import html
import io
import json
import re
import shutil

import pytest
from rich.console import Console

from mmret.evaluation.compare import Comparison, read_variants, write_comparison
from mmret.evaluation.compare.chart import Line, Point, lines, radar, scatter
from mmret.evaluation.compare.duel import duels
from mmret.evaluation.compare.radar import task_chart
from mmret.evaluation.compare.screen import show_comparison
from mmret.evaluation.compare.sheet import LEGEND
from mmret.evaluation.trec import read_run
from tests.unit.evaluation.compare.bench_folder import write_bench, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return Comparison(*read_variants([write_bench(tmp_path_factory.mktemp("bench"))]))


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    return {path.suffix: path.read_text("utf-8") for path in write_comparison(comparison, tmp_path_factory.mktemp("o"))}


# Bounds as the bootstrap of 2,000 resamples with seed 0 gave them; all else counted by hand.
MARKDOWN = """# toys: comparison

Budget: steps 20.

## Quality

| variant | seeds | toy/heldout Recall@1 |
| --- | ---: | ---: |
| alpha | 2 | **62.5** (25.0–100.0) |
| beta | 2 | 12.5 (0.0–50.0) |
| gamma | 0 of 2 | – |

{legend}

## Cost

| variant | parameters | trained | image px | training FLOPs |
| --- | ---: | ---: | ---: | ---: |
| alpha | 2 M | 2 M | 32 | 4 T |
| beta | 1 M | 500 k | 16 | – |

## To know before comparing

- Not equal: parameters, 1 M (beta) to 2 M (alpha).
- Not equal: trained parameters, 500 k (beta) to 2 M (alpha).
- Not equal: side of the image in pixels, 16 (beta) to 32 (alpha).
- beta was trained on other data than the rest.

## Not finished

- gamma, seed 0: failed: RuntimeError: too <large>
- gamma, seed 1: failed: RuntimeError: too <large>
"""


def test_the_markdown_has_quality_cost_notes_and_failures(written):
    assert written[".md"] == MARKDOWN.format(legend=LEGEND)


def test_the_csv_has_a_row_for_each_variant_and_empty_cells_for_what_is_not_known(written, comparison):
    alpha, beta, gamma = csv.DictReader(io.StringIO(written[".csv"]))
    assert (alpha["variant"], alpha["seeds_finished"], alpha["toy/heldout/recall@1"]) == ("alpha", "2", "0.625")
    bounds = comparison.cells(comparison.headline)["beta"].interval
    assert float(beta["toy/heldout/recall@1 low"]) == pytest.approx(bounds.low)
    assert float(beta["toy/heldout/recall@1 high"]) == pytest.approx(bounds.high)
    assert (beta["parameters"], beta["training_flops"], alpha["training_flops"]) == ("1000000", "", "4e+12")
    assert gamma["error"].startswith("RuntimeError") and gamma["toy/heldout/recall@1"] == ""


def test_the_page_has_every_variant_number_and_failure_and_asks_nothing_of_any_other_place(written):
    page = written[".html"]
    for text in ("alpha", "beta", "gamma", "62.5", "12.5", "too &lt;large&gt;", "Pareto front", "alpha (front)"):
        assert text in page, text
    for attribute in ("src", "href", "action", "data", "poster", "srcset"):
        for address in re.findall(rf'[\s<]{attribute}\s*=\s*["\']?([^"\'\s>]+)', page):
            assert address.startswith(("data:", "#")), address
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)[^)]", page)
    assert "http:" not in page.replace("http://www.w3.org", "") and "https:" not in page
    assert "fetch(" not in page and len(page) < 3_000_000


def test_the_page_diffs_any_two_recipes_from_data_that_cannot_leave_its_element(written):
    data = re.search(
        r'<script type="application/json" id="recipe-values">(.*?)</script>', written[".html"], re.S
    ).group(1)
    assert json.loads(data) == {"keys": ["model.dim"], "values": {"alpha": ["64"], "beta": ["32"]}}
    assert "<" not in data
    row = '<td class="key">model.dim</td><td class="setting">64</td><td class="setting">32</td>'
    assert row in written[".html"]


def test_ids_in_the_page_are_unique(written):
    ids = re.findall(r'\sid="([^"]+)"', written[".html"])
    assert len(ids) == len(set(ids))


def test_the_page_sorts_by_the_values_of_its_cells(written):
    heads = re.findall(r'<table class="sortable wide">\s*<thead><tr>(.*?)</tr>', written[".html"], re.S)
    rows = re.findall(r'<tr><td data-value="alpha">.*?</tr>', written[".html"])
    assert heads[0].count("<button") == 3 and 'data-value="0.625"' in rows[0]
    assert 'data-value="2000000.0"' in rows[1] and 'data-value="4000000000000.0"' in rows[1]


def test_fewer_than_three_tasks_are_bars_and_more_a_radar(comparison, tmp_path):
    caption, svg = task_chart(comparison)
    assert "95 % intervals" in caption and "toy heldout" in svg
    runs = []
    for name, right in (("a", 0.5), ("b", 0.25)):
        run = write_run(tmp_path / name, [], name=name)
        metrics = {f"toy/{split}/recall@1": right for split in ("one", "two", "three")} | {"toy/none/recall@1": 0.0}
        (run / "metrics.json").write_text(json.dumps(metrics))
        runs.append(run)
    caption, svg = task_chart(Comparison(*read_variants(runs)))
    assert caption.startswith("Each axis runs from 0") and "R@1 50.0" in svg and "toy none" not in svg


def test_variants_differ_in_marker_and_dash_so_that_paper_will_do():
    svg = radar(["x", "y", "z"], {"a": (0, [1, 1, 1]), "b": (1, [0.5, 0.5, None])}, name="r")
    assert svg.count("stroke-dasharray") > 1 and "var(--series-1)" in svg and "var(--series-2)" in svg
    points = [Point("a", 0, 1.0, 50.0), Point("b", 1, 100.0, 20.0)]
    assert "fill: none" in scatter(points, ["a"], name="s", x_label="x", y_label="y")


def test_the_terminal_keeps_names_whole_within_its_width(comparison):
    console = Console(file=io.StringIO(), width=60)
    show_comparison(comparison, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 60 and not any("…" in line for line in lines)
    assert any(line.split()[:3] == ["alpha", "2", "62.5"] for line in lines)
    assert any("too <large>" in line for line in lines)


@pytest.fixture
def two_runs(run_folder, tmp_path):
    """The toy run, and one that lost three queries which the first won and found one which it lost."""
    shutil.copytree(run_folder, tmp_path / "other")
    file = tmp_path / "other" / "evaluation" / "shapes" / "heldout.run"
    relevant = dict(line.split()[::2] for line in file.with_suffix(".qrels").read_text().splitlines())
    runs = read_run(file)
    won = [query for query, found in runs.items() if found[0][0] == relevant[query]]
    lost = [query for query in runs if query not in won]
    for query in won[:3]:
        runs[query] = runs[query][1:] + runs[query][:1]
    runs[lost[0]] = [(relevant[lost[0]], 1.0), *runs[lost[0]]]
    text = [f"{q} Q0 {id} {place} {-place} t\n" for q, found in runs.items() for place, (id, _) in enumerate(found, 1)]
    file.write_text("".join(text))
    return run_folder, tmp_path / "other", set(won[:3]), lost[0]


def test_the_gallery_shows_the_queries_that_one_won_and_the_other_lost(two_runs, tmp_path):
    first, second, lost, won = two_runs
    comparison = Comparison(*read_variants([first, second]))
    ours, theirs = comparison.finished
    (cards,) = duels(comparison, ours, theirs).values()
    assert {card.id for card in cards if card.winner == 0} == lost
    assert {card.id for card in cards if card.winner == 1} == {won}
    for card in cards:
        assert card.images[0].startswith("data:image/png;base64,")
        assert [side.variant for side in card.sides] == [ours.name, theirs.name]
        assert [side.found[0].right for side in card.sides] == [card.winner == 0, card.winner == 1]
    assert len(next(iter(duels(comparison, ours, theirs, num=2).values()))) == 2
    page = write_comparison(comparison, tmp_path / "out")[-1].read_text("utf-8")
    assert page.count("<article") == 4 and all(html.escape(card.question) in page for card in cards)


def test_a_gallery_without_rankings_of_both_is_left_out_with_a_warning(two_runs, caplog):
    first, second, *_ = two_runs
    (second / "evaluation" / "shapes" / "heldout.run").unlink()
    comparison = Comparison(*read_variants([first, second]))
    assert duels(comparison, *comparison.finished) == {}
    assert "no rankings of both variants" in caplog.text


def test_a_legend_of_many_variants_leaves_the_plot_its_height():
    def plotted(count):
        points = [Point(f"variant_{n}", n, n + 1.0, 1.0 + n % 7) for n in range(count)]
        svg = scatter(points, ["variant_0"], name="many", x_label="cost", y_label="emoji/unseen_style Recall@10")
        inside = re.search(r'<clipPath .*?<rect [^>]*height="(\S+)"', svg, re.DOTALL)
        assert inside is not None
        return float(inside[1])

    assert plotted(16) > 0.9 * plotted(3)


def test_a_curve_of_one_point_has_one_tick():
    svg = lines([Line("a", 0, [(9, 2.5)])], name="one", x_label="step", y_label="loss", whole=True)
    assert len(re.findall(r"<text [^>]*>9</text>", svg)) == 1
