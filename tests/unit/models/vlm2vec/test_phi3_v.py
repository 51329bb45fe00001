"""Phi-3.5-V: our port beside transformers' own parts, its tokens in order, padding and chunks."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model

from mmret.models.backbones.phi3_v import arrange
from mmret.models.backbones.vlm_phi3_v import DECODER
from mmret.objectives import ITC, ITCConfig, Step
from mmret.ops.grad_cache import CachedEncoding, fixed_chunks
from mmret.types import Batch, Inputs
from tests.unit.models.vlm2vec.phi3_v import CONTENTS, SPEC, model_of, vectors


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 1)])
def test_tokens_run_over_whole_lines_of_the_picture_not_crop_by_crop(rows, columns):
    side, channels = 4, 2
    views = torch.randn(1 + rows * columns, side, side, channels)
    end, between = torch.randn(4 * channels), torch.randn(4 * channels)

    def cell(view, row, column):
        return torch.cat([view[2 * row + i, 2 * column + j] for i in (0, 1) for j in (0, 1)])

    expected, half = [], side // 2
    for line in range(rows * half):
        for place in range(columns * half):
            view = views[1 + line // half * columns + place // half]
            expected.append(cell(view, line % half, place % half))
        expected.append(end)
    expected.append(between)
    for line in range(half):
        expected += [cell(views[0], line, place) for place in range(half)] + [end]
    assert torch.equal(arrange(views, rows, columns, end, between), torch.stack(expected))


def test_patches_are_clips_second_to_last_layer_without_the_class_token():
    tokens = model_of().vlm.vision_embed_tokens
    published = CLIPVisionModel(CLIPVisionConfig(**SPEC.config["img_processor"]["vision_config"])).eval()
    inner = getattr(published, "vision_model", published)
    inner.load_state_dict(tokens.img_processor["vision_model"].state_dict())
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        expected = published(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        found = tokens.patches(pixels).flatten(1, 2)
    torch.testing.assert_close(found, expected)


def test_separators_are_read():
    model = model_of()
    before = vectors(model, CONTENTS)
    for name in ("glb_GN", "sub_GN"):
        with torch.no_grad():
            getattr(model.vlm.vision_embed_tokens, name).add_(1)
        after = vectors(model, CONTENTS)
        assert (after - before).abs().amax(1).gt(1e-4).tolist() == [True, False, True, False]
        before = after


@pytest.mark.parametrize("length", [16, 17])
def test_text_states_are_transformers_phi3s_in_short_and_long_batches(length):
    model = model_of(original=16)
    config = model.spec.config
    library = Phi3Model(
        Phi3Config(
            **{key: config[key] for key in DECODER},
            rope_theta=config["rope_theta"],
            rope_scaling={**config["rope_scaling"], "type": "longrope"},
        )
    ).eval()
    library.load_state_dict(model.vlm.state_dict(), strict=False)
    ids = torch.randint(1, 90, (2, length))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        ours = model.hidden(ids, mask, Inputs({"input_ids": ids, "attention_mask": mask}))
        theirs = library(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_each_row_is_encoded_as_alone():
    model = model_of()
    alone = torch.cat([vectors(model, [content]) for content in CONTENTS])
    assert torch.allclose(vectors(model, CONTENTS), alone, atol=1e-5)


def test_padding_stands_right_as_published_and_left_gives_the_same():
    model = model_of()
    assert model.processor(CONTENTS, "query").dense["attention_mask"][:, 0].all()
    right = vectors(model, CONTENTS)
    model.processor.padding = "left"
    assert torch.allclose(vectors(model, CONTENTS), right, atol=1e-5)


def test_the_width_of_the_batch_decides_the_stretch_of_positions():
    model = model_of(original=16)
    alone, among = vectors(model, CONTENTS[3:]), vectors(model, CONTENTS)[3:]
    assert (alone - among).abs().max() > 1e-3  # "the capital ..." has fewer than 16 tokens, the batch has more


def test_chunks_of_a_long_batch_keep_its_stretch_of_positions():
    model = model_of(original=16)
    queries = model.processor(CONTENTS, "query")
    assert queries.dense["attention_mask"].sum(1).tolist()[1] < 16 < queries.dense["input_ids"].shape[1]
    batch = Batch(queries, model.processor(CONTENTS[::-1], "document"), 1)
    objective = ITC(ITCConfig(temperature=0.5, symmetric=False))
    objective(Step(model, batch)).loss.backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    one = CachedEncoding(model.encode_query, batch.query, fixed_chunks(4, 1))
    two = CachedEncoding(model.encode_document, batch.document, fixed_chunks(4, 3))
    objective(Step(model, batch, queries=one.embeddings, documents=two.embeddings)).loss.backward()
    one.replay()
    two.replay()
    for name, gradient in whole.items():
        found = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_what_lies_above_the_read_layer_gets_no_gradient():
    model = model_of()
    model.encode_query(model.processor(CONTENTS, "query")).vectors[:, 0].sum().backward()
    without = {name for name, parameter in model.vlm.named_parameters() if parameter.grad is None}
    tower = "vision_embed_tokens.img_processor.vision_model"
    assert without and all(
        name.startswith((f"{tower}.encoder.layers.2.", f"{tower}.post_layernorm")) for name in without
    )


def test_the_pad_tokens_row_gets_no_gradient():
    model = model_of()
    pad = model.spec.config["pad_token_id"]
    ids = torch.tensor([[3, pad, 4]])
    model.encode_query(Inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)})).vectors[0, 0].backward()
    gradient = model.vlm.embed_tokens.weight.grad
    assert gradient[pad].abs().max() == 0 and gradient[3].abs().max() > 0
