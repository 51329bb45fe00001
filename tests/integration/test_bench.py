"""`mmret bench` with its processes: a budget in FLOPs, a variant that cannot run, costs and values of queries."""

import csv
import gzip
import json

import pytest

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


@pytest.mark.slow
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
