"""What `trainer.strategy: fsdp2` cannot do exactly, refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmret.recipe.problem import KeyPath
from mmret.recipe.schema import Recipe


def check_sharding(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Precision and weights are such that a rank's part of them is enough."""
    trainer = recipe.trainer
    if trainer.strategy != "fsdp2":
        return
    if trainer.precision == "16-mixed":
        text = (
            "16-mixed with strategy fsdp2: each rank would judge by its own part of the gradient whether float16 "
            "overflowed, and some would step where others do not; use bf16-mixed, or strategy ddp"
        )
        yield ("trainer", "precision"), text
    for number, stage in enumerate(recipe.stages):
        if stage.optimizer.ema_decay is not None:
            text = "ema_decay with strategy fsdp2: the average would be a whole copy on each rank; use strategy ddp"
            yield ("stages", number, "optimizer", "ema_decay"), text
    if trainer.accelerator == "mps":
        yield ("trainer", "accelerator"), "mps has no collectives to shard with; use strategy auto"
    peft = vars(recipe.model).get("peft")
    if isinstance(peft, Mapping) and peft.get("type") == "qlora":
        text = (
            "qlora with strategy fsdp2: 4-bit weights are packed in blocks that a split by rows would cut; use type "
            "lora, whose base fsdp2 shards, or strategy ddp"
        )
        yield ("model", "peft"), text
