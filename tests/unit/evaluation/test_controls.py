import pytest

from mmret.errors import ConfigError
from mmret.evaluation import Benchmark
from mmret.evaluation.controls import NO_QUESTION, control_contents, derangement
from tests.builders import build_toy_source


@pytest.fixture
def split(tmp_path):
    build_toy_source(tmp_path, num=8)
    return Benchmark.load(tmp_path / "benchmark.yaml").split("heldout")


def test_question_only_drops_every_image_and_keeps_the_text(split):
    content = control_contents(split, "question_only")
    assert all(content(row).images == () for row in range(len(split)))
    assert all(content(row).text == split.content(row).text for row in range(len(split)))


def test_image_only_keeps_the_images_and_says_the_same_for_all(split):
    content = control_contents(split, "image_only")
    assert {content(row).text for row in range(len(split))} == {NO_QUESTION}
    assert all(content(row).images == split.content(row).images for row in range(len(split)))


def test_shuffled_images_gives_each_query_the_picture_of_another_and_uses_each_once(split):
    content = control_contents(split, "shuffled_images")
    own = [split.content(row).images[0].key for row in range(len(split))]
    shuffled = [content(row).images[0].key for row in range(len(split))]
    assert sorted(own) == sorted(shuffled)
    assert all(mine != other for mine, other in zip(own, shuffled))
    assert [content(row).text for row in range(len(split))] == [split.content(row).text for row in range(len(split))]
    again = control_contents(split, "shuffled_images")
    assert [again(row).images[0].key for row in range(len(split))] == shuffled


def test_shuffled_images_come_from_another_group_where_the_samples_name_one(tmp_path):
    build_toy_source(tmp_path, num=8)
    benchmark = Benchmark.load(tmp_path / "benchmark.yaml")
    benchmark.spec.image_group = "topic"
    split = benchmark.split("heldout")
    donors = control_contents(split, "shuffled_images").donors
    assert all(split.queries[row].group != split.queries[donor].group for row, donor in enumerate(donors))


@pytest.mark.parametrize("labels", ["aabbcc", "abcdefg", "aaabbbc", "aaab", "abbbbbbbcc", "aabb"])
def test_a_derangement_never_keeps_the_label(labels):
    donors = derangement(list(labels), seed=3)
    assert all(labels[row] != labels[donor] for row, donor in enumerate(donors))
    if 2 * max(labels.count(label) for label in labels) <= len(labels):
        assert sorted(donors) == list(range(len(labels)))


def test_queries_without_an_image_keep_none():
    assert derangement([None, "a", "b", None], seed=0) == [0, 2, 1, 3]


def test_images_that_all_show_the_same_cannot_be_shuffled():
    with pytest.raises(ConfigError, match=r"all 2 images show the same \('fr'\)"):
        derangement(["fr", "fr"], seed=0)
