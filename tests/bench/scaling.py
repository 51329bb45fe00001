"""One and two processes on CPUs, a core and a thread each, the same work a rank: what training together costs.

    python -m tests.bench.scaling [--steps 7] [--rounds 3]

A round runs, one after the other: one process alone on core 0; two that train together (DDP, gloo); two that know
nothing of each other, at the same time. The last show what the machine itself loses by having two cores busy (memory,
clock, caches), which no code can give back. On a machine that does other things the numbers mean little.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SIZES = {
    "preflmr": ("joint", 48, ["~stages.mapping", "stages.joint.data.sources={demo/flags: 1}", "model.vision={tower}"]),
    "vlm2vec": ("whole", 64, ["~stages.adapters", "model.composed.vision={tower}"]),
    "vlmo": (
        "vision_language",
        32,
        [
            *("~stages.vision", "~stages.language", "~stages.answers"),
            *("model.width=256", "model.depth=4", "model.image_px=128"),
        ],
    ),
}
"""Shipped tiny recipe -> its stage that trains, queries of a rank in a step, changes that make a step take seconds."""
TOWER: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
}
"""A CLIP vision tower of 5 M parameters, random, for the two models whose tiny tower costs nothing."""


@dataclass
class Row:
    """An architecture; medians over rounds."""

    architecture: str
    alone: float
    """Samples/s of one process."""
    together: float
    """Of two, the whole job's."""
    apart: float
    """Of two that are not connected, added up."""

    @property
    def efficiency(self) -> float:
        """Of two processes against twice one."""
        return self.together / (2 * self.alone)

    @property
    def ours(self) -> float:
        """The same against two that are not connected: what communication and waiting for each other cost."""
        return self.together / self.apart


def run(steps: int = 7, rounds: int = 3, architectures: list[str] | None = None) -> list[Row]:
    """Measure; needs two cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("scaling wants two cores; this process may use one")
    rows = []
    for name in architectures or SIZES:
        found: dict[str, list[float]] = {"alone": [], "together": [], "apart": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                _save_tower(out / "tower")
                found["alone"] += _speeds([_start(name, out / "alone", steps, cores[0])])
                port = _port()
                pair = [_start(name, out / "together", steps, core, rank, port) for rank, core in enumerate(cores[:2])]
                found["together"].append(_speeds(pair)[0])
                apart = [_start(name, out / f"apart-{core}", steps, core) for core in cores[:2]]
                found["apart"].append(sum(_speeds(apart)))
        rows.append(Row(name, **{key: statistics.median(values) for key, values in found.items()}))
    return rows


def table(rows: list[Row]) -> Table:
    """For a terminal."""
    shown = Table(title="training on 1 and 2 cores, one thread each, the same work a rank")
    for heading in ("architecture", "1 process", "2 together", "2 apart", "together / 2 x 1", "together / apart"):
        shown.add_column(heading, justify="left" if heading == "architecture" else "right")
    for row in rows:
        speeds = (f"{speed:.1f}/s" for speed in (row.alone, row.together, row.apart))
        shown.add_row(row.architecture, *speeds, f"{row.efficiency:.2f}", f"{row.ours:.2f}")
    return shown


@dataclass
class _Process:
    process: subprocess.Popen[str]
    log: Path


def _save_tower(folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    CLIPVisionModel(CLIPVisionConfig(**TOWER, image_size=224, patch_size=16)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def _start(name: str, out: Path, steps: int, core: int, rank: int = 0, port: int | None = None) -> _Process:
    """`mmret run` on one core; with a port, as one of two ranks that a launcher started."""
    stage, batch, changes = SIZES[name]
    changes = [change.replace("{tower}", str(out.parent / "tower")) for change in changes]
    world = 1 if port is None else 2
    command = [
        *("run", f"tiny/{name}", f"out={out}", *changes, f"stages.{stage}.steps={steps}", "evaluation.benchmarks=[]"),
        *(f"stages.{stage}.data.batch_size={batch * world}", f"trainer.devices={world}", "trainer.accelerator=cpu"),
        *("trainer.threads=1", "trainer.log_every=1", "trainer.checkpoint_every=100000"),
    ]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "LT_"))}
    environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if port is not None:
        environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "scaling"}
        environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pinned = f"import os, sys; os.sched_setaffinity(0, {{{core}}}); from mmret.cli.main import main; sys.exit(main())"
    started = subprocess.Popen(
        [sys.executable, "-c", pinned, *command],
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    return _Process(started, out / stage / "metrics.csv")


def _speeds(started: list[_Process]) -> list[float]:
    """Samples/s of each after its first step, which waits for memory; those that train together have one log."""
    for one in started:
        _, errors = one.process.communicate(timeout=1800)
        if one.process.returncode:
            raise SystemExit(f"{one.process.args}\n{errors[-3000:]}")
    speeds = []
    for one in started:
        with one.log.open(newline="") as file:
            # Of all steps so far, at each step.
            means = [float(row["train/samples_per_s"]) for row in csv.DictReader(file) if row["train/samples_per_s"]]
        steps = len(means)
        speeds.append((steps - 1) / (steps / means[-1] - 1 / means[0]))
    return speeds


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    """Print the table, write runs/bench/scaling.json."""
    parser = argparse.ArgumentParser(description="scaling from one CPU process to two")
    parser.add_argument("--only", nargs="+", choices=[*SIZES], help="default: all architectures")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = run(args.steps, args.rounds, args.only)
    out = Path("runs/bench")
    out.mkdir(parents=True, exist_ok=True)
    found = [{**asdict(row), "efficiency": row.efficiency, "ours": row.ours} for row in rows]
    (out / "scaling.json").write_text(json.dumps(found, indent=1))
    Console(width=140).print(table(rows))


if __name__ == "__main__":
    main()
