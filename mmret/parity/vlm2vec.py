"""Golden sets of VLM2Vec: ids, pixels, embeddings, losses, gradients whole and in chunks, adapters live and merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmret.models.backbones.vlm import own_name
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.models.vlm2vec import VLM2Vec
from mmret.models.vlm2vec.adapter_file import CONFIG, live_name
from mmret.objectives import ITC, ITCConfig, Step
from mmret.ops.grad_cache import CachedEncoding, fixed_chunks
from mmret.parity import phi3_v
from mmret.parity.report import MIDDLE, Report
from mmret.parity.vlm2vec_case import compare_case, golden_inputs
from mmret.types import Batch, Embeddings, Inputs

EMBEDDING = 1e-5
LOSS = 2e-6
"""Relative, 17 steps of float32: scores are divided by 0.02, so a stored loss of 30 is 2e-5 off the one in float64."""
GRADIENT = 1e-5
"""Relative to the tensor's largest entry."""
ADAPTER_GRADIENT = 2e-5
"""What one of the stored sets allows; a remark counts the gradients of an adapter beyond `GRADIENT`.

Qwen2.5-VL's plain LoRA is loud (alpha/r 4, random B): its stored gradients are 2.8e-5 off those in float64, ours in
float32 move by 1.4e-5 from eager attention to sdpa and by 2.9e-5 from one library of matrix products to another, and no
order of LoRA's three products gives the stored embeddings to the last bit."""
NOTHING = 1e-6
"""A tensor whose largest gradient is below this share of all tensors' is zero but for rounding (biases of keys: softmax
does not see them); its difference is taken relative to all."""
TARGETS = {"inbatch": "train_pos", "hardneg": "train_pos_and_neg"}
"""Loss -> the case that holds its documents; queries are always the same."""
QUERIES = "train_query"


def recognises(folder: Path) -> bool:
    """A published configuration of a family that we know, beside a golden.json that speaks of embeddings."""
    paths = folder / "golden.json", folder / "config.json"
    if not all(path.is_file() for path in paths):
        return False
    golden, config = (json.loads(path.read_text()) for path in paths)
    return config.get("model_type") in FAMILIES and f"{QUERIES}.embedding" in golden.get("tensors", {})


def compare(folder: Path, report: Report) -> None:
    """Compare all that the folder's golden.json declares.

    Raises:
        CheckpointError: the model or an adapter does not load.
    """
    golden = json.loads((folder / "golden.json").read_text())
    stored = {
        key: value for path in sorted(folder.glob("*cases*.safetensors")) for key, value in load_file(path).items()
    }
    for name in sorted(golden["tensors"].keys() - stored.keys()):
        report.fail(name, "declared by golden.json, but not stored")
    model = VLM2Vec.load(folder, attention="eager").eval()
    for name, case in golden["cases"].items():
        compare_case(model, name, case, stored, report, EMBEDDING)
        if model.spec.model_type == "phi3_v":
            phi3_v.compare_states(model, name, golden_inputs(model, name, stored), stored, report)
    if model.spec.model_type == "phi3_v":
        phi3_v.compare_parts(model, golden, stored, report)
    temperature = float(golden["model_rule"]["temperature"])
    gradients = load_file(folder / "param_grads.safetensors")
    for loss in TARGETS:
        if f"loss.{loss}" in stored:
            _training(model, loss, temperature, stored, gradients, golden.get("gradcache_check", {}), report)
    for adapter in sorted(path.parent for path in folder.glob(f"*/{CONFIG}")):
        _adapter(folder, adapter, temperature, stored, report)


def _training(
    model: VLM2Vec,
    loss: str,
    temperature: float,
    stored: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    chunked: Mapping[str, Any],
    report: Report,
) -> None:
    """The loss, its gradient at embeddings and at every parameter, whole and in the chunks that were checked."""
    batch = _batch(model, loss, stored)
    own = model.vlm.state_dict()
    expected = {
        own_name(key.partition(".")[2], own): value for key, value in gradients.items() if key.partition(".")[0] == loss
    }
    queries, documents = model.encode_query(batch.query), model.encode_document(batch.document or Inputs())
    for part in (queries, documents):
        part.vectors.retain_grad()
    value = _loss(model, batch, temperature, queries, documents)
    value.backward()
    report.compare(f"loss.{loss}", value.view(1), stored[f"loss.{loss}"], LOSS, relative=True)
    for side, part in (("query", queries), ("target", documents)):
        name = f"loss.{loss}.grad_{side}_emb"
        assert part.vectors.grad is not None
        report.compare(name, part.vectors.grad, stored[name], GRADIENT, relative=True)
    _parameters(model, f"{loss}.", expected, GRADIENT, report)
    for name in chunked.get(loss, {"2/2": None}):
        _in_chunks(model, batch, temperature, *(int(size) for size in name.split("/")))
        _parameters(model, f"{loss} in chunks of {name}: ", expected, GRADIENT, report)


def _in_chunks(model: VLM2Vec, batch: Batch, temperature: float, queries: int, documents: int) -> None:
    """The cached gradient of one batch, left in the parameters."""
    assert batch.document is not None
    one = CachedEncoding(model.encode_query, batch.query, fixed_chunks(len(batch.query), queries))
    two = CachedEncoding(model.encode_document, batch.document, fixed_chunks(len(batch.document), documents))
    _loss(model, batch, temperature, one.embeddings, two.embeddings).backward()
    one.replay()
    two.replay()


def _parameters(model: VLM2Vec, prefix: str, expected: Mapping[str, Tensor], tolerance: float, report: Report) -> None:
    """Every parameter's gradient, which is then cleared; one on one side only is a failure."""
    found = {name: p.grad for name, p in model.vlm.named_parameters() if p.grad is not None}
    model.zero_grad()
    for name in sorted(found.keys() ^ expected.keys()):
        if name in expected or float(found[name].abs().max()) > 0:
            report.fail(f"{prefix}{name}", "a gradient on one side only")
    largest = max(float(value.abs().max()) for value in expected.values())
    for name in sorted(found.keys() & expected.keys()):
        theirs = expected[name]
        zero = float(theirs.abs().max()) < NOTHING * largest
        limit = tolerance * largest if zero else tolerance
        report.compare(f"{prefix}{name} gradient", found[name], theirs, limit, relative=not zero)


def _adapter(folder: Path, adapter: Path, temperature: float, stored: Mapping[str, Tensor], report: Report) -> None:
    """One adapter on this base: embeddings, loss, its gradients, and the merged model."""
    kind = adapter.name
    model = VLM2Vec.load(adapter, backbone=str(folder), attention="eager").eval()
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(".default" in parameter_name)
    batch = _batch(model, "hardneg", stored)
    queries, documents = model.encode_query(batch.query), model.encode_document(batch.document or Inputs())
    queries.vectors.retain_grad()
    value = _loss(model, batch, temperature, queries, documents)
    value.backward()
    name = f"{kind}.loss.hardneg.grad_query_emb"
    if name in stored:
        assert queries.vectors.grad is not None
        report.compare(name, queries.vectors.grad, stored[name], GRADIENT, relative=True)
    _cases(model, f"{kind}.", ".embedding", stored, report)
    report.compare(f"{kind}.loss.hardneg", value.view(1), stored[f"{kind}.loss.hardneg"], LOSS, relative=True)
    own = model.vlm.state_dict()
    gradients = load_file(adapter / "adapter_grads.safetensors")
    expected = {own_name(live_name(key), own): value for key, value in gradients.items()}
    before = len(report.comparisons)
    _parameters(model, f"{kind}.", expected, ADAPTER_GRADIENT, report)
    beyond = sum(comparison.error > GRADIENT for comparison in report.comparisons[before:])
    if beyond:
        report.remark(
            f"{kind}: {beyond} of {len(expected)} gradients are between {GRADIENT} and {ADAPTER_GRADIENT} off"
        )
    merged = model.merged()
    _cases(merged, f"{kind}.merged.", ".embedding", stored, report)
    _cases(merged, f"{kind}.", ".embedding_merged", stored, report)
    own, start = merged.vlm.state_dict(), f"{kind}.merged."
    for name in sorted(key for key in stored if key.startswith(start) and key.endswith(".weight")):
        report.compare(name, own[own_name(name.removeprefix(start), own)], stored[name], MIDDLE)


def _cases(model: VLM2Vec, start: str, end: str, stored: Mapping[str, Tensor], report: Report) -> None:
    """Embeddings of every case of which one is stored between these names."""
    for name in sorted(key for key in stored if key.startswith(start) and key.endswith(end)):
        case = name.removeprefix(start).removesuffix(end)
        if f"{case}.input_ids" not in stored:
            continue
        with torch.no_grad():
            vectors = model.encode_query(golden_inputs(model, case, stored)).vectors
        report.compare(name, vectors, stored[name], EMBEDDING)


def _batch(model: VLM2Vec, loss: str, stored: Mapping[str, Tensor]) -> Batch:
    queries, documents = (golden_inputs(model, case, stored) for case in (QUERIES, TARGETS[loss]))
    return Batch(queries, documents, len(documents) // len(queries))


def _loss(model: VLM2Vec, batch: Batch, temperature: float, queries: Embeddings, documents: Embeddings) -> Tensor:
    """One way, queries to documents."""
    objective = ITC(ITCConfig(temperature=temperature, symmetric=False))
    return objective(Step(model, batch, queries=queries, documents=documents)).loss
