"""Folders as `mmret bench` leaves them, small enough to count by hand."""

import csv
import gzip
import json

QUERIES = {"q1": "a", "q2": "a", "q3": "b", "q4": "b"}
"""Query -> its group (kind)."""
RIGHT = {"alpha": ["q1 q2 q3", "q1 q2"], "beta": ["q1", ""], "gamma": []}
"""Variant -> for each seed the queries that it has right. gamma failed."""
COSTS = {
    "alpha": {"parameters": 2_000_000, "trainable": 2_000_000, "training_flops": 4e12, "image_px": 32},
    "beta": {"parameters": 1_000_000, "trainable": 500_000, "training_flops": None, "image_px": 16},
}
RECIPES = {
    "alpha": "model: {name: toy, dim: 64}\nstages:\n- {name: joint, steps: 20, data: {batch_size: 8}}\n",
    "beta": "model: {name: toy, dim: 32}\nstages:\n- {name: joint, steps: 20, data: {batch_size: 8}}\n",
}
LOG = "step,train/loss,val/loss,toy/heldout/recall@1\n9,3.0,3.5,0.25\n19,{loss},2.5,0.5\n"


def write_bench(folder, right=RIGHT, seeds=(0, 1)):
    """results.json and a run for each variant and seed with queries."""
    folder.mkdir(parents=True, exist_ok=True)
    variants = []
    for name, by_seed in right.items():
        for seed in seeds:
            entry = {"name": name, "seed": seed, "folder": f"{name}/seed-{seed}", "data_differs": name == "beta"}
            if by_seed:
                entry |= {"status": "finished", "error": None, "cost": COSTS[name]}
                write_run(folder / name / f"seed-{seed}", by_seed[seed].split(), RECIPES[name], name, seed)
            else:
                entry |= {"status": "failed", "error": "RuntimeError: too <large>", "metrics": {}, "cost": {}}
            variants.append(entry)
    results = {"name": "toys", "budget": {"steps": 20.0}, "seeds": list(seeds), "primary": "toy/heldout/recall@1"}
    results |= {"environment": {"machine": "one"}, "sweep": {}, "variants": variants}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_run(folder, right, recipe="", name="run", seed=0, queries=QUERIES, split="heldout", kept=True):
    """A run's folder; `kept`: with values of single queries."""
    folder.mkdir(parents=True)
    values = {query: float(query in right) for query in queries}
    metrics = {f"toy/{split}/recall@1": sum(values.values()) / len(values)}
    for kind in dict.fromkeys(queries.values()):
        mine = [values[query] for query in queries if queries[query] == kind]
        metrics[f"toy/{split}/kind={kind}/recall@1"] = sum(mine) / len(mine)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "recipe.yaml").write_text(f"name: {name}\nseed: {seed}\nout: {folder}\n{recipe}")
    (folder / "joint").mkdir()
    (folder / "joint" / "stage.json").write_text(json.dumps({"name": "joint", "steps": 20, "metrics": {}}))
    (folder / "joint" / "metrics.csv").write_text(LOG.format(loss=2.0 + seed))
    if kept:
        with gzip.open(folder / "per_query.csv.gz", "wt", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("benchmark", "split", "query", "metric", "value"))
            rows.writerows(("toy", split, query, "recall@1", value) for query, value in values.items())
    return folder
