from collections import Counter

import pytest
import torch

from mmret.data.masking import IGNORE, mask_words, ordinary_tokens, words_of
from mmret.recipe.schema import MaskingConfig
from mmret.types import Inputs, TokenVocabulary

PAD, CLS, SEP, MASK = 0, 1, 2, 3
CONTINUES = torch.zeros(50, dtype=torch.bool)
CONTINUES[40:] = True
VOCABULARY = TokenVocabulary(MASK, (PAD, CLS, SEP), CONTINUES, 20)


def inputs_of(*rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return Inputs(
        {"input_ids": ids, "attention_mask": torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])}
    )


def keys(number, seed=0):
    return [(seed, "source", 0, row) for row in range(number)]


LONG = [CLS, 10, 11, 41, 42, 12, 13, 43, 14, 15, 16, 17, 18, 19, 20, 21, 22, SEP]


def test_words_are_tokens_with_their_continuations():
    assert words_of([CLS, 10, 41, 42, 11, SEP, 43], VOCABULARY, CONTINUES.tolist()) == [[1, 2, 3], [4], [6]]


@pytest.mark.parametrize("rule", ["whole_word", "vlmo"])
def test_words_are_chosen_whole_and_special_places_never(rule):
    masked = mask_words(inputs_of(*[LONG] * 300), VOCABULARY, MaskingConfig(rule=rule), keys(300))
    labels = masked.dense["labels"]
    chosen = labels != IGNORE
    assert torch.equal(labels[chosen], torch.tensor(LONG).expand_as(labels)[chosen])
    assert not chosen[:, [0, -1]].any()
    for word in words_of(LONG, VOCABULARY, CONTINUES.tolist()):
        assert (chosen[:, word].all(1) == chosen[:, word].any(1)).all()


def test_default_rule_masks_its_share_of_the_texts_own_tokens():
    """16 tokens: 15 % are 2, taken as long as whole words fit."""
    masked = mask_words(inputs_of(*[LONG] * 200), VOCABULARY, MaskingConfig(), keys(200))
    counts = Counter((masked.dense["labels"] != IGNORE).sum(1).tolist())
    assert counts == {2: 200}


def test_default_rule_masks_a_word_of_each_text_however_short():
    rows = [[CLS, 10, SEP], [CLS, 11, 41, 42, 43, SEP]]
    labels = mask_words(inputs_of(*rows), VOCABULARY, MaskingConfig(), keys(2)).dense["labels"]
    assert (labels[0] != IGNORE).sum() == 1
    assert (labels[1] != IGNORE).sum() == 4


def test_released_rule_lets_padding_compete_so_short_texts_often_get_none():
    """Budget 3 of 20 places, 2 of them real: no mask with probability C(16, 3) / C(18, 3) = 0.686 (18 candidates)."""
    rows = 2000
    masked = mask_words(inputs_of(*[[CLS, 10, 11, SEP]] * rows), VOCABULARY, MaskingConfig(rule="vlmo"), keys(rows))
    none = ((masked.dense["labels"] != IGNORE).sum(1) == 0).float().mean()
    assert none == pytest.approx(0.686, abs=0.04)


def test_replacements_are_eighty_ten_ten_and_never_special():
    rows = 3000
    masked = mask_words(inputs_of(*[LONG] * rows), VOCABULARY, MaskingConfig(), keys(rows))
    chosen = masked.dense["labels"] != IGNORE
    before, after = masked.dense["labels"][chosen], masked.dense["input_ids"][chosen]
    assert (after == MASK).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (after == before).float().mean() == pytest.approx(0.1 + 0.1 / 46, abs=0.02)
    assert set(after.tolist()) <= {MASK, *ordinary_tokens(VOCABULARY)}


def test_a_row_is_masked_by_its_key_alone():
    both = mask_words(inputs_of(LONG, [*LONG[:9], SEP]), VOCABULARY, MaskingConfig(), keys(2))
    alone = mask_words(inputs_of([*LONG[:9], SEP]), VOCABULARY, MaskingConfig(), keys(2)[1:])
    assert torch.equal(both.dense["input_ids"][1, :10], alone.dense["input_ids"][0])
    other = mask_words(inputs_of(*[LONG] * 9), VOCABULARY, MaskingConfig(), keys(9, seed=1))
    again = mask_words(inputs_of(*[LONG] * 9), VOCABULARY, MaskingConfig(), keys(9))
    assert not torch.equal(other.dense["input_ids"], again.dense["input_ids"])


def test_the_given_inputs_are_left_as_they_are():
    given = inputs_of(LONG)
    mask_words(given, VOCABULARY, MaskingConfig(), keys(1))
    assert given.dense["input_ids"][0].tolist() == LONG


def test_a_misspelt_rule_is_named():
    with pytest.raises(Exception, match="whole_word or vlmo"):
        MaskingConfig(rule="whole_words")
