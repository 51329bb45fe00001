"""Whole-word token masking for MLM: a pure function of each row's key."""

# B rows, T places

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmret.data.dice import Dice
from mmret.recipe.schema import MaskingConfig
from mmret.types import Inputs, TokenVocabulary

IGNORE = -100
"""Label of a place that does not count."""


def mask_words(
    inputs: Inputs, vocabulary: TokenVocabulary, config: MaskingConfig, keys: Sequence[tuple[object, ...]]
) -> Inputs:
    """Texts with some words hidden.

    Of the chosen tokens 80 % become [MASK], 10 % a random token, 10 % stay.

    Args:
        inputs: input_ids and attention_mask [B, T].
        vocabulary: special ids, and which tokens go on with a word.
        keys: for each row what its draws are a function of (seed, source, epoch, sample).

    Returns:
        input_ids, attention_mask, and labels [B, T]: the token that stood there where it counts, else -100.
    """
    ids, attention = inputs.dense["input_ids"].clone(), inputs.dense["attention_mask"]
    labels = torch.full_like(ids, IGNORE)
    continues = vocabulary.continues.tolist()
    tokens = ordinary_tokens(vocabulary)
    for row, key in enumerate(keys):
        dice = Dice("mask", *key)
        real = ids[row, : int(attention[row].sum())].tolist()
        for place in sorted(_choose(real, vocabulary, continues, config, dice)):
            labels[row, place] = real[place]
            draw = dice.below(10)
            if draw < 8:
                ids[row, place] = vocabulary.mask
            elif draw == 8:  # the released code draws from all ids, special ones too
                ids[row, place] = (
                    dice.below(len(vocabulary)) if config.rule == "vlmo" else tokens[dice.below(len(tokens))]
                )
    return Inputs({"input_ids": ids, "attention_mask": attention, "labels": labels})


def words_of(ids: Sequence[int], vocabulary: TokenVocabulary, continues: Sequence[bool]) -> list[list[int]]:
    """Places of each word: a token and those that go on with it. Special tokens end a word and are in none."""
    words: list[list[int]] = []
    open_word = False
    for place, token in enumerate(ids):
        if token in vocabulary.special:
            open_word = False
        elif open_word and continues[token]:
            words[-1].append(place)
        else:
            words.append([place])
            open_word = True
    return words


def ordinary_tokens(vocabulary: TokenVocabulary) -> list[int]:
    """Ids that a random replacement may be."""
    special = {*vocabulary.special, vocabulary.mask}
    return [token for token in range(len(vocabulary)) if token not in special]


def _choose(
    ids: Sequence[int], vocabulary: TokenVocabulary, continues: Sequence[bool], config: MaskingConfig, dice: Dice
) -> list[int]:
    """Places to guess: words in random order, whole, as long as they fit the budget."""
    words = words_of(ids, vocabulary, continues)
    if not words:
        return []
    own = sum(map(len, words))
    budget, padding = max(1, round(config.fraction * own)), 0
    if config.rule == "vlmo":
        padding = vocabulary.max_tokens - len(ids)
        budget = max(1, round(config.fraction * vocabulary.max_tokens))
    order = dice.sample(len(words) + padding, len(words) + padding)
    chosen: list[int] = []
    taken = 0
    for number in order:
        word = words[number] if number < len(words) else None
        size = 1 if word is None else len(word)
        if taken + size <= budget:
            taken += size
            chosen += word or []
    if not chosen and config.rule == "whole_word":  # every word is longer than the budget
        chosen = words[order[0]]
    return chosen
