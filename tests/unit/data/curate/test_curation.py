"""Curations as a whole: composition, what training reads of them, resume, refusals."""

import json
import shutil

import numpy as np
import pytest
import yaml

from mmret.data import DataSpec, Manifest, MixtureDataModule
from mmret.data.care import Collection, check, look, statistics
from mmret.data.curate import FILTERS, Curation
from mmret.data.curate.report import write_report
from mmret.errors import ConfigError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from tests.builders import ToyProcessor
from tests.unit.data.curate.rows import captioned, picture, run, source

CAPTIONS = [
    "cat",
    "a red dog",
    "bird",
    "two birds",
    "a house by the sea",
    "tree",
    "a tree",
    "the old tree",
    "sea",
    "a sea",
]


@pytest.fixture
def spec(tmp_path):
    """Ten samples in shards of 4, 4 and 2."""
    return source(tmp_path / "data", captioned(CAPTIONS))


def keys(spec):
    opened = DataSpec.load(spec).open()
    return [opened.example(index).key.partition(":")[2] for index in range(len(opened))]


def test_the_new_manifest_names_the_same_tars(tmp_path, spec):
    found = run(tmp_path, spec, {"length": {"min_words": 2}})
    assert keys(found.spec) == ["001", "003", "004", "006", "007", "009"]
    manifest = Manifest.load(found.manifest)
    assert [(s.samples, s.stored) for s in manifest.shards] == [(2, 4), (3, 4), (1, 2)]
    assert [manifest.shard_path(n).resolve() for n in range(3)] == sorted((tmp_path / "data").glob("*.tar"))
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_shard_of_which_nothing_stays_is_not_listed(tmp_path, spec):
    found = run(tmp_path, spec, {"length": {"min_words": 4}})
    assert keys(found.spec) == ["004"]
    assert len(Manifest.load(found.manifest).shards) == 1


def test_filters_one_after_the_other_and_curated_twice_are_the_same(tmp_path, spec):
    first, second = {"length": {"min_words": 2}}, {"complexity": {"min_relations": 1}}
    at_once = run(tmp_path, spec, first, second, out="at_once")
    again = run(tmp_path, run(tmp_path, spec, first, out="one").spec, second, out="two")
    assert keys(at_once.spec) == keys(again.spec) == ["004"]
    assert Manifest.load(again.manifest).shards[0].stored == 4
    assert [step.before for step in at_once.steps] == [10, 6]


def test_a_curated_source_trains_what_was_kept_once_an_epoch(tmp_path, spec):
    found = run(tmp_path, spec, {"length": {"min_words": 2}})
    mixture = MixtureConfig(sources={str(found.spec): SourceConfig()}, batch_size=3, num_workers=2)
    data = MixtureDataModule(mixture, ToyProcessor(), frozenset(), seed=3, batches=4)
    seen = [key.partition(":")[2] for batch in data.train_dataloader() for key in batch.keys]
    wanted = ["001", "003", "004", "006", "007", "009"]
    assert sorted(seen[:6]) == wanted
    assert sorted(seen[6:]) == wanted
    assert seen[:6] != seen[6:]


def test_care_looks_at_what_is_kept(tmp_path, spec):
    found = run(tmp_path, spec, {"length": {"min_words": 2}})
    curated = Collection.find(found.spec)
    report = check(curated)
    assert (report.healthy, report.samples, report.pictures) == (True, 6, 6)
    assert statistics(curated).samples == 6
    assert [one.positives[0].text for one in look(curated, 2)] == ["a red dog", "a sea"]


def test_a_broken_sample_goes_and_says_why(tmp_path):
    samples = captioned(["a cat", "a dog", "a bird"], [picture(0), b"no picture", picture(2)])
    del samples[2].json["positives"][:]
    found = run(tmp_path, source(tmp_path / "data", samples), {"image_size": {"min_side_px": 1}})
    assert found.kept.tolist() == [0]
    assert dict(found.steps[0].reasons) == {"broken": 2}
    assert [reason.split(": ")[0] for _, _, reason in found.steps[0].dropped] == ["broken", "broken"]


def outputs(out):
    names = (
        "toy/curated.manifest.json",
        "curated.keep.npy",
        "curated.yaml",
        "report.json",
        "report.md",
        "dropped.parquet",
    )
    return {name: (out / name.rpartition("/")[2]).read_bytes() for name in names}


FILTERED = (
    {"length": {"min_words": 2}},
    {"duplicate_images": {"max_distance": 4}},
    {"complexity": {"min_relations": 1}},
)


def test_a_killed_curation_goes_on_and_gives_the_same(tmp_path, spec):
    write_report(run(tmp_path, spec, *FILTERED))
    whole = outputs(tmp_path / "out")
    # As after a kill: no result yet, and measures of some shards only, one of them half written.
    for file in (tmp_path / "out").iterdir():
        if file.name != "cache":
            file.unlink()
    measured = sorted((tmp_path / "out" / "cache").rglob("*.arrow"))
    assert len(measured) == 3 * 3
    for file in measured[::2]:
        file.rename(file.with_name(file.name + ".part77"))
    again = run(tmp_path, spec, *FILTERED)
    write_report(again)
    assert outputs(tmp_path / "out") == whole
    assert set(again.measured.values()) <= {1, 2, 3}
    assert set(run(tmp_path, spec, *FILTERED).measured.values()) == {0}


def test_another_threshold_reads_no_shard_again(tmp_path, spec):
    first = run(tmp_path, spec, {"length": {"min_words": 2}})
    assert first.measured == {"0.length": 3}
    again = run(tmp_path, spec, {"length": {"min_words": 3}})
    assert again.measured == {"0.length": 0}
    assert keys(again.spec) == ["001", "004", "007"]


def test_what_changes_the_measure_measures_anew(tmp_path, spec):
    run(tmp_path, spec, {"length": {"min_words": 1}})
    assert run(tmp_path, spec, {"length": {"min_words": 1, "of": "positives"}}).measured == {"0.length": 3}
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    changed = source(tmp_path / "other", captioned(["new", *CAPTIONS[1:]]))
    assert run(tmp_path, changed, {"length": {"min_words": 1}}).measured == {"0.length": 1}


def test_a_looser_filter_measures_those_it_lets_through(tmp_path, spec):
    """A filter behind it has measured only survivors."""

    class Alone(FILTERS["complexity"]):
        alone = True
        seen = []

        def measure(self, view):
            self.seen.append(view.name.partition(":")[2])
            return super().measure(view)

    known = {**FILTERS, "complexity": Alone}
    both = {"length": {"min_words": 3}}, {"complexity": {"min_relations": 1}}
    run(tmp_path, spec, *both, known=known)
    assert Alone.seen == ["001", "004", "007"]
    both[0]["length"]["min_words"] = 2
    run(tmp_path, spec, *both, known=known)
    assert Alone.seen[3:] == ["003", "006", "009"]


def test_nothing_left_is_refused_with_what_took_what(tmp_path, spec):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, spec, {"length": {"min_words": 4}}, {"complexity": {"min_actions": 1}})
    said = str(caught.value).splitlines()
    assert "no sample of" in said[0]
    assert " ".join(said[1].split()) == "length 10 -> 1 too few words 9"
    assert " ".join(said[2].split()) == "complexity 1 -> 0 too few actions 1"
    assert not (tmp_path / "out" / "curated.manifest.json").exists()


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ([{"lenght": {"min_words": 1}}], r"filters\[0\]: unknown filter 'lenght'.*Did you mean 'length'"),
        ([{"length": {"min_word": 1}}], r"filters\[0\].length: unknown field 'min_word'.*Did you mean 'min_words'"),
        ([{"length": {}}], "want at least one of min_words"),
        ([{"length": {"min_words": "many"}}], "min_words: Value 'many'"),
        ([{"length": {"of": "sides", "min_words": 1}}], "of: 'sides' is none; known: both, query, positives"),
        ([{"length": {"min_words": 1}, "complexity": {}}], "names 2 filters; want one"),
        ([{"balance": {"t": 1}}], "concepts"),
    ],
)
def test_what_a_filter_cannot_be_told(tmp_path, spec, filters, said):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, spec, *filters)


def test_a_curations_file_refuses_unknown_fields(tmp_path, spec):
    path = tmp_path / "c.yaml"
    tree = {"name": "a", "source": str(spec), "out": str(tmp_path / "o"), "filters": [{"length": {"min_words": 1}}]}
    path.write_text(yaml.safe_dump(tree))
    assert Curation.load(path).filters == [{"length": {"min_words": 1}}]
    path.write_text(yaml.safe_dump({**tree, "sauce": 1}))
    with pytest.raises(
        ConfigError, match=r"sauce[\s\S]*Did you mean[\s\S]*source[\s\S]*fields of a curation: name, source"
    ):
        Curation.load(path)
    path.write_text(yaml.safe_dump({**tree, "filters": []}))
    with pytest.raises(ConfigError, match="want at least one"):
        Curation.load(path)
    for filters in ({"length": {"min_words": 1}}, [{"length": {"min_words": 1}}, "length"]):
        path.write_text(yaml.safe_dump({**tree, "filters": filters}))
        with pytest.raises(ConfigError, match=r"c.yaml: filters: "):
            Curation.load(path)


def test_kept_numbers_that_do_not_fit_are_refused(tmp_path, spec):
    found = run(tmp_path, spec, {"length": {"min_words": 2}})
    path = tmp_path / "out" / "curated.keep.npy"
    good = np.load(path)
    for numbers, said in (
        (good[:-1], "5 kept samples"),
        (good + 3, "want rising numbers below 4"),
        (None, "is missing"),
    ):
        path.unlink(missing_ok=True)
        if numbers is not None:
            np.save(path, numbers)
        with pytest.raises(ConfigError, match=said):
            DataSpec.load(found.spec).open()


def test_the_report_counts_what_went(tmp_path, spec):
    write_report(run(tmp_path, spec, *FILTERED))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["samples"], report["kept"]) == (10, 1)
    assert [(f["name"], f["before"], f["after"]) for f in report["filters"]] == [
        ("length", 10, 6), ("duplicate_images", 6, 6), ("complexity", 6, 1),
    ]  # fmt: skip
    assert report["filters"][0]["quantiles"] == [1, 1, 2, 5, 5]


def test_several_processes_measure_the_same(tmp_path, spec):
    (tmp_path / "words.txt").write_text("tree\nsea\n")
    filters = [*FILTERED[:2], {"language": {"keep": ["en"], "among": ["en", "de"]}}, {"duplicate_texts": {}}]
    filters.append({"balance": {"concepts": "words.txt", "t": 2}})
    alone = run(tmp_path, spec, *filters, out="alone")
    several = run(tmp_path, spec, *filters, out="several", workers=2)
    assert several.measured == alone.measured
    assert several.kept.tolist() == alone.kept.tolist()
    assert (tmp_path / "several" / "dropped.parquet").read_bytes() == (
        tmp_path / "alone" / "dropped.parquet"
    ).read_bytes()
