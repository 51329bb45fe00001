import io

import pytest
from rich.console import Console

from mmret.data.sources.m2kr import M2KRConfig, build_m2kr
from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.suite import PublishedRow, Suite, Task, expand_targets, mean_of, print_suite, suite_table
from tests.m2kr_tables import write_pictures, write_tables

NINE = ["wit", "iglue", "kvqa", "msmarco", "oven", "llava", "infoseek", "evqa", "okvqa"]
HEADLINES = {
    "wit": "recall@10",
    "iglue": "recall@1",
    "kvqa": "recall@5",
    "msmarco": "recall@5",
    "oven": "recall@5",
    "llava": "recall@1",
    "infoseek": "pseudo_recall@5",
    "evqa": "pseudo_recall@5",
    "okvqa": "pseudo_recall@5",
}


def m2kr():
    suite = Suite.find("m2kr")
    assert suite is not None
    return suite


def shown(suite, rows):
    console = Console(file=io.StringIO(), width=200)
    print_suite(suite, rows, console)
    return console.file.getvalue()


def line(text, title):
    (found,) = [part for part in text.splitlines() if part.startswith(f"│ {title} ")]
    return [cell.strip() for cell in found.strip("│").split("│")][1:]


def test_m2kr_has_nine_tasks_with_their_published_metrics():
    suite = m2kr()
    assert {key: task.metric for key, task in suite.tasks.items() if task.headline} == HEADLINES
    for task in suite.tasks.values():
        spec = Benchmark.load(task.benchmark).spec
        assert task.metric in spec.metrics and task.split in spec.splits


def test_each_published_row_of_m2kr_has_all_nine_tasks():
    rows = {row.title: row for row in m2kr().published}
    assert list(rows) == [f"{kind} ViT-{size}" for kind in ("paper", "files") for size in "BLG"]
    assert all(set(NINE) <= set(row.values) and row.source for row in rows.values())
    # Two anchors of the tables that everybody compares with.
    assert rows["paper ViT-L"].values["wit"] == 60.5
    assert rows["files ViT-G"].values["evqa"] == 72.1


@pytest.mark.parametrize(("name", "base"), [("coco", (74.8, 57.2)), ("flickr30k", (92.3, 79.3))])
def test_both_ways_of_coco_and_flickr30k_have_three_recalls_each_and_vlmos_rows(name, base):
    suite = Suite.find(name)
    assert suite is not None and suite.mean
    expected = [f"{name}_{way}/test/recall@{k}" for way in ("tr", "ir") for k in (1, 5, 10)]
    assert [task.measured_as() for task in suite.tasks.values()] == expected
    for task in suite.tasks.values():
        spec = Benchmark.load(task.benchmark).spec
        assert task.metric in spec.metrics and task.split in spec.splits
    rows = {row.title: row.values for row in suite.published}
    assert list(rows) == [f"VLMo {size}" for size in ("base", "base-plus", "large", "large++")]
    assert (rows["VLMo base"]["tr_r1"], rows["VLMo base"]["ir_r1"]) == base
    assert set(rows["VLMo large++"]) == set(suite.tasks)


def test_the_table_shows_measured_percents_beside_the_published_row():
    metrics = {"wit/test/recall@10": 0.6049, "evqa/test/pseudo_recall@5": 0.5, "evqa/test/recall@5": 0.25}
    text = shown(m2kr(), {"mine": m2kr().percent(metrics)})
    assert line(text, "WIT R@10") == ["60.5", "41.7", "60.5", "61.5", "42.7", "60.5", "61.9"]
    assert line(text, "E-VQA PR@5")[0] == "50.0"
    assert line(text, "E-VQA R@5") == ["25.0", "", "", "", "55.0", "60.9", "62.5"]
    assert line(text, "OVEN R@5")[0] == ""
    assert "files ViT-B, files ViT-L, files ViT-G: the released files" in text


def test_a_suites_name_expands_to_the_targets_whose_data_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRET_M2KR", str(tmp_path))
    write_tables(tmp_path / "tables", "IGLUE")
    write_pictures(tmp_path / "images", ["IGLUE"])
    build_m2kr(M2KRConfig(str(tmp_path / "tables"), str(tmp_path), str(tmp_path / "images")))
    found = expand_targets(["demo/flags/heldout", "m2kr"])
    assert found.targets == ["demo/flags/heldout", "m2kr/iglue/test"]
    assert [suite.name for suite in found.suites] == ["m2kr"]
    assert set(found.missing) == {f"m2kr/{name}/test" for name in NINE if name != "iglue"}
    assert str(tmp_path / "wit/test.manifest.json") in found.missing["m2kr/wit/test"]


def test_a_suite_without_any_data_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRET_M2KR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"m2kr: no data of its 9 benchmarks is here: .*manifest"):
        expand_targets(["m2kr"])


def test_what_is_no_suite_stays_a_target():
    found = expand_targets(["demo/flags", "m2kr/okvqa"])
    assert (found.targets, found.suites, found.missing) == (["demo/flags", "m2kr/okvqa"], [], {})


def test_means_are_over_complete_rows_only_and_apart_for_groups():
    tasks = {
        name: Task(f"x/{name}", "precision@1", name, group=group)
        for name, group in (("a", "vqa"), ("b", "vqa"), ("c", "retrieval"))
    }
    suite = Suite("x", tasks, published=[PublishedRow("theirs", "somewhere", {"a": 10.0, "b": 20.0})], mean=True)
    text = shown(suite, {"mine": {"a": 30.0, "b": 50.0, "c": 100.0}})
    assert line(text, "mean vqa") == ["40.0", "15.0"]
    assert line(text, "mean retrieval") == ["100.0", ""]
    assert line(text, "mean of all") == ["60.0", ""]


def test_further_groups_and_published_means_stand_in_a_table_of_means():
    tasks = {
        "a": Task("x/a", "recall@1", "a", group="CLS", groups=["IND"]),
        "b": Task("x/b", "recall@1", "b", group="CLS", groups=["OOD"]),
        "c": Task("x/c", "recall@1", "c", group="VQA", groups=["IND"]),
    }
    theirs = PublishedRow("theirs", "somewhere", means={"CLS": 7.0, "all": 9.5})
    suite = Suite("x", tasks, published=[theirs], mean=True)
    assert suite.members == {"CLS": ["a", "b"], "VQA": ["c"], "IND": ["a", "c"], "OOD": ["b"], "all": ["a", "b", "c"]}
    text = shown(suite, {"mine": {"a": 10.0, "b": 20.0, "c": 60.0}})
    assert line(text, "mine") == ["15.0", "60.0", "35.0", "20.0", "30.0"]
    assert line(text, "theirs") == ["7.0", "", "", "", "9.5"]
    assert line(text, "mean OOD") == ["20.0"]  # a row without values has no column among the tasks
    measured = {"a/test/recall@1": 0.1, "c/test/recall@1": 0.6}
    assert suite.means(measured) == pytest.approx({"x/VQA/mean": 0.6, "x/IND/mean": 0.35})


def test_mmebs_published_values_give_its_published_means():
    suite = Suite.find("mmeb")
    assert suite is not None
    row = next(row for row in suite.published if row.values)
    for group, keys in suite.members.items():
        if group in row.means:
            assert mean_of(row.values, keys) == pytest.approx(row.means[group], abs=0.06)
    for key, task in suite.tasks.items():
        spec = Benchmark.load(task.benchmark).spec
        assert (spec.name, spec.candidates, task.metric in spec.metrics) == (f"mmeb/{key}", "own", True)


def test_a_published_mean_of_an_unknown_group_is_refused(tmp_path):
    file = tmp_path / "_suite.yaml"
    file.write_text(
        "name: x\ntasks: {wit: {benchmark: m2kr/wit, metric: recall@1, title: WIT, group: A}}\n"
        "published: [{title: t, source: s, means: {B: 1}}]\n"
    )
    with pytest.raises(ConfigError, match="'t' names no group 'B'; known: A, all"):
        Suite.read(file)


def test_a_published_value_without_task_and_an_unknown_metric_are_refused(tmp_path):
    file = tmp_path / "_suite.yaml"
    file.write_text(
        "name: x\ntasks: {wit: {benchmark: m2kr/wit, metric: recall@1, title: WIT}}\n"
        "published: [{title: t, source: s, values: {wti: 1}}]\n"
    )
    with pytest.raises(ConfigError, match=r"'t' names no task 'wti'. Did you mean wit\?"):
        Suite.read(file)
    file.write_text("name: x\ntasks: {wit: {benchmark: m2kr/wit, metric: recal@1, title: WIT}}\n")
    with pytest.raises(ConfigError, match=r"tasks\.wit: unknown metric 'recal@1'"):
        Suite.read(file)
    file.write_text("name: x\ntsks: {}\n")
    with pytest.raises(ConfigError, match="tsks"):
        Suite.read(file)


def test_tasks_without_headline_stand_below_and_own_rows_come_first():
    table = suite_table(m2kr(), {"one": {}, "two": {}})
    assert [str(column.header) for column in table.columns][1:3] == ["one", "two"]
    assert list(table.columns[0].cells)[-1].plain == "OKVQA R@5"
