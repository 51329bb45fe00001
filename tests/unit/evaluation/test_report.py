import html
import io
import json
import re
import shutil

import pytest
from PIL import Image
from rich.console import Console

from mmret.errors import CheckpointError
from mmret.evaluation.gallery import MAX_PX, data_uri, gallery, pick
from mmret.evaluation.plots import line_plot
from mmret.evaluation.record import RunRecord
from mmret.evaluation.report import curves, terminal_table, write_report
from mmret.evaluation.tables import metric_label, percent, sorted_metrics, tables


@pytest.fixture(scope="module")
def page(run_folder):
    return write_report(run_folder).read_text("utf-8")


def test_the_page_shows_every_number_of_metrics_json_where_it_belongs(page, run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    rows = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr.*?</tr>", page, flags=re.S)]
    labels = {
        "": "New drawings",
        "question_only": "question only",
        "image_only": "image only",
        "shuffled_images": "shuffled images",
        "untrained": "untrained model",
        "chance": "chance",
        "topic=price": "price",
        "topic=maker": "maker",
    }
    assert len(metrics) == 5 * len(labels)
    for name, value in metrics.items():
        part = name.removeprefix("shapes/heldout").rpartition("/")[0].strip("/")
        mine = [row.split() for row in rows if row.strip().startswith(labels[part])]
        assert any(percent(value) in cells for cells in mine), name


def test_the_page_asks_nothing_of_any_other_place(page):
    for attribute in ("src", "href", "action", "data", "poster", "srcset"):
        for address in re.findall(rf'\b{attribute}\s*=\s*["\']?([^"\'\s>]+)', page):
            assert address.startswith(("data:", "#")), address
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)[^)]", page)
    assert "<script" not in page and "http:" not in page.replace("http://www.w3.org", "") and "https:" not in page


def test_the_page_has_curves_stages_command_recipe_and_versions(page):
    assert page.count("<svg") == 2
    for text in ("mapping", "joint", "1.23 M / 22.7 M", "1 min 1 s", "321", "75 %", "0.500", "toy.yaml seed=1"):
        assert text in page, text
    assert "transformers" in page and "What each stage took over" in page and "gallery: 10" in page


def test_names_and_texts_cannot_break_the_page(page):
    assert "toy &lt;run&gt;" in page and "toy <run>" not in page


def test_the_gallery_shows_pictures_questions_answers_and_marks_both_ways(page, run_folder):
    cards = gallery(RunRecord.read(run_folder).benchmarks, run_folder / "evaluation", 10)["shapes: New drawings"]
    assert len(cards) == 10 and sum(card.won for card in cards) == 5
    assert {card.group for card in cards if card.won} == {card.group for card in cards if not card.won}
    articles = re.findall(r"<article.*?</article>", page, flags=re.S)
    assert len(articles) == 10
    for card, article in zip(cards, articles):
        assert card.images[0].startswith("data:image/png;base64,") and card.images[0] in article
        assert html.escape(card.question) in article and card.answers[0] in article
        assert (card.place == 1) == card.won == card.found[0].right
        signs = re.findall(r"\d ([✓✗])</span>", article)
        assert signs == ["✓" if document.right else "✗" for document in card.found] and len(signs) == 3
        assert card.wanted.right and card.wanted.answer.lower() == card.answers[0].lower()
        assert set(card.control_places) == {"question_only", "image_only", "shuffled_images", "untrained"}


def test_the_choice_of_questions_is_half_won_mixed_and_the_same_every_time():
    places = {f"q{i}": 1 if i < 80 else None if i % 2 else 7 for i in range(100)}
    groups = {id: "ab"[int(id[1:]) % 2] for id in places}
    chosen = pick(places, groups, 12)
    assert chosen == pick(places, groups, 12) and len(set(chosen)) == 12
    assert [places[id] == 1 for id in chosen] == [True, False] * 6
    assert sum(groups[id] == "a" for id in chosen) == 6
    few_lost = pick({id: place if id in ("q80", "q81") else 1 for id, place in places.items()}, groups, 12)
    assert len(few_lost) == 12 and sum(id in ("q80", "q81") for id in few_lost) == 2
    assert len(pick({"a": 1}, {"a": None}, 12)) == 1 and pick({}, {}, 12) == []


def test_pictures_that_browsers_do_not_know_or_that_are_large_are_written_anew():
    buffer = io.BytesIO()
    Image.new("RGB", (2 * MAX_PX, MAX_PX)).save(buffer, "TIFF")
    assert data_uri(buffer.getvalue()).startswith("data:image/webp;base64,")


def test_a_gallery_whose_data_are_gone_is_left_out_not_fatal(run_folder, caplog):
    benchmarks = [dict(RunRecord.read(run_folder).benchmarks[0], source="gone/away")]
    assert gallery(benchmarks, run_folder / "evaluation", 4) == {}
    assert "gallery of toy/shapes left out" in caplog.text


def test_a_folder_with_metrics_alone_gives_a_page(tmp_path):
    (tmp_path / "metrics.json").write_text(
        '{"flags/heldout/recall@1": 0.8125, "flags/heldout/chance/recall@1": 0.0002}'
    )
    page = write_report(tmp_path).read_text("utf-8")
    assert "81.2" in page and "0.02" in page and "Learning curves" not in page


def test_a_folder_without_metrics_says_what_writes_them(tmp_path):
    with pytest.raises(CheckpointError, match=r"no metrics.json; `mmret run` writes it"):
        write_report(tmp_path)


def test_a_broken_file_is_named(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "joint" / "stage.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"joint/stage.json: not JSON"):
        write_report(tmp_path / "run")


def test_curves_run_over_all_stages_and_end_with_what_was_measured_at_the_end(run_folder):
    mapping, joint = RunRecord.read(run_folder).stages
    assert mapping.series("shapes/heldout/recall@1") == [(10, 0.125), (20, 0.375)]
    assert joint.series("train/loss") == [(9, 1.5), (19, 0.5)]
    captions = [caption for caption, _ in curves([mapping, joint])]
    assert captions == ["Loss", "Measured while training"]
    assert curves([]) == []


def test_a_plot_takes_the_colours_of_the_page_and_is_the_same_on_every_call():
    plots = [line_plot({"a": [(0, 1.0), (1, 2.0)], "b": [(0, 2.0)]}, name="x", y_label="y") for _ in range(2)]
    assert plots[0] == plots[1]
    assert "var(--series-1)" in plots[0] and "var(--series-2)" in plots[0] and "#0a0b" not in plots[0]


def test_metrics_alone_give_splits_controls_and_groups():
    table = tables(
        {
            "flags/heldout/mrr": 0.9,
            "flags/heldout/recall@10": 0.95,
            "flags/heldout/recall@5": 0.9,
            "flags/heldout/chance/mrr": 0.1,
            "flags/heldout/question_only/mrr": 0.2,
            "flags/heldout/topic=a/b/mrr": 0.8,
            "flags/style/mrr": 0.3,
            "seconds": 4.0,
        }
    )[0]
    heldout = table.splits["heldout"]
    assert table.metrics == ["recall@5", "recall@10", "mrr"]
    assert list(heldout.controls) == ["question_only", "chance"]
    assert heldout.groups["topic=a/b"].values == {"mrr": 0.8}
    assert table.splits["style"].own.values == {"mrr": 0.3}


def test_numbers_are_shown_in_percent_with_small_ones_kept_apart_from_zero():
    assert [percent(v) for v in (0.8614, 1.0, 0.0, 0.00025, 0.00994, 0.00996)] == [
        "86.1",
        "100.0",
        "0.0",
        "0.03",
        "0.99",
        "1.0",
    ]
    assert metric_label("pseudo_recall@5") == "Pseudo-recall@5" and metric_label("recall@1", short=True) == "R@1"
    assert sorted_metrics(["mrr", "recall@10", "recall@5", "own"]) == ["recall@5", "recall@10", "mrr", "own"]


def test_the_terminal_table_has_a_line_per_split_and_control(run_folder):
    run = RunRecord.read(run_folder)
    console = Console(file=io.StringIO(), width=80)
    terminal_table(run.metrics, run.benchmarks, console)
    lines = console.file.getvalue().splitlines()
    for label, control in (("New drawings", ""), ("question only", "question_only/"), ("chance", "chance/")):
        line = next(line for line in lines if label in line)
        assert percent(run.metrics[f"shapes/heldout/{control}recall@1"]) in line.split()
    assert max(map(len, lines)) <= 80
