import pytest

from mmret.data import Classes
from mmret.errors import ConfigError, SampleError


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\nhot dog\nfox\n", encoding="utf-8")
    return Classes.load(tmp_path / "classes.txt")


def test_a_class_is_a_line_of_the_file(classes):
    assert (len(classes), classes.names) == (3, ("cat", "hot dog", "fox"))
    by_name, by_number = (classes.target("a:1", {"label": label}) for label in ("hot dog", 1))
    assert by_name == by_number
    assert (by_name.number, dict(by_name.scores), by_name.num_classes, by_name.soft) == (1, {1: 1.0}, 3, False)


def test_scores_are_kept_by_number_and_the_highest_names_the_class(classes):
    target = classes.target("a:1", {"labels": {"fox": 1, "cat": 1.0, "hot dog": 0}})
    assert dict(target.scores) == {2: 1.0, 0: 1.0} and target.soft
    assert target.number == 0  # of equals the first
    assert classes.target("a:1", {"labels": {}}).number is None
    assert classes.target("a:1", {"topic": "animals"}) is None


@pytest.mark.parametrize(
    "row, message",
    [
        (
            {"label": "hotdog"},
            r"a:1: label 'hotdog' is none of the 3 classes of .*classes.txt. Did you mean 'hot dog'\?",
        ),
        ({"label": "zzz"}, r"label 'zzz' is none of the 3 classes of .*classes.txt.$"),
        ({"label": 3}, r"a:1: label 3 is none of the 3 classes of .*; want 0 to 2, nearest 2"),
        ({"label": -1}, r"want 0 to 2, nearest 0"),
        ({"label": True}, "label is True; want a class name or its number"),
        ({"label": 1.0}, "label is 1.0; want a class name"),
        ({"labels": {"fix": 1}}, r"label 'fix' .*Did you mean 'fox'\?"),
        ({"labels": ["fox"]}, "labels is .*want an object of scores by class name"),
        ({"labels": {"fox": 1.2}}, r"labels gives 'fox' the score 1.2; want a number in \[0, 1\]"),
        ({"labels": {"fox": None}}, "the score None"),
        ({"labels": {"fox": float("nan")}}, "the score nan"),
        ({"label": 1, "labels": {"fox": 1}}, "both label and labels"),
    ],
)
def test_each_wrong_label_is_named(classes, row, message):
    with pytest.raises(SampleError, match=message):
        classes.target("a:1", row)


@pytest.mark.parametrize(
    "text, message",
    [
        ("cat\n", "1 classes; want at least 2"),
        ("cat\n\ndog\n", "classes.txt:2: an empty line"),
        ("cat\ndog\ncat\n", r"classes.txt:3: 'cat' is class 0 already \(line 1\)"),
    ],
)
def test_a_broken_classes_file_is_refused(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Classes.load(tmp_path / "classes.txt")
    with pytest.raises(ConfigError, match=r"none.txt: no such classes file; want a text file with one class a line"):
        Classes.load(tmp_path / "none.txt")
