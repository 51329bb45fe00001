import logging
from dataclasses import replace

import pytest
import torch

from mmret.errors import ConfigError
from mmret.models.backbones import TextTokenizer
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.preflmr.tokens import Tokens

TOKENIZER = TextTokenizer.tiny()
CONFIG = PreFLMRConfig(text="tiny", vision="tiny", query_tokens=12, document_tokens=10)
PAD, QUERY, DOCUMENT, CLS, SEP, MASK = 0, 1, 2, 101, 102, 103


def tokens(**settings):
    return Tokens(replace(CONFIG, **settings), TOKENIZER)


def named(*names):
    return [TOKENIZER.id_of(name) for name in names]


def test_queries_are_marker_text_and_mask_fill_that_nobody_attends_to():
    ids, attention = tokens().encode(["Find: red flag"], "query")
    assert ids.tolist() == [[CLS, QUERY, *named("find", ":", "red", "flag"), SEP, *[MASK] * 5]]
    assert attention.tolist() == [[1] * 7 + [0] * 5]


def test_documents_are_padded_to_their_longest_not_to_the_limit():
    ids, attention = tokens().encode(["red", "the red flag"], "document")
    assert ids.tolist() == [
        [CLS, DOCUMENT, *named("red"), SEP, PAD, PAD],
        [CLS, DOCUMENT, *named("the", "red", "flag"), SEP],
    ]
    assert attention.tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]


def test_long_texts_are_cut_and_still_end_with_sep():
    for role, length in (("query", 12), ("document", 10)):
        ids, attention = tokens().encode(["red " * 50], role)
        assert ids.shape[1] == length
        assert ids[0, -1] == SEP
        assert attention.all()


def test_only_the_first_separator_ends_the_instruction():
    made = tokens()
    ids, attention = made.encode(["find red: flag: blue"], "query")
    keep = made.query_keep(ids, attention)
    #                [CLS] [Q]  find   red   :     flag  :    blue  [SEP] fill
    assert keep[0].tolist() == [True, True, False, False, False, True, True, True, True, True, True, True]


def test_without_separator_all_text_counts_fill_included():
    made = tokens()
    ids, attention = made.encode(["find red"], "query")
    assert made.query_keep(ids, attention).all()
    assert tokens(instruction_separator=None).query_keep(ids, attention).all()


def test_without_mask_fill_padding_does_not_count():
    made = tokens(fill_query=False)
    ids, attention = made.encode(["red"], "query")
    assert ids[0, 4:].tolist() == [PAD] * 8
    assert made.query_keep(ids, attention)[0].tolist() == [True] * 4 + [False] * 8


def test_skip_ids_neither_count_nor_are_read_by_the_mapping():
    made = tokens(query_skip_ids=named("red"))
    ids, attention = made.encode(["red flag"], "query")
    keep = made.query_keep(ids, attention)
    hidden = [place != 2 for place in range(12)]
    assert keep[0].tolist() == hidden
    assert made.cross_visible(ids, keep)[0].tolist() == hidden


def test_the_mapping_reads_masked_places_unless_told_otherwise():
    ids, attention = tokens().encode(["find: red"], "query")
    keep = tokens().query_keep(ids, attention)
    assert tokens().cross_visible(ids, keep).all()
    assert torch.equal(tokens(cross_attention_sees="kept").cross_visible(ids, keep), keep)


def test_punctuation_counts_in_queries_only():
    made = tokens()
    ids, attention = made.encode(["red, (flag)!"], "document")
    assert made.document_keep(ids, attention)[0].tolist() == [True, True, True, False, False, True, False, False, True]
    assert tokens(mask_punctuation=False).document_keep(ids, attention).all()
    ids, attention = made.encode(["red, (flag)!"], "query")
    assert made.query_keep(ids, attention).all()


def test_all_32_ascii_symbols_are_skipped():
    assert tokens().document_skip_ids == list(range(104, 136))


@pytest.mark.parametrize(
    "instruction, text, expected",
    [
        ("Find it", "who?", "Find it: who?"),
        (" Find it: ", " who? ", "Find it: who?"),
        ("Describe this.:", None, "Describe this.:"),
        (None, "who: what", "who: what"),
        ("  ", "who", "who"),
    ],
)
def test_an_instruction_ends_with_the_separator(instruction, text, expected):
    assert tokens().query_text(instruction, text) == expected


def test_another_separator_takes_the_colons_place():
    assert tokens(instruction_separator="#").query_text("Find: it", "who") == "Find# it# who"
    assert tokens(instruction_separator=None).query_text("Find it", "who") == "Find it who"


def test_a_separator_that_is_cut_off_is_told_once(caplog):
    made = tokens()
    ids, _ = made.encode(["red " * 20 + ": flag", "find: red"], "query")
    with caplog.at_level(logging.WARNING):
        made.warn_if_cut(ids, torch.tensor([False, True]))
        assert not caplog.records
        made.warn_if_cut(ids, torch.tensor([True, True]))
        made.warn_if_cut(ids, torch.tensor([True, True]))
    assert len(caplog.records) == 1
    assert "1 of 2 queries" in caplog.text
    assert "query_tokens=12" in caplog.text


def test_tokens_the_vocabulary_lacks_are_named():
    with pytest.raises(ConfigError, match=r"query_marker: the tokenizer has no token \[Q\]"):
        tokens(query_marker="[Q]")
    with pytest.raises(ConfigError, match="'::' is not one token"):
        tokens(instruction_separator="::")


def test_no_markers_for_encoders_that_have_none():
    made = tokens(query_marker=None, document_marker=None)
    assert made.encode(["red"], "document")[0].tolist() == [[CLS, *named("red"), SEP]]
