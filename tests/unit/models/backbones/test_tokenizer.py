import json
import pickle

import pytest
from transformers import BertTokenizerFast

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones import TextTokenizer
from mmret.models.backbones.tokenizer import TINY_VOCABULARY

TEXTS = ["The red flag, of a COUNTRY: 42!", "Café naïve 東京 it's", "", "[MASK] this", "what\tis  that\n?"]


def test_special_ids_lie_where_bert_has_them():
    made = TextTokenizer.tiny()
    assert [made.special_id(name) for name in ("pad", "unk", "cls", "sep", "mask")] == [0, 100, 101, 102, 103]
    assert made.id_of("[unused0]") == 1
    assert len(set(TINY_VOCABULARY)) == len(TINY_VOCABULARY) == len(made)


def test_wordpiece_from_vocab_txt_equals_transformers(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(TINY_VOCABULARY) + "\n")
    theirs = BertTokenizerFast.from_pretrained(tmp_path)
    ours = TextTokenizer.from_folder(tmp_path)
    assert ours.ids(TEXTS) == [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def test_tokenizer_json_and_vocab_txt_give_the_same_ids(tmp_path):
    TextTokenizer.tiny().save(tmp_path)
    by_json = TextTokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    by_vocabulary = TextTokenizer.from_folder(tmp_path)
    assert by_json.ids(TEXTS) == by_vocabulary.ids(TEXTS) == TextTokenizer.tiny().ids(TEXTS)


def test_case_is_kept_where_the_folder_says_so(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*TINY_VOCABULARY, "Red"]) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    made = TextTokenizer.from_folder(tmp_path)
    assert made.ids(["Red red"]) == [[len(TINY_VOCABULARY), made.id_of("red")]]
    made.save(tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").unlink()
    assert TextTokenizer.from_folder(tmp_path / "copy").ids(["Red red"]) == made.ids(["Red red"])


def test_a_token_that_unicode_counts_as_a_line_end_keeps_its_place(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*TINY_VOCABULARY, "\u2028", "zebra"]) + "\n", encoding="utf-8")
    assert TextTokenizer.from_folder(tmp_path).id_of("zebra") == len(TINY_VOCABULARY) + 1


def test_other_encoders_names_of_special_tokens_are_read(tmp_path):
    TextTokenizer.tiny().save(tmp_path)
    names = {"bos_token": {"content": "[unused3]"}, "eos_token": "[unused4]"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    made = TextTokenizer.from_folder(tmp_path)
    assert (made.special_id("cls"), made.special_id("sep")) == (4, 5)


def test_padding_and_truncation_stored_in_a_file_are_switched_off(tmp_path):
    made = TextTokenizer.tiny()
    made.backend.enable_truncation(2)
    made.backend.enable_padding(length=9)
    made.save(tmp_path)
    assert TextTokenizer.from_folder(tmp_path).ids(["a b c"]) == TextTokenizer.tiny().ids(["a b c"])


def test_broken_vocabularies_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"neither tokenizer\.json nor vocab\.txt"):
        TextTokenizer.from_folder(tmp_path)
    with pytest.raises(CheckpointError, match="twice"):
        TextTokenizer.wordpiece(["[PAD]", "[PAD]"])
    with pytest.raises(CheckpointError, match="does not follow"):
        TextTokenizer.wordpiece(TINY_VOCABULARY, added={"<BOK>": 5000})
    with pytest.raises(ConfigError, match="no mask token"):
        TextTokenizer.wordpiece(["[PAD]", "[UNK]", "a"]).special_id("mask")


def test_it_pickles():
    assert pickle.loads(pickle.dumps(TextTokenizer.tiny())).ids(TEXTS) == TextTokenizer.tiny().ids(TEXTS)
