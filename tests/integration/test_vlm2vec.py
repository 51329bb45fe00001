"""A tiny VLM2Vec from start to end: GradCache in every stage, adapters put in between, stopped and gone on with."""

import pytest
import torch
from safetensors.torch import load_file

from mmret.recipe import load_recipe
from mmret.training.contrastive import ContrastiveModule
from mmret.training.stages import run_recipe
from tests.integration.conftest import metrics

RECIPE = """
name: toy
seed: 1
out: {out}
model: {{name: vlm2vec, backbone: tiny}}
stages:
  - name: whole
    steps: 6
    data: {{batch_size: 16, documents_per_query: 2, sources: {{{spec}: 1}}}}
    objectives: {{itc: {{temperature: 0.05, symmetric: false}}}}
    optimizer: {{lr: 3e-3}}
    grad_cache: {{chunk_size: 5}}
  - name: adapters
    steps: 6
    model: {{peft: {{type: dora, r: 4, target_modules: [q_proj, up_proj]}}}}
    data: {{batch_size: 16, documents_per_query: 2, sources: {{{spec}: 1}}}}
    objectives: {{itc: {{temperature: 0.05, symmetric: false}}}}
    optimizer: {{lr: 3e-3}}
    schedule: {{warmup_steps: 2}}
    grad_cache: {{tokens_per_chunk: 200, keep_graph: auto}}
trainer: {{accelerator: cpu, checkpoint_every: 2, log_every: 2, accumulate: 2}}
evaluation:
  benchmarks: [{benchmark}]
  batch_size: 64
  controls: false
"""


@pytest.fixture
def run(tmp_path, toy_source):
    def call(*overrides):
        path = tmp_path / "toy.yaml"
        benchmark = toy_source.parent / "benchmark.yaml"
        path.write_text(RECIPE.format(out=tmp_path / "run", spec=toy_source, benchmark=benchmark))
        return run_recipe(load_recipe(path, overrides))

    return call


def weights(folder, stage):
    return load_file(folder / stage / "model" / "model.safetensors")


def test_adapters_start_from_the_stage_before_and_alone_are_trained(run):
    folder = run()
    before, after = weights(folder, "whole"), weights(folder, "adapters")
    for key, value in before.items():
        name = key if key in after else key.replace("_proj.", "_proj.base_layer.")
        assert torch.equal(after[name], value), key
    moved = [key for key in after if "lora_B" in key and float(after[key].abs().max()) > 0]
    assert len(moved) == 4  # 2 layers x 2 modules
    assert metrics(folder)


def test_stopped_between_steps_it_ends_as_if_nothing_had_happened(run, tmp_path, monkeypatch):
    calm = run(f"out={tmp_path / 'calm'}")
    step = ContrastiveModule._optimizer_step

    def fails_late(module):
        if module.stage.name == "adapters" and module.trainer.global_step == 5:
            raise RuntimeError("power cut")
        step(module)

    stopped = tmp_path / "stopped"
    monkeypatch.setattr(ContrastiveModule, "_optimizer_step", fails_late)
    with pytest.raises(RuntimeError, match="power cut"):
        run(f"out={stopped}")
    assert list((stopped / "adapters" / "checkpoints").glob("*.ckpt"))
    monkeypatch.undo()
    run(f"out={stopped}")
    one, other = weights(calm, "adapters"), weights(stopped, "adapters")
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_a_tiny_model_learns_the_toy_task(run):
    sizes = [f"stages.{stage}.data.batch_size=32" for stage in ("whole", "adapters")]
    folder = run("stages.whole.steps=200", *sizes, "trainer.accumulate=1", "trainer.checkpoint_every=1000")
    found = metrics(folder)
    assert found["shapes/heldout/recall@5"] > 0.9  # 5 of 32 by chance
    assert found["shapes/heldout/recall@1"] > 0.2
