"""Golden sets of VLMo: every path, head, loss, gradient, resize, stage, two-process run and recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mmret.evaluation.metrics import Judged, recall_at_k
from mmret.parity.report import Report
from mmret.parity.vlmo_losses import compare_losses
from mmret.parity.vlmo_paths import compare_heads, compare_paths, compare_weights
from mmret.parity.vlmo_ranks import compare_ranks
from mmret.parity.vlmo_set import METRIC, VLMoSet
from mmret.parity.vlmo_stages import compare_language, compare_optimizer, compare_resize

RECALL = "recall.json"


def recognises(folder: Path) -> bool:
    """A JSON here speaks of Multiway blocks."""
    return any("vlffn_start_layer_index" in _json(path).get("config", {}) for path in folder.glob("*.json"))


def compare(folder: Path, report: Report) -> None:
    """Compare each case of the folder: `<case>.json` and the files it names."""
    for path in sorted(folder.glob("*.json")):
        golden = _json(path)
        if "vlffn_start_layer_index" not in golden.get("config", {}):
            continue
        case = VLMoSet(folder, path.stem, golden, report)
        for part in (
            compare_weights,
            compare_paths,
            compare_heads,
            compare_losses,
            compare_resize,
            compare_language,
            compare_optimizer,
            compare_ranks,
        ):
            part(case)
        case.finish()
    if (folder / RECALL).is_file():
        _recall(folder, _json(folder / RECALL), report)
    else:
        report.remark(f"no {RECALL}")


def _recall(folder: Path, golden: dict[str, Any], report: Report) -> None:
    """Retrieval both ways, several captions for each picture."""
    if not (folder / golden["file"]).is_file():
        report.fail(golden["file"], f"named by {RECALL}, but not there")
        return
    stored = load_file(folder / golden["file"])
    scores = stored["image_feats"].float() @ stored["text_feats"].float().T
    own = stored["image_ids"][:, None] == stored["text_image_ids"]
    for way, table, relevant in (("tr", scores, own), ("ir", scores.T, own.T)):
        for name, value in golden["expected"].items():
            if name.startswith(f"{way}_r"):
                k = int(name.removeprefix(f"{way}_r"))
                hits = relevant.gather(1, table.topk(min(k, table.shape[1]), dim=1).indices)
                mean = recall_at_k(Judged(hits, relevant.sum(1)), k).float().mean()
                report.compare(f"recall {name}", mean, torch.tensor(value), METRIC)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    return content if isinstance(content, dict) else {}
