import pytest
import torch
from msgspec import structs

from mmret.errors import ConfigError
from mmret.models import PreFLMR, PreFLMRConfig
from mmret.objectives import HardNegative, HardNegativeConfig, Step
from mmret.types import Batch, Content, Inputs
from tests.unit.models.toys import picture, toy_model

QUERIES = [Content("find: the red flag", (picture(1),)), Content("find: who", (picture(2),)), Content("find: a map")]
DOCUMENTS = [Content("red, a flag"), Content("who is this"), Content("a map of the city", (picture(3),)), Content("b")]


@torch.no_grad()
def queries(model, contents=QUERIES, **switches):
    return model.encode_query(model.processor(contents, "query", **switches))


@torch.no_grad()
def documents(model, contents=DOCUMENTS):
    return model.encode_document(model.processor(contents, "document"))


def test_a_query_is_text_then_prefix_then_patches():
    model = toy_model()
    found = queries(model)
    assert found.vectors.shape[1] == model.query_length == 16 + 2 + 4
    assert not found.mask[0, 2:4].any(), "instruction and separator do not count"
    assert found.mask[:, 16:].all()


def test_masked_places_are_exactly_zero():
    found = queries(toy_model())
    assert torch.equal(found.vectors[~found.mask], torch.zeros(int((~found.mask).sum()), 8))


def test_masked_query_places_leave_float16_gradients_finite_and_near_those_of_float32():
    """A zero vector's norm has a gradient of 1e12 times what the score's is, which float16 does not hold."""

    def gradient(dtype):
        model = toy_model()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            found = model.encode_query(model.processor(QUERIES, "query"))
            given = model.encode_document(model.processor(DOCUMENTS, "document"))
        assert not found.mask.all()
        model.score(found, given).sum().backward()
        return model.query_text_linear.weight.grad

    half, full = gradient(torch.float16), gradient(torch.float32)
    assert float((half - full).abs().max()) < 0.03 * float(full.abs().max())


def test_stage_one_leaves_the_text_out_but_still_reads_it():
    model = toy_model(query_text_in_score=False)
    found = queries(model)
    assert found.vectors.shape[1] == model.query_length == 6
    other = queries(model, [structs.replace(QUERIES[0], text="find: blue"), *QUERIES[1:]])
    assert torch.equal(other.vectors[0, :2], found.vectors[0, :2]), "prefix tokens know no text"
    assert not torch.allclose(other.vectors[0, 2:], found.vectors[0, 2:], atol=1e-3)


def test_the_mapping_network_lets_patches_see_later_patches():
    model = toy_model()
    inputs = model.processor(QUERIES[:1], "query")
    with torch.no_grad():
        hidden, states = model.text_states(inputs, "query"), model.vision_states(inputs, "query")[1]
        changed = states.clone()
        changed[:, -1] += 1
        visible = inputs.dense["cross_visible"]
        assert not torch.allclose(
            model._mapped(changed, hidden, visible)[0, 0], model._mapped(states, hidden, visible)[0, 0]
        )


def test_switched_off_rows_are_zero_and_others_unchanged():
    model = toy_model()
    whole = queries(model)
    found = queries(model, use_text=[True, False, True], use_image=[False, True, True])
    assert not found.vectors[0, 16:].any() and not found.mask[0, 16:].any()
    assert not found.vectors[1, :16].any() and not found.mask[1, :16].any()
    assert torch.equal(found.vectors[0, :16], whole.vectors[0, :16])
    assert torch.equal(found.vectors[2], whole.vectors[2])


def test_a_skipped_picture_scores_as_a_text_only_batch():
    model = toy_model(missing_image="skip")
    mixed = model.score(queries(model), documents(model))
    alone = model.score(queries(model, QUERIES[2:]), documents(model))
    assert queries(model, QUERIES[2:]).vectors.shape[1] == 16
    assert torch.allclose(mixed[2:], alone, atol=1e-5)


def test_document_pictures_come_first_and_missing_ones_are_masked():
    model = toy_model(document_vision=True)
    found = documents(model)
    assert found.mask[:, :2].tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    plain = documents(toy_model())
    assert torch.allclose(found.vectors[:, 2:], plain.vectors, atol=1e-6)


def test_documents_ignore_the_mapping_network_and_the_query_encoder():
    model = toy_model(document_vision=True)
    before = documents(model).vectors
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("mapping", "query_text")):
                parameter.add_(1)
    assert torch.equal(documents(model).vectors, before)


def test_several_pictures_make_prefix_tokens_in_order():
    model = toy_model(use_mapping=False, separate_text_encoders=False)
    both = queries(model, [Content("red", (picture(1), picture(2)))])
    for place, seed in ((16, 1), (18, 2)):
        one = queries(model, [Content("red", (picture(seed),))])
        assert torch.allclose(both.vectors[0, place : place + 2], one.vectors[0, 16:18], atol=1e-6)


def test_five_dimensional_pixels_with_a_mapping_network_are_refused():
    model = toy_model()
    inputs = model.processor(QUERIES[:1], "query")
    pixels = inputs.dense["pixel_values"]
    crops = Inputs({**inputs.dense, "pixel_values": pixels.unsqueeze(1).repeat(1, 3, 1, 1, 1)})
    with pytest.raises(ValueError, match=r"pixel_values \(1, 3, 3, 8, 8\).*mapping network a query has one picture"):
        model.encode_query(crops)
    with torch.no_grad():
        one = model.encode_query(Inputs({**inputs.dense, "pixel_values": pixels.unsqueeze(1)}))
        assert torch.equal(one.vectors, model.encode_query(inputs).vectors)


def test_a_shared_text_encoder_is_one_module_and_named_once():
    model = toy_model(separate_text_encoders=False)
    assert not any(name.startswith("query_text") for name in model.state_dict())
    assert model.towers()["query_text"] is model.towers()["document_text"]


def test_a_query_encoder_starts_as_the_document_encoders_copy():
    model = PreFLMR.from_config(PreFLMR.SIZES["tiny"])
    state = model.state_dict()
    sources = {key: model.handover_source(key) for key in state if key.startswith("query_text")}
    assert len(sources) > 20
    assert all(torch.equal(state[key], state[source]) for key, source in sources.items())
    assert model.handover_source("mapping_in.weight") is None


def test_a_text_only_model_has_no_vision_parts():
    model = toy_model(vision=None)
    assert not any(name.startswith(("vision", "prefix", "mapping")) for name, _ in model.named_parameters())
    assert queries(model).vectors.shape[1] == model.query_length == 16


def test_a_stage_without_pictures_keeps_the_vision_parts():
    model = toy_model(query_vision=False)
    assert queries(model).vectors.shape[1] == model.query_length == 16
    assert model.state_dict().keys() == toy_model().state_dict().keys()


def test_gradient_reaches_every_parameter():
    model = toy_model(document_vision=True)
    q, d = model.processor(QUERIES, "query"), model.processor(DOCUMENTS, "document")
    model.score(model.encode_query(q), model.encode_document(d)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_three_steps_from_a_converted_checkpoint_decrease_the_loss(precision, tmp_path):
    import mmret.models
    from mmret.models.preflmr import to_published

    to_published(toy_model(), tmp_path)
    model = mmret.models.load(tmp_path).train()
    batch = Batch(model.processor(QUERIES[:2], "query"), model.processor(DOCUMENTS, "document"), 2)
    objective = HardNegative(HardNegativeConfig())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            step = Step(model, batch)
            loss = objective(step).loss
        assert step.scores().dtype == torch.float32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2] > 0


def test_parameter_counts_of_the_released_sizes_need_no_download():
    # 327M / 543M / 2.1B in the published table, both text encoders counted.
    sizes = {
        "openai/clip-vit-base-patch32": 327,
        "openai/clip-vit-large-patch14": 543,
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": 2087,
    }
    for vision, millions in sizes.items():
        skeleton = PreFLMR.skeleton(PreFLMRConfig(vision=vision))
        assert sum(p.numel() for p in skeleton.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    assert skeleton.query_length == 320


def test_a_size_unknown_offline_is_an_error_that_lists_the_known():
    with pytest.raises(ConfigError, match=r"someone/encoder.*known: bert-base-uncased"):
        PreFLMR.skeleton(PreFLMRConfig(text="someone/encoder"))
    with pytest.raises(ConfigError, match=r"someone/tower.*known: openai"):
        PreFLMR.skeleton(PreFLMRConfig(vision="someone/tower"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dim": 0}, "model.dim must be at least 1"),
        ({"image_fit": "stretch"}, "model.image_fit must be one of crop, squash"),
        ({"image_mean": [0.5]}, "wants three numbers"),
        ({"vision": None, "query_text_in_score": False}, "leaves nothing of a query"),
        ({"document_text_in_score": False}, "leaves nothing of a document"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PreFLMRConfig(**settings)


def test_settings_that_do_not_fit_the_text_encoder_are_refused():
    with pytest.raises(ConfigError, match="document_tokens is 99, but the text encoder has positions for 64"):
        toy_model(document_tokens=99)
    with pytest.raises(ConfigError, match="3 heads do not divide"):
        toy_model(mapping_heads=3)
