"""VLMo's stages by two processes end where one process does, though each leaves other parameters without gradient."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmret.data import Sample, write_shards
from tests.unit.models.toys import picture

pytestmark = pytest.mark.dist

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
WORDS = ["red", "blue", "green", "black", "white", "flag", "star", "map", "cat", "dog", "tree", "house"]
RECIPE = """\
name: small
model:
  name: vlmo
  size: tiny
  tokenizer: tiny
  image_px: 16
  patch_px: 8
  relative_text_span: 24
  max_text_tokens: 12
  drop_path: 0.0   # its draws differ between ranks
stages:
  - name: language   # picture parts and pooler are frozen
    steps: 3
    model: {vl_layers: 0, contrastive: none, max_text_tokens: 24}
    data: {batch_size: 8, sources: {texts.yaml: 1}}
    objectives: {mlm: {text_only: true}}
    optimizer: &optimizer {lr: 1e-3, eps: 1e-3}   # a large epsilon: Adam would blow rounding up to a step's size
    lr_scale: {'backbone\\.(text|modality|norm)\\.|experts\\.text\\.|positions\\.table|objectives\\.': 1, '.*': 0}
  - name: joint
    steps: 3
    data: {batch_size: 8, sources: {pairs.yaml: 1}}
    objectives:
      itc: {temperature: 0.07, learn_temperature: true}
      itc_vl: {name: itc, head: vl, temperature: 0.07, learn_temperature: true}
      itm: {}
      mlm: {weight: 0.25}
    optimizer: *optimizer
  - name: retrieval   # nothing reads the pooler or the vision-language experts
    steps: 3
    model: {contrastive: main}
    data: {batch_size: 8, sources: {pairs.yaml: 1}}
    objectives: {itc: {temperature: 0.07}, itm: {weight: 0}}
    optimizer: *optimizer
  - name: answers   # nothing reads the upper text and picture experts
    steps: 3
    model: {contrastive: none}
    data: {batch_size: 8, sources: {pairs.yaml: 1}}
    objectives: {answer: {name: classify, num_classes: 3}}
    optimizer: *optimizer
trainer: {accelerator: cpu}
"""


def caption(number: int) -> str:
    words = " ".join(WORDS[(number * factor + factor) % len(WORDS)] for factor in (1, 5, 7))
    return words + (" and more words here" if number % 3 == 0 else "")  # ranks have texts of other lengths


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlmo")
    texts = [Sample(str(n), {"query": {"text": caption(n)}}) for n in range(64)]
    pairs = [
        Sample(
            str(n),
            {"query": {"images": ["png"]}, "positives": [{"text": caption(n)}], "label": n % 3},
            {"png": picture(n, (16, 16)).data},
        )
        for n in range(64)
    ]
    (folder / "classes.txt").write_text("a\nb\nc\n")
    for name, samples in (("texts", texts), ("pairs", pairs)):
        write_shards(samples, folder, name)
        (folder / f"{name}.yaml").write_text(f"name: toy/{name}\nshards: {name}.manifest.json\nclasses: classes.txt\n")
    (folder / "small.yaml").write_text(RECIPE)
    return folder


def run(place, *command):
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "LT_", "PYTEST_"))}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*map(str, command)], cwd=place, env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_every_stage_ends_where_one_process_ends(place):
    own = ["-m", "tests.distributed.likeliest_negatives", "run", "small.yaml"]
    run(place, sys.executable, *own, "out=alone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run(place, BIN / "torchrun", "--nproc-per-node=2", f"--master-port={port}", *own, "out=together")
    for stage in ("language", "joint", "retrieval", "answers"):
        one, two = (load_file(place / out / stage / "model/model.safetensors") for out in ("alone", "together"))
        assert one.keys() == two.keys()
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-6, stage
    before, after = (
        load_file(place / "together" / stage / "model/model.safetensors") for stage in ("joint", "retrieval")
    )
    # What no process reached was left alone, by weight decay too.
    assert all(torch.equal(after[name], before[name]) for name in after if "pooler" in name or "experts.vl" in name)
    assert not torch.equal(after["projections.text.weight"], before["projections.text.weight"])
    record = json.loads((place / "together/retrieval/stage.json").read_text())
    assert "objectives.itm (2)" in record["handover"]["dropped"]
