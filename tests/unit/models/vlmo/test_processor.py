import pickle

import pytest
import torch

from mmret.errors import ConfigError, SampleError
from mmret.models import VLMoConfig
from mmret.models.vlmo import VLMoProcessor
from mmret.types import Content
from tests.unit.models.toys import picture


@pytest.fixture
def processor():
    return VLMoProcessor(VLMoConfig(size="tiny", tokenizer="tiny", image_px=16, patch_px=8, max_text_tokens=6))


def test_texts_are_padded_to_the_longest_of_the_batch_and_cut(processor):
    inputs = processor(
        [Content("red"), Content("red flag of the town"), Content("red star of the city and town")], "query"
    )
    mask = inputs.dense["attention_mask"]
    assert mask.sum(1).tolist() == [3, 6, 6]
    tokenizer = processor.tokenizer
    first = inputs.dense["input_ids"][0].tolist()
    pad, cls, sep = (tokenizer.special_id(name) for name in ("pad", "cls", "sep"))
    assert first == [cls, tokenizer.id_of("red"), sep, pad, pad, pad]
    assert inputs.dense["input_ids"][1][-1] == sep
    assert processor([Content("red")], "query").dense["input_ids"].shape == (1, 3)


def test_an_instruction_comes_before_the_text(processor):
    both = processor([Content("flag", instruction="red")], "query").dense["input_ids"]
    assert torch.equal(both, processor([Content("red flag")], "query").dense["input_ids"])


def test_pictures_are_squashed_to_values_from_minus_one_to_one(processor):
    pixels = processor([Content(images=(picture(1, (40, 12)),))], "document").dense["pixel_values"]
    assert pixels.shape == (1, 3, 16, 16)
    assert -1 <= pixels.min() < 0 < pixels.max() <= 1
    two = processor([Content("a", images=(picture(1), picture(2)))] * 2, "query")
    assert two.dense["pixel_values"].shape == (2, 2, 3, 16, 16)


def test_rows_of_different_kinds_in_one_batch_are_refused(processor):
    with pytest.raises(SampleError, match="1 of 2 rows"):
        processor([Content("a"), Content(images=(picture(1),))], "query")
    with pytest.raises(SampleError, match="neither text nor picture"):
        processor([Content()], "query")


def test_a_vocabulary_that_does_not_match_is_named():
    small = VLMoProcessor(VLMoConfig(size="tiny", tokenizer="tiny", vocabulary=100))
    with pytest.raises(ConfigError, match="tokens, the model embeds 100"):
        small([Content("red")], "query")


def test_word_pieces_are_known_to_masking(processor):
    vocabulary = pickle.loads(pickle.dumps(processor)).vocabulary
    tokenizer = processor.tokenizer
    assert vocabulary.continues[tokenizer.id_of("##a")]
    assert not vocabulary.continues[tokenizer.id_of("red")]
    assert vocabulary.mask == tokenizer.id_of("[MASK]")
    assert vocabulary.max_tokens == 6
