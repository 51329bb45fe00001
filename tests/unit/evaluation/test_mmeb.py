"""From published tables to the suite's two tables, with a model that knows colours."""

import io

from rich.console import Console

from mmret.data.sources.mmeb import MMEBConfig, build_mmeb
from mmret.evaluation import Evaluator
from mmret.evaluation.suite import expand_targets, print_suite
from tests.mmeb_tables import TEST, ranking_row, write, write_pictures
from tests.unit.evaluation.toy import WordRetriever

NAMES = ["red", "green", "blue"]


def test_evaluating_mmeb_measures_what_is_here_beside_the_published_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRET_MMEB", str(tmp_path / "out"))
    first = [[name, *(other for other in NAMES if other != name)] for name in NAMES]
    classify = [ranking_row("<|image_1|>\nName it", "", f"{names[0]}.png", names) for names in first]
    # The last question asks for another colour than the one that is right.
    find = [
        ranking_row("Find", asked, "", [""] * 3, [f"{name}.png" for name in names], "<|image_1|>\nSeen.")
        for asked, names in zip(["red", "green", "red"], first)
    ]
    tables = write(tmp_path / "tables", "VOC2007", "test", classify, TEST)
    write(tables, "MSCOCO_t2i", "test", find, TEST)
    built = build_mmeb(MMEBConfig(str(tables), str(write_pictures(tmp_path / "pictures")), str(tmp_path / "out")))
    assert [one.name for one in built] == ["voc2007/test", "mscoco_t2i/test"]

    found = expand_targets(["mmeb"])
    assert found.targets == ["mmeb/voc2007/test", "mmeb/mscoco_t2i/test"] and len(found.missing) == 34
    metrics = Evaluator(found.targets)(WordRetriever(), controls=True)
    assert metrics["voc2007/test/recall@1"] == 1
    assert metrics["mscoco_t2i/test/recall@1"] == 2 / 3
    assert abs(metrics["voc2007/test/chance/recall@1"] - 1 / 3) < 1e-9

    console = Console(file=io.StringIO(), width=200)
    (suite,) = found.suites
    print_suite(suite, {"mine": suite.percent(metrics)}, console)
    lines = {
        row.split("│")[1].strip(): row.split("│")[2:-1] for row in console.file.getvalue().splitlines() if "│" in row
    }
    assert [cell.strip() for cell in lines["MSCOCO t2i"]] == ["66.7", "75.9"]
    assert [cell.strip() for cell in lines["VLM2Vec Phi-3.5-V LoRA"]] == [
        *("54.8", "54.9", "62.3", "79.5", "66.5", "52.0", "60.1")
    ]
    assert not any(cell.strip() for cell in lines["mine"])  # of no group all sets were measured
