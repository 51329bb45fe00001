"""Ids, masks and ragged pictures."""

import pickle

import pytest
import torch
from PIL import Image

from mmret.errors import ConfigError, SampleError
from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm import tiny_tokenizer, vlm_spec
from mmret.models.backbones.vlm_family import Film
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.models.vlm2vec import VLM2VecProcessor
from mmret.types import Content
from tests.unit.models.toys import picture

KINDS = list(FAMILIES)


def processor_of(kind, padding="left", max_length=None, **limits):
    family = vlm_spec(f"tiny:{kind}").family(**limits)
    return VLM2VecProcessor(family, tiny_tokenizer(kind), padding, max_length)


@pytest.fixture(params=KINDS)
def processor(request):
    return processor_of(request.param)


CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("red"),
    Content("compare", (picture(2, (120, 40)), picture(3, (50, 50)))),
]


def test_a_picture_has_as_many_placeholders_as_the_model_makes_features_of_it(processor):
    inputs = processor(CONTENTS, "query")
    ids = inputs.dense["input_ids"]
    counts = (ids < 0 if processor.image_id is None else ids == processor.image_id).sum(1)
    assert counts[1] == 0
    # The model itself counts features against placeholders and raises.
    kind = processor.family.config["model_type"]
    VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}")).encode_query(inputs)
    assert counts[2] > counts[0] > 0


@pytest.mark.parametrize("size", [(28, 28), (30, 61), (200, 31), (57, 56), (83, 29), (41, 300)])
@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_are_right_for_odd_shapes(kind, size):
    processor = processor_of(kind)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}"))
    vectors = model.encode_query(processor([Content(images=(picture(1, size),))], "query")).vectors
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padding_stands_where_the_processor_says(padding):
    inputs = processor_of("qwen2_vl", padding)([Content("a b c"), Content("a")], "document")
    expected = [[1, 1, 1], [0, 0, 1]] if padding == "left" else [[1, 1, 1], [1, 0, 0]]
    assert inputs.dense["attention_mask"].tolist() == expected


def test_rows_of_text_alone_bring_no_pixels(processor):
    assert processor([Content("a"), Content("b")], "document").ragged == {}


def test_rows_keep_their_own_pixels(processor):
    whole, last = processor(CONTENTS, "query"), processor(CONTENTS[2:], "query")
    for name in whole.ragged:
        assert len(whole.ragged[name][1]) == 0
        assert torch.equal(whole.ragged[name][2], last.ragged[name][0])


@pytest.mark.parametrize("size", [(1, 40), (27, 100), (20, 20)])
def test_a_small_picture_becomes_56_by_56_for_qwen(size):
    inputs = processor_of("qwen2_vl")([Content(images=(picture(1, size),))], "query")
    assert inputs.ragged["image_grid_thw"][0].tolist() == [[1, 4, 4]]


def test_a_thin_strip_is_refused_with_its_size():
    with pytest.raises(SampleError, match="28 x 6000 pixels"):
        processor_of("qwen2_vl")([Content(images=(picture(1, (28, 6000)),))], "query")


def test_pictures_become_squares_where_asked():
    inputs = processor_of("qwen2_vl", square_px=84)([Content(images=(picture(1, (40, 90)),))], "query")
    assert inputs.ragged["image_grid_thw"][0].tolist() == [[1, 6, 6]]


def test_area_limits_can_be_lowered():
    inputs = processor_of("qwen2_vl", min_pixels=56 * 56, max_pixels=56 * 56)(
        [Content(images=(picture(1, (200, 200)),))], "query"
    )
    assert inputs.ragged["image_grid_thw"][0].tolist() == [[1, 4, 4]]


def test_rows_whose_pictures_stand_behind_their_text_are_never_cut():
    family = vlm_spec("tiny:qwen2_vl").family()
    processor = VLM2VecProcessor(family, tiny_tokenizer("qwen2_vl"), "right", 6, pictures_first=False)
    rows = processor([Content("a b c d e f g h i"), Content("a b c", (picture(1, (56, 56)),))], "query")
    lengths = rows.dense["attention_mask"].sum(1).tolist()
    assert lengths[0] == 6 and lengths[1] > 6
    assert rows.dense["input_ids"][1, lengths[1] - 1] == processor.image_id  # the last place is the picture's


def test_text_is_cut_at_max_length_but_a_picture_never():
    processor = processor_of("qwen2_vl", max_length=6)
    assert processor([Content("a b c d e f g h")], "query").dense["input_ids"].shape == (1, 6)
    with pytest.raises(SampleError, match="max_length 6 would cut off a picture; this row has 16 tokens"):
        processor([Content(images=(picture(1, (112, 112)),))], "query")


def test_an_end_token_stands_behind_every_row_cut_or_not_and_counts_for_max_length():
    family = vlm_spec("tiny:qwen2_vl").family()
    tokenizer = tiny_tokenizer("qwen2_vl")
    processor = VLM2VecProcessor(family, tokenizer, "right", 6, pictures_first=False, end_token="[SEP]")
    plain = VLM2VecProcessor(family, tokenizer, "right", None, pictures_first=False)
    contents = [Content("a b c d e f g h i"), Content("a b"), Content("a b", (picture(1, (56, 56)),))]
    end = tokenizer.id_of("[SEP]")
    for content, room in zip(contents, (5, 6, None)):
        without = plain([content], "query").dense["input_ids"][0].tolist()
        assert processor([content], "query").dense["input_ids"][0].tolist() == [*without[:room], end]


def test_an_end_token_that_the_tokenizer_lacks_is_refused():
    family, tokenizer = vlm_spec("tiny:qwen2_vl").family(), tiny_tokenizer("qwen2_vl")
    with pytest.raises(ConfigError, match=r"model\.end_token: '<end>' is not in the tokenizer's vocabulary"):
        VLM2VecProcessor(family, tokenizer, "right", end_token="<end>")


def test_a_wrong_number_of_placeholders_in_a_ready_prompt_is_refused():
    with pytest.raises(SampleError, match=r"1 placeholders .* want 0"):
        processor_of("qwen2_vl").rows(["<|image_pad|> what"], [[]])


def test_a_video_of_still_frames_has_a_pictures_patches_twice_over():
    processor = processor_of("qwen2_vl")
    frame = Image.new("RGB", (56, 56), (200, 30, 90))
    still = processor.rows(["<|image_pad|>"], [[frame]])
    video = processor.rows(["<|video_pad|>"], [[]], [[Film([frame] * 3)]])  # an odd frame is shown twice
    assert video.ragged["video_grid_thw"][0].tolist() == [[2, 4, 4]]
    assert torch.equal(video.ragged["pixel_values_videos"][0], torch.cat([still.ragged["pixel_values"][0]] * 2))
    assert (video.dense["input_ids"] == processor.video_id).sum() == 8


def test_the_order_of_frames_shows_in_a_video():
    processor = processor_of("qwen2_vl")
    red, blue = (Image.new("RGB", (56, 56), colour) for colour in ("red", "blue"))
    one, other = (
        processor.rows(["<|video_pad|>"], [[]], [[Film(frames)]]).ragged["pixel_values_videos"][0]
        for frames in ([red, blue], [blue, red])
    )
    swapped = one.view(-1, 3, 2, 14, 14).flip(2).flatten(1)
    assert not torch.equal(one, other)
    assert torch.equal(swapped, other)


def test_processor_pickles_into_data_workers(processor):
    again = pickle.loads(pickle.dumps(processor))
    ours, theirs = processor(CONTENTS, "query"), again(CONTENTS, "query")
    assert torch.equal(ours.dense["input_ids"], theirs.dense["input_ids"])


def test_without_instructions_a_row_is_its_text_and_pictures_alone():
    family = vlm_spec("tiny:qwen2_vl").family()
    read, ignored = (
        VLM2VecProcessor(family, tiny_tokenizer("qwen2_vl"), "left", use_instructions=use) for use in (True, False)
    )
    shown = (picture(1, (56, 56)),)
    asked, bare = (Content("which one", shown, instruction=text) for text in ("find a flag", None))
    ids = {one: one([asked], "query").dense["input_ids"].tolist() for one in (read, ignored)}
    assert ids[ignored] == read([bare], "query").dense["input_ids"].tolist() != ids[read]
    assert ignored([Content(None, shown, instruction="find a flag")], "query").dense["input_ids"].shape[1] > 0
    with pytest.raises(SampleError, match="nothing to encode"):
        ignored([Content(instruction="find a flag")], "query")
