"""`mmret bench` with its processes: a budget in FLOPs, a variant that cannot run, costs, a kill in the middle."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmret.bench import __main__ as steps
from mmret.cli import main

BENCH = """
name: toy
out: {out}
budget: {{flops: 6e9}}
variants:
  small: {{recipe: toy.yaml}}
  broken: {{recipe: toy.yaml, overrides: [model.vision_weights=/nowhere.pt, "model.vision='timm:efficientnet_lite0'"]}}
evaluation: {{benchmarks: [{benchmark}]}}
primary: toy/shapes/heldout/recall@1
"""


def test_a_bench_spends_its_budget_and_tells_cost_and_quality(toy_recipe, toy_source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "bench"
    file = tmp_path / "bench.yaml"
    file.write_text(BENCH.format(out=out, benchmark=toy_source.parent / "benchmark.yaml"))
    assert main(["bench", str(file), "--json"]) == 1  # one variant is broken
    told = capsys.readouterr()
    results = json.loads(told.out)
    small, broken = results["variants"]
    assert (small["status"], broken["status"]) == ("finished", "failed")
    assert "nowhere.pt" in (out / "broken" / "seed-0" / "error.txt").read_text()
    assert "[1/2] small seed 0" in told.err and "[2/2] broken seed 0: failed" in told.err

    run = out / "small" / "seed-0"
    cost, metrics = small["cost"], json.loads((run / "metrics.json").read_text())
    record = json.loads((run / "joint" / "stage.json").read_text())
    assert cost["parameters"] == record["parameters"] and cost["trainable"] == record["trainable"]
    assert record["peak_memory_mb"] is None or cost["peak_memory_mb"] >= record["peak_memory_mb"]
    assert cost["training_flops"] == pytest.approx(6e9, rel=0.15)  # whole steps
    assert cost["steps"]["joint"] == pytest.approx(2 * cost["steps"]["mapping"], abs=1)  # 12 and 6 in the recipe
    assert cost["embedding_bytes_per_document"] == pytest.approx(cost["document_vectors"] * 32 * 4, rel=1e-3)
    assert cost["image_px"] == 32 and cost["searched_documents"] == 32
    assert cost["samples"] == 16 * sum(cost["steps"].values())
    assert all(cost[key] > 0 for key in ("encode_query_ms", "encode_document_ms", "search_ms_per_query"))

    with gzip.open(run / "per_query.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    values = [float(row["value"]) for row in rows if row["metric"] == "recall@1"]
    assert sum(values) / len(values) == pytest.approx(metrics["shapes/heldout/recall@1"])
    assert results["statistics"]["small"]["mean"] == pytest.approx(metrics["shapes/heldout/recall@1"])
    assert not (out / "small" / "trial").exists() and (out / "small" / "steps.json").is_file()

    assert main(["bench", str(file), "--only", "small"]) == 0
    assert "finished before, skipped" in capsys.readouterr().err


TWO = """
name: toy
out: {out}
budget: {{steps: 60}}
variants:
  first: {{recipe: toy.yaml, overrides: [~stages.mapping]}}
  second: {{recipe: toy.yaml}}
evaluation: {{benchmarks: [{benchmark}]}}
primary: toy/shapes/heldout/recall@1
"""


@pytest.fixture
def in_this_process(monkeypatch):
    """A bench's steps without a Python of their own, which takes most of their time here."""

    def step(arguments, log, tell, environ):
        if arguments[0] == "mmret":
            assert main(arguments[1:]) == 0
        else:
            steps.main(*arguments[1:])

    monkeypatch.setattr("mmret.bench.runner.run_process", step)


def test_killed_while_a_variant_trains_it_goes_on_there(toy_recipe, toy_source, tmp_path, capsys, in_this_process):
    out, file = tmp_path / "bench", tmp_path / "bench.yaml"
    file.write_text(TWO.format(out=out, benchmark=toy_source.parent / "benchmark.yaml"))
    first, second = (out / name / "seed-0" for name in ("first", "second"))
    assert main(["bench", str(file), "--only", "first"]) == 0
    done = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}

    command = [sys.executable, "-m", "mmret", "bench", str(file), "--json"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    bench = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)
    deadline = time.monotonic() + 240
    while not (checkpoints := sorted((second / "joint").glob("checkpoints/*.ckpt"))):
        assert bench.poll() is None and time.monotonic() < deadline, "no checkpoint of the second variant in time"
        time.sleep(0.02)
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    assert not (second / "joint" / "stage.json").exists() and checkpoints
    assert _statuses(out) == {"first": "finished", "second": "missing"}
    mapping = (second / "mapping" / "stage.json").stat().st_mtime_ns

    capsys.readouterr()
    assert main(["bench", str(file)]) == 0
    told = capsys.readouterr()
    assert "[1/2] first seed 0: finished before, skipped" in told.err
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()} == done
    assert (second / "mapping" / "stage.json").stat().st_mtime_ns == mapping  # nor was its finished stage
    assert "stage joint: goes on at step" in told.err
    assert _statuses(out) == {"first": "finished", "second": "finished"}
    assert all(entry["cost"]["trainable"] > 0 for entry in _entries(out))


def _entries(out):
    return json.loads((out / "results.json").read_text())["variants"]


def _statuses(out):
    return {entry["name"]: entry["status"] for entry in _entries(out)}
