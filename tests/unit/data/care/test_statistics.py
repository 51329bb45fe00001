from collections import Counter

import pytest

from mmret.data import Sample
from mmret.data.care import Collection, index_tars, statistics
from mmret.data.care.statistics import quantiles
from tests.unit.data.care.sets import healthy, pairs, picture


def rows():
    """Five queries: texts of 1, 2, 2, 3, 3 words, pictures of two sizes, of which some occur again."""
    given = [("one", 1), ("one two", 1), ("one two", 1), ("one two three", 2), ("four five six", 2)]
    found = []
    for number, (text, kind) in enumerate(given):
        data = picture(kind, (10 * kind, 40))
        row = {"query": {"text": text, "images": ["q.0.png"]}, "positives": ["d0", {"text": f"own {number % 2}"}]}
        found.append(Sample(f"{number:04d}", row | ({"negatives": ["d1"]} if number else {}), {"q.0.png": data}))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_lengths_and_sizes(workers, tmp_path):
    found = statistics(Collection.find(healthy(tmp_path, rows())), workers)
    assert (found.shards, found.samples, found.broken) == (2, 5, 0)
    queries, documents, table = (found.sides[name] for name in ("queries", "documents", "table"))
    assert queries.words == {1: 1, 2: 2, 3: 2}
    assert queries.sizes == {(10, 40): 3, (20, 40): 2}
    assert queries.formats == {"PNG": 5}
    assert (documents.num, documents.words) == (5, {2: 5})
    assert (table.num, table.with_text, table.with_pictures) == (3, 3, 1)
    assert found.positives == {2: 5}
    assert found.negatives == {0: 1, 1: 4}
    shapes = queries.distributions()
    assert shapes["width / height"] == {0.25: 3, 0.5: 2}
    assert shapes["shorter side, px"] == {10: 3, 20: 2}


def test_what_occurs_again_is_counted_and_named(tmp_path):
    found = {one.kind: one for one in statistics(Collection.find(healthy(tmp_path, rows())), 1).repeats}
    text, both = found["query text"], found["query, text and picture"]
    assert (text.total, text.distinct, text.groups, text.largest) == (5, 4, 1, 2)
    assert text.examples == (("train-000000.tar:0001", "train-000000.tar:0002"),)
    assert (found["query picture"].distinct, found["query picture"].largest) == (2, 3)
    assert found["query picture"].examples[1] == ("train-000001.tar:0003", "train-000001.tar:0004")
    assert (both.distinct, both.largest) == (4, 2)
    assert found["document text"].examples[0] == tuple(f"train-00000{n // 3}.tar:000{n}" for n in (0, 2, 4))
    assert (found["table text"].groups, found["table text"].examples) == (0, ())


def test_broken_samples_are_counted_apart(tmp_path):
    broken = [*rows(), Sample("0005", {"query": {"text": ""}, "positives": ["d0"]})]
    spec = healthy(tmp_path, broken)
    assert (lambda s: (s.samples, s.broken))(statistics(Collection.find(spec), 1)) == (5, 1)
    (tmp_path / "train-000000.tar").unlink()
    assert (lambda s: (s.samples, s.broken))(statistics(Collection.find(spec), 1)) == (2, 4)


def test_quantiles_are_values_that_occur():
    assert quantiles(Counter({3: 1})) == [3, 3, 3, 3, 3]
    assert quantiles(Counter(range(1, 101))) == [1, 5, 50, 95, 100]
    assert quantiles({10: 96, 0: 4}) == [0, 10, 10, 10, 10]
    assert quantiles({}) == []


def test_foreign_pairs_have_statistics_too(tmp_path):
    pairs(tmp_path)
    found = statistics(Collection.find(index_tars([tmp_path], "toy").manifest.path), 1)
    assert found.sides["documents"].words == {5: 5}
    assert found.as_json()["queries"]["longer side, px"] == [12] * 5
