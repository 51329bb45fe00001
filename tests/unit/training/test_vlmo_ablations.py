"""The paper's ablations as settings of the model: each trains, is saved and opened again, and is handed over."""

import pytest
import torch

from mmret.data.collate import collate
from mmret.models import VLMo
from mmret.objectives import ITCConfig, ITMConfig, MLMConfig
from mmret.recipe.schema import MaskingConfig, MixtureConfig, OptimizerConfig, SourceConfig, Stage
from mmret.training.handover import hand_over
from mmret.training.module import RetrievalModule
from tests.unit.models.vlmo.toys import pictures, texts, toy_model
from tests.unit.training.test_vlmo_step import rows

ABLATIONS = {
    "no vl experts": {"vl_layers": 0},
    "vl experts in every block": {"vl_layers": 3},
    "standard transformer": {"multiway": False},
    "separate attention": {"shared_attention": False},
    "separate attention, absolute": {"shared_attention": False, "positions": "absolute", "layer_scale": 0.0},
    "standard transformer, one loss": {"multiway": False, "contrastive": "main"},
}
each = pytest.mark.parametrize("settings", ABLATIONS.values(), ids=ABLATIONS.keys())


@each
def test_it_learns_by_all_objectives(settings):
    model = toy_model(noise=0.0, **settings)
    released = {"temperature": 0.07, "learn_temperature": True}
    objectives = {"itc": ITCConfig(**released), "itm": ITMConfig(), "mlm": MLMConfig(weight=0.25)}
    if "vl" in model.config.heads_of:
        objectives["itc_vl"] = ITCConfig(head="vl", **released)
    data = MixtureConfig(sources={"toy": SourceConfig()}, batch_size=4)
    training = RetrievalModule(model, Stage("pairs", 4, data, objectives, OptimizerConfig(lr=1e-2)))
    training.log = training.log_dict = lambda *args, **settings: None
    batch = collate(rows(), model.processor, MaskingConfig())
    optimizer = torch.optim.AdamW(training.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        torch.manual_seed(0)
        loss = training.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@each
def test_it_opens_as_it_was_saved(settings, tmp_path):
    model = toy_model(**settings)
    model.save(tmp_path)
    opened = VLMo.load(tmp_path).eval()
    assert opened.config.resolved == VLMo.load(tmp_path).config.resolved
    assert all(getattr(opened.config, key) == value for key, value in settings.items())
    assert torch.equal(opened.encode_pair(texts(), pictures()).pooled, model.encode_pair(texts(), pictures()).pooled)
    assert torch.equal(opened.encode(texts()).vectors, model.encode(texts()).vectors)


@each
def test_the_next_stage_of_the_same_kind_keeps_everything(settings):
    before, after = toy_model(**settings), toy_model(seed=1, **settings)
    report = hand_over(after, before.state_dict(), "previous")
    assert not (report.new or report.dropped or report.copied)
    assert torch.equal(after.encode_pair(texts(), pictures()).pooled, before.encode_pair(texts(), pictures()).pooled)


def test_separate_attention_starts_as_copies_of_a_shared_one():
    shared, separate = toy_model(), toy_model(seed=1, shared_attention=False)
    report = hand_over(separate, shared.state_dict(), "previous")
    assert not (report.new or report.dropped)
    assert {key.split(".attention.")[0] for key in report.copied} == {f"backbone.blocks.{n}" for n in range(3)}
    torch.testing.assert_close(
        separate.encode_pair(texts(), pictures()).pooled, shared.encode_pair(texts(), pictures()).pooled
    )


def test_a_standard_transformer_takes_the_image_experts_of_multiway_as_a_vision_stage_leaves_them():
    multiway, standard = toy_model(contrastive="main"), toy_model(seed=1, multiway=False)
    report = hand_over(standard, multiway.state_dict(), "previous")
    assert not report.new
    assert all(new == old.replace(".image.", ".all.") for new, old in report.copied.items())
    assert all(".experts.text." in key or ".experts.vl." in key for key in report.dropped)
    torch.testing.assert_close(standard.encode_image(pictures()), multiway.encode_image(pictures()))


def test_more_vl_experts_are_new_and_fewer_are_dropped():
    one, two = toy_model(vl_layers=1), toy_model(seed=1, vl_layers=2)
    grown, shrunk = hand_over(two, one.state_dict(), "previous"), hand_over(one, two.state_dict(), "previous")
    names = [key for key in two.state_dict() if key.startswith("backbone.blocks.1.experts.vl.")]
    assert grown.new == shrunk.dropped == names
