"""Stages that change the picture's size: our own checkpoints are resampled, and the report says so."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mmret.data import Sample, write_shards
from mmret.models.vlmo.resize import resize_absolute, resize_table
from mmret.recipe import load_recipe
from mmret.training.stages import run_recipe
from tests.unit.models.toys import picture

RECIPE = """
name: sizes
out: {out}
model:
  name: vlmo
  size: tiny
  tokenizer: tiny
  positions: {positions}
  image_px: 16
  patch_px: 4
  max_text_tokens: 12
  relative_text_span: 20
stages:
  - name: language
    steps: 1
    model: {{vl_layers: 0, contrastive: none, max_text_tokens: 20}}
    data: {{batch_size: 4, sources: {{{texts}: 1}}}}
    objectives: {{mlm: {{text_only: true}}}}
    optimizer: {{lr: 1e-3}}
  - name: pairs
    steps: 1
    data: {{batch_size: 4, sources: {{{pairs}: 1}}, augment: {{}}}}
    objectives: {{itc: {{temperature: 0.07}}, itm: {{}}, mlm: {{}}}}
    optimizer: {{lr: 1e-3}}
  - name: larger
    steps: 1
    model: {{image_px: 24, contrastive: main}}
    data: {{batch_size: 4, sources: {{{pairs}: 1}}, augment: {{}}}}
    objectives: {{itc: {{temperature: 0.07}}}}
    optimizer: {{lr: 1e-12, weight_decay: 0}}
  - name: largest
    steps: 1
    model: {{image_px: 32, contrastive: none}}
    data: {{batch_size: 4, sources: {{{pairs}: 1}}}}
    objectives: {{answer: {{name: classify, num_classes: 2}}}}
    optimizer: {{lr: 1e-12, weight_decay: 0}}
trainer: {{accelerator: cpu}}
"""


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    texts = [Sample(str(n), {"query": {"text": f"a text of number {n}"}}) for n in range(8)]
    pairs = [
        Sample(
            str(n),
            {"query": {"images": ["png"]}, "positives": [{"text": f"picture {n}"}], "label": n % 2},
            {"png": picture(n, (20, 20)).data},
        )
        for n in range(8)
    ]
    (folder / "classes.txt").write_text("even\nodd\n")
    for name, samples in (("texts", texts), ("pairs", pairs)):
        write_shards(samples, folder, name)
        (folder / f"{name}.yaml").write_text(f"name: toy/{name}\nshards: {name}.manifest.json\nclasses: classes.txt\n")
    return {name: folder / f"{name}.yaml" for name in ("texts", "pairs")}


@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_positions_are_resampled_from_stage_to_stage(positions, specs, tmp_path, caplog):
    path = tmp_path / "sizes.yaml"
    path.write_text(RECIPE.format(out=tmp_path / "run", positions=positions, **specs))
    with caplog.at_level("INFO"):
        folder = run_recipe(load_recipe(path))
    state = {name: load_file(folder / name / "model/model.safetensors") for name in ("pairs", "larger", "largest")}
    key = "backbone.positions.table" if positions == "relative" else "backbone.image.position"
    for before, after, window in (("pairs", "larger", 6), ("larger", "largest", 8)):
        one = state[before][key]
        expected = resize_table(one, window, 20) if positions == "relative" else resize_absolute(one, window)
        torch.testing.assert_close(state[after][key], expected, atol=1e-8, rtol=0)  # trained by 1e-12
        report = json.loads((folder / after / "stage.json").read_text())["handover"]
        shapes = f"{key} {tuple(one.shape)} to {tuple(expected.shape)}"
        assert shapes in report["resized"] and shapes in caplog.text
    assert "backbone.text.position (20, 32) to (12, 32)" in caplog.text
