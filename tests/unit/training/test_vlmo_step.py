"""The four pretraining losses of VLMo through collation and the training module."""

from dataclasses import asdict

import pytest
import torch
from msgspec.structs import replace

from mmret.data.collate import collate
from mmret.data.draw import Drawn
from mmret.errors import ConfigError
from mmret.objectives import ITCConfig, ITMConfig, MLMConfig
from mmret.recipe.schema import MaskingConfig, MixtureConfig, OptimizerConfig, SourceConfig, Stage
from mmret.training.module import RetrievalModule
from mmret.types import Content
from tests.unit.models.toys import picture
from tests.unit.models.vlmo.toys import toy_model

WORDS = ("red flag", "blue star of the town", "green map", "black and white picture")


def rows(swapped=False):
    drawn = []
    for number, words in enumerate(WORDS):
        sides = [Content(words, id=str(number)), Content(images=(picture(number, (20, 20)),), id=str(number))]
        query, document = reversed(sides) if swapped else sides
        drawn.append(Drawn("toy", f"toy:{number}", query, (document,), (number,), (number,), (0, "toy", 0, number)))
    return drawn


def module(itm=1.0, optimizer=None):
    stage = Stage(
        name="pairs",
        steps=4,
        data=MixtureConfig(sources={"toy": SourceConfig()}, batch_size=4),
        objectives={
            "itc": ITCConfig(temperature=0.07, learn_temperature=True, weight=0.5),
            "itc_vl": ITCConfig(temperature=0.07, learn_temperature=True, weight=0.5, head="vl"),
            "itm": ITMConfig(weight=itm),
            "mlm": MLMConfig(weight=0.25),
        },
        optimizer=optimizer or OptimizerConfig(lr=1e-2),
    )
    return RetrievalModule(toy_model(noise=0.0), stage)


@pytest.mark.parametrize("swapped", [False, True])
def test_all_losses_come_down_whichever_side_has_the_text(swapped):
    training = module()
    training.log = training.log_dict = lambda *args, **settings: None
    batch = collate(rows(swapped), training.model.processor, MaskingConfig())
    assert (batch.masked_query.dense["labels"] != -100).any(1).all()
    optimizer = torch.optim.AdamW(training.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        torch.manual_seed(0)
        loss = training.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]
    assert all(p.grad is not None for name, p in training.named_parameters() if "objectives" in name)


def test_negatives_are_drawn_by_the_temperature_that_itc_learns():
    training = module()
    with torch.no_grad():
        training.objectives["itc"].logit_scale.fill_(3.0)
    scales = training.learnt_scales()
    assert scales.keys() == {"main", "vl"}
    assert scales["main"] == pytest.approx(torch.tensor(3.0).exp())
    assert not scales["main"].requires_grad


def test_masks_depend_on_the_row_and_not_on_its_batch():
    processor = toy_model().processor
    whole = collate(rows(), processor, MaskingConfig()).masked_query.dense
    alone = collate(rows()[2:3], processor, MaskingConfig()).masked_query.dense
    width = alone["labels"].shape[1]
    assert torch.equal(whole["labels"][2:3, :width], alone["labels"])
    assert torch.equal(whole["input_ids"][2:3, :width], alone["input_ids"])


def test_masking_without_texts_or_vocabulary_says_so():
    pictures_only = [replace(row, query=row.documents[0]) for row in rows()]
    with pytest.raises(ConfigError, match="neither queries nor documents have any"):
        collate(pictures_only, toy_model().processor, MaskingConfig())
    plain = toy_model().processor

    def without(contents, role):
        return plain(contents, role)

    with pytest.raises(ConfigError, match="has no vocabulary"):
        collate(rows(), without, MaskingConfig())


def test_masking_is_a_setting_of_the_data():
    config = MixtureConfig(sources={}, batch_size=4, masking=MaskingConfig(rule="vlmo"))
    assert asdict(config)["masking"] == {"rule": "vlmo", "fraction": 0.15}


def test_an_objective_of_weight_0_is_not_built_and_costs_no_pass(monkeypatch):
    training = module(itm=0.0)
    training.log = training.log_dict = lambda *args, **settings: None
    assert training.objectives.keys() == {"itc", "itc_vl", "mlm"}
    passes = []
    read = training.model.encode_pair
    monkeypatch.setattr(training.model, "encode_pair", lambda *inputs: passes.append(1) or read(*inputs))
    training.training_step(collate(rows(), training.model.processor, MaskingConfig()), 0)
    assert len(passes) == 1  # mlm's; itm would read the batch three times more


def test_layer_decay_goes_by_the_depth_of_each_parameter(caplog):
    training = module(optimizer=OptimizerConfig(lr=1.0, layer_decay=0.5))  # three blocks
    with caplog.at_level("INFO"):
        optimizer = training.configure_optimizers()["optimizer"]
    names = {id(p): name for name, p in training.named_parameters()}
    rates = {names[id(p)]: group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        "model.backbone.text.word.weight": 0.5**4,
        "model.backbone.image.patch.bias": 0.5**4,
        "model.backbone.blocks.0.experts.text.fc1.weight": 0.5**3,
        "model.backbone.blocks.1.gamma_1": 0.5**2,
        "model.backbone.blocks.2.experts.vl.norm.weight": 0.5,
        "model.backbone.positions.table": 1.0,
        "model.backbone.norm.weight": 1.0,
        "model.projections.text.weight": 1.0,
        "objectives.itm.head.weight": 1.0,
        "objectives.itc.logit_scale": 1.0,
    }
    assert {name: rates[name] for name in expected} == expected
    assert "stage pairs: parameters by learning rate: x1: " in caplog.text
    assert "x0.0625, no decay: " in caplog.text
