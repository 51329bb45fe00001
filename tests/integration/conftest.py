import json
from pathlib import Path

import pytest

from mmret.recipe import load_recipe
from mmret.training.stages import run_recipe
from tests.builders import build_toy_source

RECIPE = """
name: toy
seed: 1
out: {out}
model:
  name: preflmr
  text: tiny
  vision: tiny
  dim: 32
  prefix_tokens: 4
  query_tokens: 16
  document_tokens: 24
  mapping_heads: 2
  cross_attention_tokens: 16
  separate_text_encoders: false
stages:
  - name: mapping
    steps: 6
    data: {{batch_size: 16, documents_per_query: 2, sources: {{{spec}: 1}}}}
    objectives: {{hard_negative: {{}}}}
    optimizer: {{lr: 1e-3}}
    lr_scale: {{'prefix|mapping': 1, '.*': 0}}
  - name: joint
    steps: 12
    model: {{separate_text_encoders: true}}
    data: {{batch_size: 16, documents_per_query: 2, sources: {{{spec}: 1}}}}
    objectives: {{hard_negative: {{}}}}
    optimizer: {{lr: 2e-3}}
    schedule: {{warmup_steps: 2}}
trainer: {{accelerator: cpu, checkpoint_every: 4, log_every: 2}}
evaluation:
  benchmarks: [{benchmark}]
  batch_size: 64
"""


@pytest.fixture(scope="session")
def toy_source(tmp_path_factory) -> Path:
    """Spec of a small learnable source; its benchmark lies beside it."""
    return build_toy_source(tmp_path_factory.mktemp("toy"), num=256)


@pytest.fixture
def toy_recipe(tmp_path, toy_source) -> Path:
    """A recipe of two short stages on it, writing to tmp_path/run."""
    path = tmp_path / "toy.yaml"
    benchmark = toy_source.parent / "benchmark.yaml"
    path.write_text(RECIPE.format(out=tmp_path / "run", spec=toy_source, benchmark=benchmark))
    return path


@pytest.fixture
def run(toy_recipe):
    """Run the toy recipe with overrides; gives the run's folder."""

    def call(*overrides, fresh=False):
        return run_recipe(load_recipe(toy_recipe, overrides), fresh=fresh)

    return call


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())
