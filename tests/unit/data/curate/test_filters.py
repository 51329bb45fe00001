"""Each filter against what a person would say of a few samples."""

import math
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmret.data.curate import FILTERS, Setup
from mmret.data.curate.filter import extremes
from mmret.data.dice import Dice
from mmret.errors import ConfigError, EnvironmentProblem
from tests.unit.data.curate.rows import captioned, picture, run, source


def went(found, step=0):
    """Reason -> how many."""
    return dict(found.steps[step].reasons)


def test_extremes_of_lists_with_empty_ones():
    low, high = extremes(pa.array([[], [3, 1, 2], [], [5], []], pa.list_(pa.int32())))
    np.testing.assert_array_equal(low, [np.nan, 1, np.nan, 5, np.nan])
    np.testing.assert_array_equal(high, [np.nan, 3, np.nan, 5, np.nan])


def test_length_keeps_texts_within_all_limits(tmp_path):
    spec = source(tmp_path, captioned(["one", "one two", "one two three", "a b c d", "aaaaaaaaaaaa bbbbbbbbbbbb"]))
    found = run(tmp_path, spec, {"length": {"min_words": 2, "max_words": 3, "max_characters": 20}})
    assert found.kept.tolist() == [1, 2]
    assert went(found) == {"too few words": 1, "too many words": 1, "too many characters": 1}
    assert dict(found.steps[0].values) == {1: 1, 2: 2, 3: 1, 4: 1}


def test_the_worst_of_several_captions_decides(tmp_path):
    samples = captioned(["a fine caption", "another fine one"])
    samples[1].json["positives"].append({"text": "short"})
    found = run(tmp_path, source(tmp_path, samples), {"length": {"min_words": 2}})
    assert found.kept.tolist() == [0]


def test_complexity_counts_relations_and_actions(tmp_path):
    captions = [
        "a red ball",
        "a ball under the table",
        "a dog running",
        "a dog running in the building",
        "a wedding ring",
    ]
    spec = source(tmp_path, captioned(captions))
    assert run(tmp_path, spec, {"complexity": {"min_relations": 1}}).kept.tolist() == [1, 3]
    assert run(tmp_path, spec, {"complexity": {"min_actions": 1}}).kept.tolist() == [2, 3]
    both = run(tmp_path, spec, {"complexity": {"min_relations": 1, "min_actions": 1}})
    assert both.kept.tolist() == [3]
    assert went(both) == {"too few relations": 3, "too few actions": 1}


def test_language_keeps_what_is_asked_for(tmp_path):
    captions = [
        "a small cat sleeps on the old mat in the house",
        "der kleine Hund läuft über die grüne Wiese hinter dem Haus",
        "le petit chat est assis sur le tapis de la maison",
    ]
    spec = source(tmp_path, captioned(captions))
    found = run(tmp_path, spec, {"language": {"keep": ["en", "fr"]}})
    assert found.kept.tolist() == [0, 2]
    assert went(found) == {"language de": 1}
    with pytest.raises(ConfigError, match="unknown language 'xx'"):
        run(tmp_path, spec, {"language": {"keep": ["xx"]}})


def test_image_size_reads_headers(tmp_path):
    pictures = [picture(0, (40, 40)), picture(1, (20, 40)), picture(2, (160, 40)), picture(3, (40, 80))]
    spec = source(tmp_path, captioned(["a", "b", "c", "d"], pictures))
    found = run(tmp_path, spec, {"image_size": {"min_side_px": 40, "max_aspect_ratio": 2}})
    assert found.kept.tolist() == [0, 3]
    assert went(found) == {"picture too small": 1, "picture too long": 1}
    largest = max(map(len, pictures))
    found = run(tmp_path, spec, {"image_size": {"min_bytes": largest}})
    assert found.kept.tolist() == [pictures.index(max(pictures, key=len))]


def test_text_spotting_asks_the_users_function(tmp_path, monkeypatch):
    (tmp_path / "spotter_of_test.py").write_text(
        "def area(picture):\n    return picture.getpixel((0, 0))[0] / 255\n"
        "def words(picture):\n    return 'SALE cheap'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = []
    for grey in (0, 102, 255):
        path = tmp_path / "plain.png"
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
        plain.append(path.read_bytes())
    spec = source(tmp_path, captioned(["a cat", "cheap sale", "sale of cats today"], plain))
    by_area = run(tmp_path, spec, {"text_spotting": {"function": "spotter_of_test:area", "max_share": 0.4}})
    assert by_area.kept.tolist() == [0, 1]
    by_words = run(tmp_path, spec, {"text_spotting": {"function": "spotter_of_test:words", "max_share": 0.25}})
    assert by_words.kept.tolist() == [0, 2]  # 0 of 2 words, 2 of 2, 1 of 4
    with pytest.raises(ConfigError, match="no 'spotter_of_test:nothing'"):
        run(tmp_path, spec, {"text_spotting": {"function": "spotter_of_test:nothing", "max_share": 0.4}})


def test_duplicate_images_keep_the_first(tmp_path):
    other_size = picture(1, (96, 96))
    spec = source(tmp_path, captioned(list("abcde"), [picture(1), picture(2), other_size, picture(3), picture(2)]))
    found = run(tmp_path, spec, {"duplicate_images": {"max_distance": 6}})
    assert found.kept.tolist() == [0, 1, 3]


@pytest.mark.parametrize("distance", [0, 1, 3, 8])
def test_duplicate_images_find_what_comparing_all_pairs_finds(distance):
    rng = np.random.default_rng(distance)
    centres = rng.integers(0, 2**63, 20)
    hashes = []
    for _ in range(200):
        value = int(rng.choice(centres))
        for bit in rng.choice(64, rng.integers(0, 6), replace=False).tolist():
            value ^= 1 << bit
        hashes.append(value)
    cls = FILTERS["duplicate_images"]
    verdict = cls(cls.Config(max_distance=distance), Setup(None)).judge(pa.array(hashes, pa.uint64()), np.arange(200))
    kept = []
    for at, value in enumerate(hashes):
        if all((hashes[other] ^ value).bit_count() > distance for other in kept):
            kept.append(at)
    assert np.flatnonzero(verdict.keep).tolist() == kept


def test_duplicate_texts_by_shared_shingles(tmp_path):
    captions = [
        "a brown dog runs over the green field",
        "two people sit at a table in the garden",
        "A brown  dog runs over the green field!",
        "a brown dog runs over the green fields",
        "a harbour at night",
    ]
    spec = source(tmp_path, captioned(captions))
    found = run(tmp_path, spec, {"duplicate_texts": {"min_similarity": 0.8}})
    assert found.kept.tolist() == [0, 1, 4]
    # 33 shingles of 5 characters in 37, one more in 38: 33 of 34 are shared.
    value = next(value for index, value, _ in found.steps[0].dropped if index == 3)
    assert value == pytest.approx(33 / 34)


def test_balance_draws_each_concept_t_times_on_average(tmp_path):
    """Counts against the closed form: a sample stays with 1 - prod(1 - min(1, t/n)) over its concepts."""
    captions = ["a dog"] * 40 + ["a dog and a polar bear"] * 10 + ["polar night"] * 5 + ["nothing"] * 5
    (tmp_path / "words.txt").write_text("dog\npolar bear\n\nDog\nwhale\n")
    spec = source(tmp_path, captioned(captions, [picture()] * 60), max_samples=50)
    expected = 40 * 0.4 + 10 * (1 - 0.6 * 0)  # dog: 20 of 50; polar bear: 10 of 10, so all of them stay
    counts = []
    for seed in range(20):
        found = run(tmp_path, spec, {"balance": {"concepts": "words.txt", "t": 20}}, seed=seed)
        facts = found.steps[0].facts
        assert facts["expected to stay"] == pytest.approx(expected)
        assert facts["samples without concept"] == 10
        assert (facts["concepts"], facts["matched"], facts["above t"]) == (3, 2, 1)
        assert set(range(40, 50)) <= set(found.kept.tolist())
        by_hand = [i for i in range(40) if Dice(seed, "balance", i, "dog").between(0, 1) < 0.4] + [*range(40, 50)]
        assert found.kept.tolist() == by_hand
        counts.append(len(found.kept))
    deviation = math.sqrt(40 * 0.4 * 0.6 / len(counts))
    assert abs(np.mean(counts) - expected) < 3 * deviation


def test_balance_can_keep_what_matches_nothing(tmp_path):
    (tmp_path / "words.txt").write_text("dog\n")
    spec = source(tmp_path, captioned(["a dog", "dogs", "hot-dog!"]))
    assert run(tmp_path, spec, {"balance": {"concepts": "words.txt", "t": 9}}).kept.tolist() == [0, 2]
    keep = {"balance": {"concepts": "words.txt", "t": 9, "unmatched": "keep"}}
    assert run(tmp_path, spec, keep).kept.tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"concepts: no such file .*missing.txt"):
        run(tmp_path, spec, {"balance": {"concepts": "missing.txt", "t": 9}})


@pytest.mark.parametrize(
    ("name", "settings", "module", "package"),
    [
        ("duplicate_images", {}, "imagehash", "ImageHash"),
        ("duplicate_texts", {}, "datasketch", "datasketch"),
        ("language", {"keep": ["en"]}, "py3langid.langid", "py3langid"),
    ],
)
def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch, name, settings, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    spec = source(tmp_path, captioned(["a"]))
    with pytest.raises(EnvironmentProblem, match=rf"{name} needs {package}.*pip install 'mmret\[curate\]'"):
        run(tmp_path, spec, {name: settings})


def test_dropped_duplicates_name_what_stays_in_their_place(tmp_path):
    import pyarrow.parquet as pq

    spec = source(tmp_path, captioned(["x one", "y", "z two"], [picture(1), picture(2), picture(1)]), max_samples=2)
    run(tmp_path, spec, {"length": {"min_words": 1}}, {"duplicate_images": {}})
    (row,) = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert row == {
        "key": "train-000001.tar:002",
        "sample": 2,
        "filter": "1.duplicate_images",
        "value": 0.0,
        "reason": "looks like an earlier picture",
        "like": "train-000000.tar:000",
    }
