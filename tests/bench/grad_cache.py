"""A GradCache step against the plain step: time, and the most memory that a step's tensors take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm import vlm_spec
from mmret.objectives import ITCConfig
from mmret.recipe.schema import GradCacheConfig, MixtureConfig, OptimizerConfig, Stage
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Content
from tests.bench.harness import Row, race
from tests.live_bytes import peak_bytes

CHUNK, LORA = 8, {"type": "lora", "r": 8}
WORDS = ("flag", "red", "city", "which", "where", "colour", "large", "answer")


def run() -> list[Row]:
    """A VLM2Vec of width 128 with LoRA on texts of 4 to 60 tokens: 64 pairs for time, 8 to 128 for memory."""
    model = model_of(width=128, layers=4)
    contestants = {
        f"grad_cache, chunks of {CHUNK}, all kept": GradCacheConfig(chunk_size=CHUNK, keep_graph="auto"),
        f"grad_cache, chunks of {CHUNK}": GradCacheConfig(chunk_size=CHUNK),
        "grad_cache, 480 tokens a chunk": GradCacheConfig(tokens_per_chunk=480),
        "plain": None,
    }
    batch = batch_of(model, 64)
    rows = race(
        "one step, 64 pairs of ragged texts, LoRA",
        {name: step_of(model, cache, batch) for name, cache in contestants.items()},
        work=64,
        unit="pairs",
    )
    for name in (f"grad_cache, chunks of {CHUNK}", "plain"):
        for times in (1, 4, 16):
            step = step_of(model, contestants[name], batch_of(model, times * CHUNK))
            step()
            pairs = times * CHUNK
            row = race(f"peak memory of a step, {pairs} pairs", {name: step}, work=pairs, unit="pairs", repeats=1)[0]
            row.peak_mb = peak_bytes(step) / 1e6
            rows.append(row)
    return rows


def model_of(width: int, layers: int) -> VLM2Vec:
    """The tiny VLM2Vec made wide enough that arithmetic counts, and not only calls."""
    torch.manual_seed(0)
    config, spec = VLM2VecConfig(backbone="tiny", peft=LORA), vlm_spec("tiny")
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    heads = {"num_attention_heads": width // 16, "num_key_value_heads": width // 32}
    text = {**spec.config["text_config"], **sizes, **heads, "layer_types": ["full_attention"] * layers}
    vision = {**spec.config["vision_config"], "hidden_size": width}
    wide = {**spec.config, "text_config": text, "vision_config": vision}
    return VLM2Vec(config, spec=replace(spec, config=wide))


def batch_of(model: VLM2Vec, pairs: int) -> Batch:
    """Texts of very different lengths, as questions and passages are."""
    lengths = torch.randint(4, 60, (2 * pairs,), generator=torch.Generator().manual_seed(1)).tolist()
    texts = [" ".join(WORDS[(i + k) % len(WORDS)] for k in range(length)) for i, length in enumerate(lengths)]
    sides = [[Content(text, id=str(i)) for i, text in enumerate(half)] for half in (texts[:pairs], texts[pairs:])]
    return Batch(model.processor(sides[0], "query"), model.processor(sides[1], "document"), 1)


def step_of(model: VLM2Vec, cache: GradCacheConfig | None, batch: Batch) -> Callable[[], None]:
    """Forward and backward of one batch, without the optimizer."""
    stage = Stage(
        name="bench",
        steps=1,
        data=MixtureConfig(sources={}, batch_size=len(batch)),
        objectives={"itc": ITCConfig(temperature=0.02, symmetric=False)},
        optimizer=OptimizerConfig(lr=1e-3),
        grad_cache=cache,
    )
    module = (RetrievalModule if cache is None else ContrastiveModule)(model, stage)
    module.log_outputs = lambda total, outputs: None

    def step() -> None:
        module.zero_grad()
        if isinstance(module, ContrastiveModule):
            module.manual_backward = lambda loss: loss.backward()  # pyright: ignore[reportAttributeAccessIssue]
            module.cached_backward(batch)
        else:
            module.training_step(batch, 0).backward()

    return step
