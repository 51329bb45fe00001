"""Rule-made negatives: what each rule does, that none is the caption, and that training draws them."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import DataSpec
from mmret.data.english import ACTIONS, COLOURS, COMPARATIVES, OPPOSITES, PREPOSITIONS, RELATION_PAIRS
from mmret.data.negative_captions import RULES, negative_captions
from mmret.errors import ConfigError
from tests.unit.data.test_draw import QUERY, drawn, source_of

WORDS = sorted(
    {*COLOURS, *PREPOSITIONS, *ACTIONS, "a", "the", "dog", "Cat", "house", "tree,", "sea.", "and", "walking"}
    | {word for pair in (*OPPOSITES, *COMPARATIVES, *RELATION_PAIRS) for word in pair}
)


@pytest.mark.parametrize(
    ("rule", "caption", "made"),
    [
        ("attributes", "a black cat and a white dog", "a white cat and a black dog"),
        ("attributes", "An orange cat on a big sofa", "A big cat on an orange sofa"),
        ("attributes", "a black cat and a black dog", None),
        ("relation", "the lamp above the table", "the lamp below the table"),
        ("relation", "People sit in front of a house.", "People sit behind a house."),
        ("size", "a man with an old hat", "a man with a young hat"),
        ("size", "the taller one", "the shorter one"),
        ("sides", "The horse is eating the grass", "The grass is eating the horse"),
        ("sides", "a brown dog, on the red sofa.", "a brown sofa, on the red dog."),
        ("order", "cat", None),
        ("colour", "a cat", None),
    ],
)
def test_a_rule_changes_what_it_says(rule, caption, made):
    assert negative_captions(caption, [rule], "key") == ([] if made is None else [made])


def test_a_colour_becomes_one_that_is_not_there():
    found = {negative_captions("a red apple and a green pear", ["colour"], key)[0] for key in range(200)}
    for text in found:
        one, two = re.fullmatch(r"an? (\w+) apple and an? (\w+) pear", text).groups()
        assert (one == "red") != (two == "green")
        assert {one, two} <= set(COLOURS)
    assert any("an orange apple" in text for text in found)
    assert len(found) > 10


def test_another_order_has_the_same_words():
    caption = "two dogs chase one small cat"
    (made,) = negative_captions(caption, ["order"], 0)
    assert sorted(made.split()) == sorted(caption.split())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), st.integers(0, 99))
def test_a_negative_never_is_the_caption_or_another_one(words, key):
    caption = " ".join(words)
    known = negative_captions(caption, RULES, key)[:1]
    found = negative_captions(caption, RULES, key, known)
    plain = [" ".join(text.lower().split()) for text in (caption, *known, *found)]
    assert len(set(plain)) == len(plain)
    assert found == negative_captions(caption, RULES, key, known)


def test_training_draws_them_behind_the_rows_own(tmp_path):
    row = QUERY | {"positives": [{"text": "a black cat on a white sofa"}], "negatives": [{"text": "own"}]}
    source = source_of(tmp_path, [row], table=0, negative_captions=["attributes", "relation"])
    negatives = [one["text"] for one in source.parse(0).negatives]
    assert negatives == ["own", "a white cat on a black sofa", "a black cat under a white sofa"]
    counts = Counter(drawn(source, 2, epoch=epoch).documents[1].text for epoch in range(300))
    assert set(counts) == set(negatives)
    assert all(abs(count - 100) < 41 for count in counts.values())  # 5 standard deviations
    assert drawn(source, 4, seed=5) == drawn(source, 4, seed=5)


def test_captions_of_the_table_get_negatives_and_pictures_of_the_row_stay(tmp_path):
    row = QUERY | {"positives": ["d1"], "scores": [0.5]}
    source = source_of(tmp_path, [row], negative_captions=["order"])
    parsed = source.parse(0)
    assert [one["text"] for one in parsed.negatives] == ["1 text"]
    assert drawn(source, 2).scores[0] == 0.5


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"negative_captions: unknown rule 'color'.*Did you mean colour"):
        DataSpec("toy", "t.json", negative_captions=["color"])
