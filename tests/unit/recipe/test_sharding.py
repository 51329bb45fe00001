"""What `trainer.strategy: fsdp2` refuses before anything starts."""

from types import SimpleNamespace

import pytest

from mmret.recipe import RecipeError, load_recipe
from mmret.recipe.schema import TrainerConfig
from mmret.recipe.sharding import check_sharding
from tests.fake_tables import TINY


def test_scaled_float16_is_refused(write):
    path = write(TINY)
    with pytest.raises(
        RecipeError,
        match=r"trainer\.precision  16-mixed with strategy fsdp2: each rank would judge by its own part of the "
        r"gradient whether float16 overflowed, .* use bf16-mixed, or strategy ddp",
    ):
        load_recipe(path, ["trainer.strategy=fsdp2", "trainer.precision=16-mixed"])
    load_recipe(path, ["trainer.strategy=fsdp2", "trainer.precision=bf16-mixed"])
    load_recipe(path, ["trainer.strategy=ddp", "trainer.precision=16-mixed"])


def test_a_device_without_collectives_is_refused(write):
    with pytest.raises(RecipeError, match=r"trainer\.accelerator  mps has no collectives to shard with"):
        load_recipe(write(TINY), ["trainer.strategy=fsdp2", "trainer.accelerator=mps"])


def test_packed_weights_are_refused():
    def found(kind):
        recipe = SimpleNamespace(
            trainer=TrainerConfig(strategy="fsdp2"), stages=[], model=SimpleNamespace(peft={"type": kind})
        )
        return list(check_sharding(recipe))

    [(path, text)] = found("qlora")
    assert path == ("model", "peft")
    assert text.startswith("qlora with strategy fsdp2: 4-bit weights are packed in blocks that a split")
    assert found("lora") == []


def test_an_average_of_weights_is_refused():
    stage = SimpleNamespace(optimizer=SimpleNamespace(ema_decay=0.99))
    recipe = SimpleNamespace(trainer=TrainerConfig(strategy="fsdp2"), stages=[stage], model=SimpleNamespace())
    ((path, text),) = check_sharding(recipe)
    assert path == ("stages", 0, "optimizer", "ema_decay") and "use strategy ddp" in text
