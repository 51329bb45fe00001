import pickle
from dataclasses import replace

import pytest
import torch
from msgspec import structs

from mmret.errors import SampleError
from mmret.models.backbones import PictureSettings, TextTokenizer, black
from mmret.models.preflmr import PreFLMRConfig, PreFLMRProcessor
from mmret.types import Content, EncodedImage
from tests.unit.models.toys import picture

PICTURE = PictureSettings(8)
CONFIG = PreFLMRConfig(text="tiny", vision="tiny", query_tokens=12, document_tokens=10)
BLACK = black(PICTURE)


def processor(**settings):
    config = replace(CONFIG, **settings)
    return PreFLMRProcessor(config, TextTokenizer.tiny(), None if config.vision is None else PICTURE)


PICTURED = Content("red flag", (picture(1),))
PLAIN = Content("red flag")


def test_a_missing_picture_is_black():
    inputs = processor()([PLAIN, PICTURED], "query")
    assert torch.equal(inputs.dense["pixel_values"][0], BLACK)
    assert not torch.equal(inputs.dense["pixel_values"][1], BLACK)
    assert inputs.dense["use_image"].tolist() == [[True], [True]]


def test_missing_pictures_may_be_left_out_of_the_score():
    inputs = processor(missing_image="skip")([PLAIN, PICTURED], "query")
    assert inputs.dense["use_image"].tolist() == [[False], [True]]
    assert "pixel_values" not in processor(missing_image="skip")([PLAIN], "query")


@pytest.mark.parametrize("settings", [{"vision": None}, {"query_vision": False}])
def test_models_that_do_not_look_get_no_pixels(settings):
    assert "pixel_values" not in processor(**settings)([PICTURED], "query")


def test_documents_bring_pixels_only_when_the_model_uses_them():
    assert "pixel_values" not in processor()([PICTURED], "document")
    made = processor(document_vision=True)
    assert "pixel_values" not in made([PLAIN], "document")
    assert made([PLAIN, PICTURED], "document").dense["use_image"].tolist() == [[False], [True]]


def test_rows_of_several_pictures_are_filled_up_and_marked():
    two = Content("red", (picture(1), picture(2)))
    inputs = processor(use_mapping=False)([PICTURED, two], "query")
    assert inputs.dense["pixel_values"].shape == (2, 2, 3, 8, 8)
    assert inputs.dense["use_image"].tolist() == [[True, False], [True, True]]
    assert processor(document_vision=True)([two], "document").dense["pixel_values"].shape == (1, 2, 3, 8, 8)


def test_rows_can_be_switched_off():
    inputs = processor()([PICTURED, PLAIN], "query", use_text=[True, False], use_image=[False, True])
    assert inputs.dense["use_text"].tolist() == [True, False]
    assert inputs.dense["use_image"].tolist() == [[False], [True]]


def test_a_query_without_text_is_named():
    with pytest.raises(SampleError, match=r"query 1 of the batch \(picture-1\.png\) has neither text nor instruction"):
        processor()([PLAIN, Content(None, (picture(1),))], "query")


def test_an_instruction_alone_is_text_enough():
    assert len(processor()([Content(None, (picture(1),), "describe this:")], "query")) == 1


def test_a_document_of_punctuation_is_named_and_quoted():
    with pytest.raises(SampleError, match=r"document 1 of the batch \(p7\) is made only of punctuation \('\?!'\)"):
        processor()([PLAIN, Content("?!", id="p7")], "document")
    assert len(processor(mask_punctuation=False)([Content("?!")], "document")) == 1


def test_a_document_of_nothing_is_named():
    with pytest.raises(SampleError, match=r"document 0 of the batch \(p7\) has no text"):
        processor()([Content(" ", id="p7")], "document")
    with pytest.raises(SampleError, match="document_vision is off"):
        processor()([Content(None, (picture(1),))], "document")
    assert len(processor(document_vision=True)([Content(None, (picture(1),))], "document")) == 1


def test_two_pictures_and_a_mapping_network_do_not_go_together():
    with pytest.raises(SampleError, match=r"query 0 of the batch \(picture-1\.png\) has 2 pictures"):
        processor()([Content("red", (picture(1), picture(2)))], "query")


def test_a_picture_that_does_not_decode_is_named():
    broken = Content("red", (EncodedImage(b"no picture", "shard.tar:0007.q.0.png"),))
    with pytest.raises(SampleError, match=r"shard\.tar:0007\.q\.0\.png: 10 bytes do not decode"):
        processor()([broken], "query")


def test_keys_say_what_a_tower_sees_and_nothing_else():
    made = processor(document_vision=True)
    other = structs.replace(PICTURED, id="other")
    keys = made.tower_keys([PICTURED, other, Content("blue", (picture(1),)), PLAIN], "query")
    assert keys.keys() == {"query_text", "vision"}
    assert keys["vision"][0] == keys["vision"][1] == keys["vision"][2] != keys["vision"][3]
    assert keys["query_text"][0] == keys["query_text"][1] == keys["query_text"][3] != keys["query_text"][2]
    assert all(len(key) == 16 for row in keys.values() for key in row)
    documents = made.tower_keys([PICTURED, PLAIN], "document")
    assert documents["vision"][0] != keys["vision"][0], "documents keep the global feature only"
    assert documents["vision"][1] is None


def test_keys_follow_the_picture_settings():
    other = PreFLMRProcessor(CONFIG, TextTokenizer.tiny(), PictureSettings(8, fit="squash"))
    assert other.tower_keys([PICTURED], "query")["vision"] != processor().tower_keys([PICTURED], "query")["vision"]


def test_keys_do_not_depend_on_the_batch():
    made = processor()
    long = Content("the red flag of the country")
    assert (
        made.tower_keys([PLAIN, long], "document")["document_text"][0]
        == (made.tower_keys([PLAIN], "document")["document_text"][0])
    )


def test_keys_need_no_decoding():
    assert processor().tower_keys([Content("red", (EncodedImage(b"no picture"),))], "query")["vision"][0] is not None


def test_warnings_and_readers_survive_pickling():
    made = processor()
    made.features = {"vision": {b"x": torch.ones(1)}}
    assert pickle.loads(pickle.dumps(made)).features["vision"][b"x"] == 1


def test_instructions_can_be_left_out_and_then_a_picture_may_stand_alone():
    made = processor(use_instructions=False, instruction_separator=None)
    with_one = made([structs.replace(PICTURED, instruction="find the flag:")], "query")
    assert torch.equal(with_one.dense["input_ids"], made([PICTURED], "query").dense["input_ids"])
    alone = made([Content(None, (picture(1),), "find the flag:")], "query").dense
    assert alone["attention_mask"].sum() == 3  # [CLS], marker, [SEP]
    with pytest.raises(SampleError, match="neither text nor instruction"):
        made([Content(None, (), "find the flag:")], "query")
