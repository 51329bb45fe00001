"""Golden sets of PreFLMR and FLMR: every tensor that a caller of our model can reach, weights in and out, tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from mmret.models.preflmr import PreFLMR, to_published
from mmret.models.preflmr.convert import without_aliases
from mmret.models.preflmr.tokens import Tokens
from mmret.parity.preflmr_tensors import TENSORS, TensorSet
from mmret.parity.report import EXACT, Report
from mmret.types import Role


def recognises(folder: Path) -> bool:
    """A published PreFLMR configuration beside tensors, or a golden.json that speaks of its inputs."""
    configs = [_json(path) for path in folder.glob("*config.json")]
    if any(config.get("model_type") == "flmr" for config in configs) and any(folder.glob(f"*{TENSORS}")):
        return True
    golden = folder / "golden.json"
    return golden.is_file() and "in.query_input_ids" in _json(golden).get("tensors", {})


def compare(folder: Path, report: Report) -> None:
    """Compare each model of the folder: files `<prefix>{config.json,model.safetensors,tensors.safetensors}`.

    Raises:
        CheckpointError: a model does not load.
    """
    golden = _json(folder / "golden.json") if (folder / "golden.json").is_file() else {}
    for name in golden.get("files", {}):
        if not (folder / name).is_file():
            report.fail(name, "named by golden.json, but not there")
    for path in sorted(folder.glob(f"*{TENSORS}")):
        prefix = path.name.removesuffix(TENSORS)
        if not all((folder / f"{prefix}{name}").is_file() for name in ("config.json", "model.safetensors")):
            report.fail(path.name, f"needs {prefix}config.json and {prefix}model.safetensors beside it")
            continue
        tensors = TensorSet(folder, prefix, golden, report)
        tensors.run()
        _weights(folder, prefix, golden, report, tensors.model)
        if prefix == "" and (folder / "tokenizer_cases.json").is_file():
            separator = golden.get("facts", {}).get("instruction_separator_token") or ":"
            _tokenizer(_json(folder / "tokenizer_cases.json"), separator, report, tensors.model)


def _weights(folder: Path, prefix: str, golden: dict[str, Any], report: Report, model: PreFLMR) -> None:
    """Out to the published layout again: same names, same bits."""
    with TemporaryDirectory() as written:
        to_published(model, written)
        ours = load_file(Path(written) / "model.safetensors")
    source = folder / f"{prefix}model.safetensors"
    theirs = without_aliases(load_file(source), model.config.separate_text_encoders, str(source))
    declared = golden.get(f"{prefix}state_dict_keys", theirs)
    for key in sorted(declared.keys() ^ ours.keys()):
        report.fail(f"{prefix}weights {key}", "on one side of the round trip only")
    both = ours.keys() & theirs.keys()
    worst = max((float((ours[key].double() - theirs[key].double()).abs().max()) for key in both), default=float("nan"))
    name = f"{prefix}weights, in and out ({len(ours)} tensors)"
    report.compare(name, torch.tensor(worst), torch.tensor(0.0), EXACT)


def _tokenizer(cases: dict[str, Any], separator: str, report: Report, model: PreFLMR) -> None:
    """Strings to ids and masks, and the special ids."""
    lengths = {"query_tokens": cases["query_maxlen"], "document_tokens": cases["doc_maxlen"]}
    config = replace(model.config, **lengths, instruction_separator=separator, mask_punctuation=True)
    tokens = Tokens(config, model.processor.tokens.tokenizer)
    groups: list[tuple[Role, str, int]] = [
        ("query", "query_cases", config.query_tokens),
        ("document", "context_cases", config.document_tokens),
    ]
    for role, group, length in groups:
        ids, attention = tokens.encode([case["text"] for case in cases[group]], role, width=length)
        for i, case in enumerate(cases[group]):
            for name, ours in (("input_ids", ids[i]), ("attention_mask", attention[i])):
                report.compare(f"tokenizer {group}[{i}] {name}", ours, torch.tensor(case[name]), EXACT)
    for name, ours in (
        ("query_marker_id", tokens.markers["query"]),
        ("doc_marker_id", tokens.markers["document"]),
        ("instruction_separator_id", tokens.separator),
        ("skip_ids", sorted(tokens.document_skip_ids)),
    ):
        theirs = sorted(cases[name]) if isinstance(cases[name], list) else cases[name]
        report.compare(f"tokenizer {name}", torch.tensor(ours), torch.tensor(theirs), EXACT)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
