"""Pooling, positions, chunks, and training in chunks."""

import pytest
import torch
from PIL import Image

from mmret.errors import ConfigError
from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm_family import Film
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.objectives import ITC, ITCConfig, Step
from mmret.ops.grad_cache import CachedEncoding, row_lengths, token_chunks
from mmret.types import Batch, Content, Embeddings
from tests.unit.models.toys import picture

KINDS = list(FAMILIES)
QWENS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("red"),
    Content("compare both of these", (picture(2, (120, 40)), picture(3, (50, 50)))),
    Content("the capital of the country, and its people"),
]


def model_of(kind, **settings):
    torch.manual_seed(2)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}", **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def vectors(model, contents):
    with torch.no_grad():
        return model.encode_query(model.processor(contents, "query")).vectors


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not FAMILIES[kind].WIDTH_COUNTS])
def test_padding_side_changes_nothing(kind):
    model = model_of(kind)
    left = vectors(model, CONTENTS)
    model.processor.padding = "right"
    assert torch.allclose(vectors(model, CONTENTS), left, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_before_a_text_row_is_not_mistaken_for_another(kind):
    # The reference's first version hands an image row after a text row the text row's dummy picture.
    model = model_of(kind)
    forward, backward = vectors(model, CONTENTS), vectors(model, CONTENTS[::-1])
    assert torch.allclose(forward, backward.flip(0), atol=1e-5)


@pytest.mark.parametrize("kind", QWENS)
def test_mrope_moves_rows_with_pictures_and_no_others(kind):
    plain, mrope = model_of(kind), model_of(kind, positions="mrope")
    ours, theirs = vectors(plain, CONTENTS), vectors(mrope, CONTENTS)
    for row, content in enumerate(CONTENTS):
        assert torch.allclose(ours[row], theirs[row], atol=1e-5) == (not content.images)


@pytest.mark.parametrize("kind", QWENS)
def test_mrope_is_the_librarys_where_the_library_can(kind):
    model = model_of(kind, positions="mrope")
    frames = [Image.new("RGB", (64, 96), colour) for colour in ("red", "blue", "green", "red")]
    prompts = ["a <|image_pad|> which", "red", "<|video_pad|> what <|image_pad|>"]
    inputs = model.processor.rows(prompts, [frames[:1], [], frames[1:2]], [[], [], [Film(frames)]])
    ids, mask = inputs.dense["input_ids"], inputs.dense["attention_mask"]
    types = (ids == model.processor.image_id).int() + 2 * (ids == model.processor.video_id).int()
    grids = {name: torch.cat(list(inputs.ragged[name])) for name in ("image_grid_thw", "video_grid_thw")}
    theirs, _ = model.vlm.get_rope_index(ids, mm_token_type_ids=types, attention_mask=mask, **grids)
    assert torch.equal(model.family.mrope(ids, mask, inputs.ragged), theirs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in QWENS])
def test_mrope_is_refused_where_positions_have_one_axis(kind):
    with pytest.raises(ConfigError, match=f"a {kind} model has one axis"):
        model_of(kind, positions="mrope")


@pytest.mark.parametrize("kind", ["gemma3", "paligemma"])
def test_attention_that_cannot_look_ahead_is_refused_where_the_model_does(kind):
    with pytest.raises(ConfigError, match=f"flash_attention_2 .* a {kind} model's"):
        model_of(kind, attention="flash_attention_2")


def test_text_positions_count_real_tokens_only():
    family = model_of("qwen2_vl").family
    positions = family.positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]))
    assert positions.shape == (3, 2, 4)
    assert positions[1, :, 2:].tolist() == [[0, 1], [2, 2]]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_in_chunks_by_tokens_is_the_whole_batchs(kind):
    model = model_of(kind)
    queries = model.processor(CONTENTS, "query")
    documents = model.processor(CONTENTS[::-1], "document")
    batch = Batch(queries, documents, 1)
    objective = ITC(ITCConfig(temperature=0.5, symmetric=False))

    objective(Step(model, batch)).loss.backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    chunks = token_chunks(row_lengths(queries), 40)
    assert 1 < len(chunks) < 4
    one = CachedEncoding(model.encode_query, queries, chunks, keep=1)
    two = CachedEncoding(model.encode_document, documents, token_chunks(row_lengths(documents), 40))
    objective(Step(model, batch, queries=one.embeddings, documents=two.embeddings)).loss.backward()
    one.replay()
    two.replay()
    largest = max(float(value.abs().max()) for value in whole.values())
    for name, parameter in model.named_parameters():
        if name in whole:
            assert float((parameter.grad - whole[name]).abs().max()) <= 1e-5 * largest, name


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_the_first_layer_of_the_tower(kind):
    model = model_of(kind).train()
    model.encode_query(model.processor(CONTENTS[:2], "query")).vectors[0, 0].backward()
    first = next(name for name, _ in model.named_parameters() if "patch_embed" in name and name.endswith("weight"))
    assert float(model.get_parameter(first).grad.abs().max()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(kind):
    def gradient(**settings):
        model = model_of(kind, **settings).train()
        model.encode_query(model.processor(CONTENTS, "query")).vectors[:, 0].sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    torch.testing.assert_close(gradient(gradient_checkpointing=True), gradient(), rtol=1e-4, atol=1e-6)


def test_bfloat16_weights_give_float32_unit_vectors():
    found = vectors(model_of("qwen2_vl", dtype="bfloat16"), CONTENTS)
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)


def test_score_is_the_cosine():
    model = model_of("qwen2_vl")
    found = Embeddings(vectors(model, CONTENTS))
    expected = torch.nn.functional.cosine_similarity(found.vectors[:, None], found.vectors[None], dim=2)
    assert torch.allclose(model.score(found, found), expected, atol=1e-6)


def test_skeleton_counts_parameters_without_memory():
    config = VLM2VecConfig(backbone="tiny", peft={"type": "lora", "target_modules": ["q_proj"]})
    skeleton, model = VLM2Vec.skeleton(config), VLM2Vec.from_config(config)
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert {n: p.shape for n, p in skeleton.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "rope"}, "model.positions: 'rope'; want one of text_1d, mrope"),
        ({"max_length": 0}, "model.max_length must be >= 1, got 0"),
        ({"max_length": 1, "end_token": "[SEP]"}, "model.max_length: 1 has room for the end token alone"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        VLM2VecConfig(backbone="tiny", **settings)


def test_an_unknown_family_is_named():
    with pytest.raises(ConfigError, match="no tiny 'qwen9'; known: qwen2_vl"):
        VLM2Vec.from_config(VLM2VecConfig(backbone="tiny:qwen9"))
