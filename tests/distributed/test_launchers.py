"""One recipe under every launcher: two processes train together, and end where one process does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.builders import build_toy_source

pytestmark = pytest.mark.dist

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RECIPE = """\
name: small
model: {name: preflmr, text: tiny, vision: tiny, dim: 16, prefix_tokens: 4, query_tokens: 24, mapping_heads: 2}
stages:
  - name: mapping
    steps: 3
    data: {batch_size: 16, documents_per_query: 2, sources: {toy/toy.yaml: 1}}
    objectives: {hard_negative: {}}
    optimizer: {lr: 1e-3}
    lr_scale: {'text_linear': 1, '.*': 0}  # nothing with dropout trains: its draws differ between ranks
trainer: {accelerator: cpu}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the recipe and its data."""
    folder = tmp_path_factory.mktemp("launch")
    build_toy_source(folder / "toy", num=64)
    (folder / "small.yaml").write_text(RECIPE)
    return folder


def run(place, *command):
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "LT_", "PYTEST_"))}
    environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [str(part) for part in command], cwd=place, env=environ, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def alone(place):
    """What one process ends with."""
    done = run(place, sys.executable, "-m", "mmret", "run", "small.yaml", "out=alone")
    assert done.returncode == 0, done.stderr
    return load_file(place / "alone/mapping/model/model.safetensors")


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TORCHRUN = [BIN / "torchrun", "--nproc-per-node=2"]
FABRIC = [BIN / "fabric", "run", "--devices=2", "--accelerator=cpu"]
LAUNCHERS = {
    "lightning": lambda: [BIN / "lightning", "run", "small.yaml", "trainer.devices=2"],
    "fsdp2": lambda: [BIN / "lightning", "run", "small.yaml", "trainer.devices=2", "trainer.strategy=fsdp2"],
    "torchrun": lambda: [*TORCHRUN, f"--master-port={port()}", "-m", "mmret", "run", "small.yaml"],
    "fabric": lambda: [*FABRIC, f"--main-port={port()}", ROOT / "mmret/__main__.py", "--", "run", "small.yaml"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_end_where_one_does(launcher, place, alone):
    done = run(place, *LAUNCHERS[launcher](), f"out={launcher}")
    assert done.returncode == 0, done.stderr
    together = load_file(place / launcher / "mapping/model/model.safetensors")
    assert together.keys() == alone.keys()
    # The mean over two ranks adds up in another order than one pass: float32 rounding through three AdamW steps.
    assert max((together[name] - alone[name]).abs().max() for name in alone) < 1e-5


def test_two_processes_that_would_train_alone_are_refused(place):
    command = [*TORCHRUN, f"--master-port={port()}", "-m", "mmret", "run", "small.yaml"]
    done = run(place, *command, "out=refused", "trainer.devices=1", "trainer.num_nodes=1")
    assert done.returncode != 0
    assert "the launcher started 2 processes, but trainer.devices 1 x trainer.num_nodes 1 = 1" in done.stderr
    assert not (place / "refused").exists()


LATE = """\
import os, sys, time
if os.environ["RANK"] == "0":
    time.sleep(3)  # the other one is there first
from mmret.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_ranks_that_train_anew_read_nothing_that_rank_0_is_about_to_delete(place, alone):
    first = run(place, *TORCHRUN, f"--master-port={port()}", "-m", "mmret", "run", "small.yaml", "out=anew", "seed=7")
    assert first.returncode == 0, first.stderr
    (place / "late.py").write_text(LATE)
    again = run(place, *TORCHRUN, f"--master-port={port()}", "late.py", "run", "small.yaml", "out=anew", "--fresh")
    assert again.returncode == 0, again.stderr
    together = load_file(place / "anew/mapping/model/model.safetensors")
    assert max((together[name] - alone[name]).abs().max() for name in alone) < 1e-5


def test_ranks_that_find_all_stages_finished_measure_together(place):
    """As after a requeue during the evaluation: without a fit they would each measure everything."""
    measured = ["small.yaml", "out=finished", "evaluation.benchmarks=[toy/benchmark.yaml]"]
    first = run(place, sys.executable, "-m", "mmret", "run", "small.yaml", "out=finished")
    assert first.returncode == 0, first.stderr
    then = run(place, *TORCHRUN, f"--master-port={port()}", "-m", "mmret", "run", *measured)
    assert then.returncode == 0, then.stderr
    record = json.loads((place / "finished/evaluation.json").read_text())
    assert record["environment"]["machine"].endswith(", 2 processes")
