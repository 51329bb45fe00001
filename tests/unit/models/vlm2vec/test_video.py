"""Videos: which frames are seen, what stands for them, and their times."""

import pytest
import torch
from PIL import Image

from mmret.errors import SampleError
from mmret.models import MODELS, PreFLMR, VLM2Vec, VLM2VecConfig, VLMoConfig
from mmret.models.backbones.vlm_family import Film
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.models.vlm2vec.prompt import compose
from mmret.types import Content, EncodedVideo
from tests.unit.models.toys import picture
from tests.unit.models.vlm2vec.test_model import model_of
from tests.unit.models.vlm2vec.test_processor import processor_of

STILL = [kind for kind, family in FAMILIES.items() if family.VIDEO_TOKEN is None]
FRAMES = tuple(picture(seed, (64, 64)) for seed in range(5))


@pytest.mark.parametrize(
    ("have", "wanted", "expected"),
    [
        (10, 4, [0, 3, 6, 9]),
        (11, 4, [0, 3, 6, 10]),
        (64, 8, [0, 9, 18, 27, 36, 45, 54, 63]),
        (3, 8, [0, 1, 2]),
        (3, None, [0, 1, 2]),
        (5, 1, [0]),
    ],
)
def test_frames_are_spread_evenly_from_first_to_last(have, wanted, expected):
    assert EncodedVideo(FRAMES[:1] * have).places(wanted) == expected


def test_a_video_needs_frames_and_a_rate_above_zero():
    with pytest.raises(SampleError, match="a video without frames"):
        EncodedVideo(())
    with pytest.raises(SampleError, match="fps must be > 0, got -1"):
        EncodedVideo(FRAMES, -1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_only_the_frames_that_are_sampled_count(kind):
    model = model_of(kind, num_frames=3)

    def vector(frames, text="what"):
        content = Content(text, video=EncodedVideo(frames))
        return model.encode_query(model.processor([content], "query")).vectors

    whole = vector(FRAMES)
    assert torch.equal(vector((FRAMES[0], picture(9, (64, 64)), FRAMES[2], FRAMES[1], FRAMES[4])), whole)
    assert not torch.allclose(vector((FRAMES[0], FRAMES[1], FRAMES[3], FRAMES[2], FRAMES[4])), whole, atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_rows_with_videos_pictures_and_text_share_a_batch(kind):
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}")).eval()
    contents = [
        Content("a", video=EncodedVideo(FRAMES[:3], 2.0)),
        Content("b c"),
        Content("d", (FRAMES[4],), video=EncodedVideo(FRAMES[1:3])),
        Content("e", (FRAMES[0],)),
    ]
    with torch.no_grad():
        inputs = model.processor(contents, "document")
        whole = model.encode_document(inputs).vectors
        alone = [model.encode_document(model.processor([content], "document")).vectors for content in contents]
        parts = [model.encode_document(part).vectors for part in inputs.split(2)]
    assert torch.allclose(torch.cat(alone), whole, atol=1e-5)
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava_next", "gemma3", "paligemma"])
def test_a_family_without_videos_sees_each_frame_as_a_picture(kind):
    processor = processor_of(kind)
    video = processor([Content("what", video=EncodedVideo(FRAMES[:3]))], "query")
    pictures = processor([Content("what", FRAMES[:3])], "query")
    assert torch.equal(video.dense["input_ids"], pictures.dense["input_ids"])
    assert torch.equal(video.ragged["pixel_values"][0], pictures.ragged["pixel_values"][0])


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "internvl"])
def test_frames_are_not_cut_into_tiles(kind):
    video = processor_of(kind)([Content("what", video=EncodedVideo(FRAMES[:3]))], "query")
    assert len(video.ragged["pixel_values"][0]) == 3


@pytest.mark.parametrize("kind", [kind for kind in STILL if "{}" not in FAMILIES[kind].PLACEHOLDER])
def test_where_frames_are_pictures_the_video_stands_behind_them(kind):
    processor = processor_of(kind)
    token = processor.family.PLACEHOLDER
    good = Content(f"{token} then <|video|> what", FRAMES[:1], video=EncodedVideo(FRAMES[1:3]))
    assert len(processor([good], "query").ragged["pixel_values"][0]) >= 3
    bad = Content(f"<|video|> then {token} what", FRAMES[:1], video=EncodedVideo(FRAMES[1:3]))
    with pytest.raises(SampleError, match="this backbone reads a video behind the row's pictures only"):
        processor([bad], "query")


def test_qwen_reads_a_video_before_a_picture():
    content = Content("<|video|> then <|image_1|> what", FRAMES[:1], video=EncodedVideo(FRAMES[1:3]))
    processor = processor_of("qwen2_vl")
    ids = processor([content], "query").dense["input_ids"][0].tolist()
    assert ids[0] == processor.video_id
    assert processor.image_id in ids


def test_frames_of_several_sizes_are_refused():
    frames = (FRAMES[0], picture(1, (90, 60)))
    with pytest.raises(SampleError, match="frames of one video have several sizes: 64 x 64, 90 x 60"):
        processor_of("qwen2_vl")([Content("a", video=EncodedVideo(frames))], "query")


def test_prompts_hold_the_video_as_published():
    video = EncodedVideo(FRAMES)
    assert compose(Content("who", (), "Find:", video=video), "<i>", "<v>") == "<v> Find: who"
    assert compose(Content(None, FRAMES[:1], video=video), "<i>", "<v>") == "<i> <v> "
    assert compose(Content("see <|video|>\n", video=video), "<i>", "<v>") == "see <v>\n"
    with pytest.raises(SampleError, match="2 placeholders <v> in its text, but 1 videos"):
        compose(Content("<v> <v>", video=video), "<i>", "<v>")


def test_qwen3_says_the_time_of_each_pair_of_frames():
    processor = processor_of("qwen3_vl")
    frames = [Image.new("RGB", (64, 64))] * 3
    seen = processor.family.videos([Film(frames, [0.0, 1.0, 3.0]), Film(frames[:2])])
    shown = "<|vision_start|><|video_pad|><|vision_end|>"
    # The third frame is shown twice; without times two frames count as a second.
    assert seen.markup == [f"<0.5 seconds>{shown}<3.0 seconds>{shown}", f"<0.2 seconds>{shown}"]
    assert seen.places == [4, 4, 4]


def test_qwen25s_positions_know_how_fast_a_video_is():
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny:qwen2_5_vl", positions="mrope"))
    rate = model.spec.config["vision_config"]["tokens_per_second"]
    for fps, step in ((None, rate), (2.0, rate), (0.5, 4 * rate)):
        inputs = model.processor([Content("a", video=EncodedVideo(FRAMES[:4], fps))], "query")
        dense = inputs.dense
        time = model.family.mrope(dense["input_ids"], dense["attention_mask"], inputs.ragged)[0, 0]
        video = time[dense["input_ids"][0] == model.processor.video_id]
        assert video.unique().tolist() == [0, step]


@pytest.mark.parametrize("name", ["preflmr", "vlmo"])
def test_models_of_still_pictures_refuse_a_video(name):
    configs = {
        "preflmr": PreFLMR.SIZES["tiny"],
        "vlmo": VLMoConfig(size="tiny", tokenizer="tiny", image_px=32),
    }
    model = MODELS[name].from_config(configs[name])
    with pytest.raises(SampleError, match=r"v7 has a video, which .* does not read; give it frames as images"):
        model.processor([Content("a", video=EncodedVideo(FRAMES), id="v7")], "query")
