"""Bench files on the toy source, and runs that are only files."""

import gzip
import json

RECIPE = """
name: toy
model: {{name: vlmo, size: tiny, tokenizer: tiny, image_px: 32, patch_px: 8, vl_layers: 0, contrastive: main}}
stages:
  - name: first
    steps: 30
    data: {{batch_size: 8, sources: {{{source}: 1}}}}
    objectives: {{itc: {{temperature: 0.07}}}}
    optimizer: {{lr: 1e-3}}
    schedule: {{warmup_steps: 10}}
    lr_scale: {{pooler: 0, '.*': 1}}
  - name: second
    steps: 10
    data: {{batch_size: 32, sources: {{{source}: 1}}}}
    objectives: {{itc: {{temperature: 0.07}}}}
    optimizer: {{lr: 1e-3}}
    lr_scale: {{pooler: 0, '.*': 1}}
trainer: {{accelerator: cpu}}
evaluation: {{benchmarks: [demo/emoji/unseen_both], controls: false}}
"""

BENCH = """
name: toy
out: {out}
seeds: [0, 1]
variants:
  a: {{recipe: toy.yaml}}
  b: {{recipe: toy.yaml, overrides: [model.depth=2]}}
evaluation: {{benchmarks: [demo/emoji/unseen_both], validation: [demo/emoji/validation]}}
primary: demo/emoji/unseen_both/recall@1
"""


def write_bench(folder, *, source="demo/emoji", **changes):
    """A bench of two variants beside its recipe; `changes` replace lines by their key (None: leave it out)."""
    (folder / "toy.yaml").write_text(RECIPE.format(source=source))
    lines = BENCH.format(out=folder / "out").strip().splitlines()
    for key, value in changes.items():
        starts = [i for i, line in enumerate(lines) if line.startswith(f"{key}:")]
        end = starts[0] + 1 if starts else len(lines)
        while starts and end < len(lines) and lines[end].startswith(" "):
            end += 1
        lines[starts[0] if starts else end : end] = [] if value is None else [f"{key}: {value}"]
    path = folder / "bench.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def pretend_run(folder, metrics, values=None):
    """What a finished and costed run leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "cost.json").write_text(json.dumps({"parameters": 3}))
    rows = "".join(f"emoji,unseen_both,q{i},recall@1,{value}\n" for i, value in enumerate(values or []))
    (folder / "per_query.csv.gz").write_bytes(gzip.compress(f"benchmark,split,query,metric,value\n{rows}".encode()))
