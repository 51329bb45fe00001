"""Folders that transformers wrote, opened by us: ids, pixels and embeddings are its own processor's and model's."""

import copy
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from transformers.models.idefics3.modeling_idefics3 import Idefics3Model
from transformers.models.smolvlm import processing_smolvlm
from transformers.video_utils import VideoMetadata

import mmret
from mmret.models.vlm2vec.prompt import compose
from mmret.types import Content, EncodedVideo
from tests.unit.models.toys import picture
from tests.unit.models.vlm2vec.library import LIBRARY, published

CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("compare\n", (picture(2, (120, 40)), picture(3, (50, 50))), "Answer:"),
    Content("\nWhat <|image_1|>\nis this?\n", (picture(4, (33, 200)),)),
    Content("where is the city"),
]
VIDEOS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"]


@pytest.fixture(scope="module", params=LIBRARY)
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        # Only its video prompts need that package, but its processor refuses to be built without.
        patch.setattr(processing_smolvlm, "num2words", str)
        theirs, processor = published(request.param, folder)
    if request.param == "smolvlm" and hasattr(theirs.model, "inputs_merger"):
        # Its own fails at toy sizes before transformers 5.23 (`SmolVLM.build`); that of Idefics3, its base, does not.
        theirs.model.inputs_merger = partial(Idefics3Model.inputs_merger, theirs.model)
    return theirs, processor, mmret.load(folder)


def library_inputs(processor, ours, content, **further):
    text = compose(content, ours.family.PLACEHOLDER, ours.family.VIDEO_PLACEHOLDER)
    images = [image.decode() for image in content.images]
    inputs = processor(text=[text], images=[images] if images else None, return_tensors="pt", **further)
    if ours.family.MROPE:
        length = inputs["input_ids"].shape[1]
        inputs["position_ids"] = torch.arange(length).expand(3, 1, length)
        inputs.pop("second_per_grid_ts", None)
    return inputs


def library_vector(model, inputs):
    with torch.no_grad():
        return normalize(model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1], dim=0)


def flat(values):
    return torch.as_tensor(values).float().flatten()


@pytest.mark.parametrize("content", CONTENTS, ids=["one", "two", "strip", "text"])
def test_ids_pixels_and_embedding_are_the_librarys(both, content):
    theirs, processor, ours = both
    if not content.images and ours.spec.model_type == "paligemma":
        pytest.skip("the library's processor refuses rows without a picture")
    expected = library_inputs(processor, ours, content)
    inputs = ours.processor([content], "query")
    assert torch.equal(inputs.dense["input_ids"], expected["input_ids"])
    if content.images:
        pixels, theirs_pixels = inputs.ragged["pixel_values"][0], expected["pixel_values"]
        if ours.spec.model_type == "llava_next":  # tiles that fill up pictures of fewer are all zero
            theirs_pixels = theirs_pixels.flatten(0, 1)
            theirs_pixels = theirs_pixels[theirs_pixels.flatten(1).any(1)]
        assert torch.equal(flat(pixels), flat(theirs_pixels))
    with torch.no_grad():
        found = ours.encode_query(inputs).vectors[0]
    assert torch.allclose(found, library_vector(theirs, expected), atol=1e-5)


def test_rows_of_one_batch_are_those_of_their_own(both):
    theirs, processor, ours = both
    contents = [content for content in CONTENTS if content.images]
    with torch.no_grad():
        found = ours.encode_query(ours.processor([CONTENTS[3], *contents], "query")).vectors[1:]
    for row, content in zip(found, contents):
        expected = library_vector(theirs, library_inputs(processor, ours, content))
        assert torch.allclose(row, expected, atol=1e-5)


def test_videos_are_the_librarys(both):
    theirs, processor, ours = both
    if ours.spec.model_type not in VIDEOS:
        pytest.skip("its frames are pictures")
    size = (56, 56) if ours.spec.model_type != "qwen3_vl" else (64, 96)
    frames = [picture(seed, size) for seed in range(4)]
    content = Content("what is on the map", video=EncodedVideo(tuple(frames), fps=4.0))
    metadata = VideoMetadata(total_num_frames=4, fps=4.0, frames_indices=[0, 1, 2, 3])
    pixels = torch.from_numpy(np.stack([np.asarray(frame.decode()) for frame in frames])).permute(0, 3, 1, 2)
    expected = library_inputs(
        processor,
        ours,
        content,
        videos=[[pixels]],
        video_metadata=[[metadata]],
        do_resize=False,
        do_sample_frames=False,
    )
    inputs = ours.processor([content], "document")
    assert torch.equal(inputs.dense["input_ids"], expected["input_ids"])
    name = "pixel_values_videos" if "pixel_values_videos" in expected else "pixel_values"
    assert torch.allclose(flat(inputs.ragged[name][0]), flat(expected[name]), atol=1e-5)
    with torch.no_grad():
        found = ours.encode_document(inputs).vectors[0]
    assert torch.allclose(found, library_vector(theirs, expected), atol=1e-5)


def test_an_adapter_that_peft_wrote_for_the_librarys_model_moves_ours_alike(both, tmp_path):
    theirs, _, ours = both
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], use_dora=True)
    wrapped = peft.get_peft_model(copy.deepcopy(theirs), config).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(tmp_path)
    adapted = mmret.load(tmp_path, backbone=ours.config.backbone)
    inputs = ours.processor(CONTENTS[:2], "query")
    mask = inputs.dense["attention_mask"]
    arguments = {**adapted.family.arguments(inputs.ragged), **adapted.family.token_arguments(inputs.dense["input_ids"])}
    with torch.no_grad():
        states = wrapped(
            **inputs.dense, position_ids=ours.family.positions(mask), output_hidden_states=True, **arguments
        ).hidden_states[-1]
        found, plain = adapted.encode_query(inputs).vectors, ours.encode_query(inputs).vectors
    assert torch.allclose(found, normalize(states[:, -1], dim=1), atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_files_of_older_versions_of_the_library_fit(both, tmp_path):
    _, _, ours = both
    folder = Path(ours.config.backbone)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    state = load_file(folder / "model.safetensors")
    old = {re.sub(r"^vision_tower\.(?!vision_model)", "vision_tower.vision_model.", key): state[key] for key in state}
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    # Settings of pictures once had a file of their own.
    settings = json.loads((tmp_path / "processor_config.json").read_text())["image_processor"]
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "processor_class": "Old"}))
    inputs = ours.processor(CONTENTS[:2], "query")
    opened = mmret.load(tmp_path)
    with torch.no_grad():
        again = opened.processor(CONTENTS[:2], "query")
        assert torch.equal(opened.encode_query(again).vectors, ours.encode_query(inputs).vectors)
