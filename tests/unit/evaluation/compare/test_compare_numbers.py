"""Numbers of a comparison: fronts, radar axes, diffs, scales, cells."""

import json

import pytest

from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.compare import Comparison, read_variants, recipe_diff
from mmret.evaluation.compare.confusion import agreements, group_tables
from mmret.evaluation.compare.cost import cost_of, short
from mmret.evaluation.compare.curve import mean_curve
from mmret.evaluation.compare.diff import flat_recipe
from mmret.evaluation.compare.duel import disputed
from mmret.evaluation.compare.note import notes
from mmret.evaluation.compare.pareto import pareto_front
from mmret.evaluation.compare.radar import normalised
from mmret.evaluation.compare.scaling import scales
from mmret.evaluation.record import RunRecord, StageRecord
from tests.unit.evaluation.compare.bench_folder import QUERIES, write_bench, write_run


@pytest.fixture
def bench(tmp_path):
    return write_bench(tmp_path / "toys")


@pytest.fixture
def comparison(bench):
    return Comparison(*read_variants([bench]))


def test_the_pareto_front_holds_what_nothing_beats_in_both_by_rising_cost():
    points = {"dear": (9.0, 0.9), "cheap": (1.0, 0.2), "middle": (4.0, 0.6), "beaten": (5.0, 0.6), "worst": (9.0, 0.1)}
    assert pareto_front(points) == ["cheap", "middle", "dear"]
    assert pareto_front({"a": (1.0, 0.5), "b": (1.0, 0.5), "c": (1.0, 0.4)}) == ["a", "b"]
    assert pareto_front({}) == []


def test_a_radar_axis_ends_at_its_best_and_keeps_what_is_missing_missing():
    shown = normalised({"a": [0.8, 0.0, None], "b": [0.2, 0.0, 0.3]})
    assert shown == {"a": [1.0, 0.0, None], "b": [0.25, 0.0, 1.0]}


def test_a_diff_names_stages_and_shows_changed_keys_only_and_none_that_name_the_run():
    ours = flat_recipe("name: a\nout: runs/a\nseed: 1\nstages:\n- {name: joint, steps: 5, lr_scale: {'.*': 1.0}}\n")
    more = "model: {betas: [1, 2]}\nstages:\n- {name: joint, steps: 7, lr_scale: {'.*': 1.0}}\n"
    theirs = flat_recipe(f"name: b\nout: runs/b\nseed: 1\n{more}")
    assert recipe_diff(ours, theirs) == {"stages.joint.steps": ("5", "7"), "model.betas": ("–", "[1, 2]")}
    assert recipe_diff(ours, ours) == {}


def test_variants_scale_that_differ_in_one_number_and_the_steps_that_follow_from_it():
    def recipe(batch, steps, lr=0.1):
        data = f"{{batch_size: {batch}}}"
        stages = "".join(f"- {{name: {name}, steps: {steps}, data: {data}}}\n" for name in ("warm", "joint"))
        return flat_recipe(f"lr: {lr}\nstages:\n{stages}")

    found = scales({"big": recipe(64, 10), "small": recipe(8, 80), "other": recipe(8, 80, 0.2), "long": recipe(8, 90)})
    by_number = {scale.number: scale.values for scale in found}
    assert by_number == {"lr": {"small": 0.1, "other": 0.2}, "steps": {"small": 80, "long": 90}}
    assert scales({"big": recipe(64, 10), "small": recipe(8, 80)})[0].values == {"small": 8, "big": 64}
    assert scales({"a": flat_recipe("model: {text: b}"), "b": flat_recipe("model: {text: c}")}) == []


def test_cells_are_means_over_seeds_with_intervals_and_the_best_is_marked(comparison):
    (measure,) = comparison.measures
    cells = comparison.cells(measure)
    assert measure.name == "toy/heldout/recall@1" and comparison.headline == measure
    assert (cells["alpha"].value, cells["beta"].value) == (0.625, 0.125)
    assert cells["alpha"].best and not cells["beta"].best
    assert cells["alpha"].interval.low < 0.625 < cells["alpha"].interval.high
    assert [variant.name for variant in comparison.ranked] == ["alpha", "beta"]
    assert comparison.difference(*comparison.ranked, measure).mean == 0.5


def test_a_clear_difference_is_marked_and_one_of_two_queries_in_a_hundred_is_not(tmp_path):
    queries = {f"q{number}": "a" for number in range(100)}
    right = {"top": 90, "near": 88, "low": 40}
    runs = [write_run(tmp_path / n, [f"q{i}" for i in range(num)], name=n, queries=queries) for n, num in right.items()]
    found = Comparison(*read_variants(runs))
    cells = found.cells(found.headline)
    assert [cells[name].worse for name in right] == [False, False, True]


def test_groups_show_who_loses_what_and_agreement_counts_queries(comparison):
    (table,) = group_tables(comparison)
    assert (table.field, table.variants) == ("kind", ("alpha", "beta"))
    assert {line.label: line.values for line in table.lines} == {"a": (1.0, 0.25), "b": (0.25, 0.0)}
    assert [line.label for line in table.lines] == ["a", "b"] and table.lines[0].lost(1) == 0.75
    (line,) = agreements(comparison, *comparison.pair)
    # Right in half of two seeds counts: alpha has q1, q2, q3, beta q1.
    assert (line.both, line.only_first, line.only_second, line.neither) == (1, 2, 0, 1)


def test_disputed_queries_are_those_that_one_of_two_won():
    ours, theirs = {"a": 1, "b": 1, "c": 4, "d": None, "e": 1}, {"a": 1, "b": 2, "c": 1, "d": 7}
    assert disputed(ours, theirs) == {"b": 1, "c": 4}


def test_what_differs_beside_the_recipe_is_said(comparison):
    told = notes(comparison)
    assert "Not equal: parameters, 1 M (beta) to 2 M (alpha)." in told
    assert "Not equal: side of the image in pixels, 16 (beta) to 32 (alpha)." in told
    assert "beta was trained on other data than the rest." in told


def test_a_run_without_values_of_queries_compares_without_intervals(tmp_path):
    runs = [write_run(tmp_path / name, ["q1"] * (name == "a"), name=name, kept=name == "a") for name in "ab"]
    found = Comparison(*read_variants(runs))
    cells = found.cells(found.headline)
    assert cells["a"].best and cells["b"].value == 0.0 and cells["b"].interval is None and not cells["b"].worse
    assert any("No intervals" in note and note.endswith(": b.") for note in notes(found))


def test_missing_cells_are_named_and_not_invented(tmp_path):
    both = write_run(tmp_path / "a", ["q1"], name="a")
    metrics = json.loads((both / "metrics.json").read_text())
    (both / "metrics.json").write_text(json.dumps(metrics | {"toy/style/recall@1": 0.5}))
    found = Comparison(*read_variants([both, write_run(tmp_path / "b", ["q2"], name="b")]))
    style = next(measure for measure in found.measures if measure.split == "style")
    assert found.cells(style).keys() == {"a"} and not found.cells(style)["a"].best
    assert "b was not measured on toy/style; these cells stay empty." in notes(found)


def test_none_is_called_best_where_the_queries_differ(tmp_path):
    runs = [write_run(tmp_path / "a", ["q1"], name="a")]
    runs.append(write_run(tmp_path / "b", ["x"], name="b", queries={"x": "a", **dict.fromkeys(QUERIES, "b")}))
    found = Comparison(*read_variants(runs))
    assert not any(cell.best or cell.worse for cell in found.cells(found.headline).values())
    assert found.difference(*found.finished, found.headline) is None
    assert any("toy/heldout is not the same set for all" in note for note in notes(found))


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    runs = [write_run(tmp_path / folder, ["q1"], name="same") for folder in ("a", "b")]
    assert [variant.name for variant in read_variants(runs)[0]] == ["a", "b"]
    assert [variant.name for variant in read_variants([runs[0], runs[0]])[0]] == ["a (1)", "a (2)"]


def test_of_a_sweep_only_what_validation_picked_is_compared(bench):
    results = json.loads((bench / "results.json").read_text())
    for entry in results["variants"]:
        entry["picked"] = entry["name"] == "beta"
    results["sweep"] = {"toy": {"picked": "beta", "by": ["toy/validation/mrr"], "values": {"alpha": 0.1, "beta": 0.2}}}
    (bench / "results.json").write_text(json.dumps(results))
    found = Comparison(*read_variants([bench]))
    assert [variant.name for variant in found.finished] == ["beta"] and found.pair is None
    assert "beta was picked by toy/validation/mrr; not compared: alpha." in notes(found)


def test_an_ordinary_run_costs_what_its_stages_say(tmp_path):
    stages = (
        StageRecord("a", {"parameters": 10, "trainable": 4, "seconds": 30.0, "samples_per_s": 10.0}),
        StageRecord("b", {"parameters": 12, "trainable": 2, "seconds": 10.0, "samples_per_s": 50.0}),
    )
    found = cost_of(RunRecord(tmp_path, "run", {}, stages=stages))
    assert found == {"parameters": 12, "trainable": 4, "train_seconds": 40.0, "samples_per_s": 20.0}
    assert (short(22_900_000), short(1.5e12), short(0.25)) == ("22.9 M", "1.5 T", "0.25")


def test_curves_are_means_over_the_seeds_that_have_a_step():
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(1, 4.0)]]) == [(1, 3.0), (2, 4.0)]


def test_the_two_variants_side_by_side_can_be_chosen(bench):
    variants, origin = read_variants([bench])
    assert [v.name for v in Comparison(variants, origin).pair] == ["alpha", "beta"]
    assert [v.name for v in Comparison(variants, origin, ["beta", "alpha"]).pair] == ["beta", "alpha"]
    with pytest.raises(ConfigError, match=r"no finished variant 'alfa'; known: alpha, beta. Did you mean alpha\?"):
        Comparison(variants, origin, ["alfa", "beta"])
    with pytest.raises(ConfigError, match="two different variants"):
        Comparison(variants, origin, ["beta", "beta"])


def test_what_cannot_be_compared_says_why(tmp_path, bench):
    with pytest.raises(ConfigError, match="none: no such folder"):
        read_variants([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: neither a run \(no metrics.json\) nor a bench \(no results.json\)"):
        read_variants([tmp_path / "empty"])
    (tmp_path / "empty" / "results.json").write_text('{"rows": []}')
    with pytest.raises(CheckpointError, match="no results of `mmret bench`"):
        read_variants([tmp_path / "empty"])
    (bench / "alpha" / "seed-0" / "per_query.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(CheckpointError, match=r"per_query.csv.gz: no values of single queries"):
        found = Comparison(*read_variants([bench]))
        found.cells(found.headline)


def test_nothing_in_common_is_an_error_that_says_what_each_has(tmp_path):
    runs = [write_run(tmp_path / name, ["q1"], name=name, split=name) for name in ("old", "new")]
    with pytest.raises(ConfigError, match=r"nothing in common to compare \(old: toy/old; new: toy/new\)"):
        Comparison(*read_variants(runs))
    with pytest.raises(ConfigError, match=r"no variant is finished \(gamma: failed RuntimeError: too <large>"):
        Comparison(*read_variants([write_bench(tmp_path / "failed", {"gamma": []}, seeds=(0,))]))
