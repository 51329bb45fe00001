"""Golden tensors of one PreFLMR or FLMR model: queries, documents, scores, losses, gradients."""

# B queries, K documents per query

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmret.models.preflmr import PreFLMR, PreFLMRConfig, load_published
from mmret.models.preflmr.checkpoint import with_config
from mmret.models.preflmr.convert import published_names
from mmret.models.preflmr.tokens import Tokens
from mmret.objectives import HardNegative, HardNegativeConfig, Step
from mmret.parity.report import EMBEDDING, EXACT, GRADIENT, LOSS, MIDDLE, SCORE, Report
from mmret.types import Batch, Embeddings, Inputs

TENSORS = "tensors.safetensors"


class TensorSet:
    """One model of a golden folder, its stored tensors, and what was asked of them."""

    def __init__(self, folder: Path, prefix: str, golden: dict[str, Any], report: Report) -> None:
        self.folder, self.prefix, self.golden, self.report = folder, prefix, golden, report
        self.stored = load_file(folder / f"{prefix}{TENSORS}")
        self.asked: set[str] = set()
        weights = f"{prefix}model.safetensors"
        self.model = load_published(folder, PreFLMR, config_file=f"{prefix}config.json", weight_file=weights).eval()
        self.facts = golden.get("facts", {})

    def run(self) -> None:
        """Compare all; what is stored and could not be asked for is a remark."""
        for name, entry in self.golden.get(f"{self.prefix}tensors", {}).items():
            if name not in self.stored:
                self.report.fail(self.prefix + name, "declared in golden.json, but not in the file")
            elif list(self.stored[name].shape) != entry.get("shape", list(self.stored[name].shape)):
                self.report.fail(self.prefix + name, "has another shape than golden.json declares")
        with torch.no_grad():
            self.queries()
            self.documents()
        self.losses()
        self.gather()
        for name in sorted(self.stored.keys() - self.asked):
            if not name.startswith("in."):
                self.report.remark(f"{self.prefix}{name} is not compared: no way to reach it through the model")

    def check(self, name: str, ours: Tensor, tolerance: float, *, relative: bool = False) -> None:
        """Compare, if the set holds such a tensor."""
        if name in self.stored:
            self.asked.add(name)
            self.report.compare(self.prefix + name, ours, self.stored[name], tolerance, relative=relative)

    def query(self, case: str = "", *, pictures: str | None = "pixels", config: PreFLMRConfig | None = None) -> Inputs:
        """Query inputs, masks made by our processor; pictures: pixels, features, or None."""
        ids, attention = self.stored[f"in.{case}query_input_ids"], self.stored[f"in.{case}query_attention_mask"]
        tokens = Tokens(config or self.model.config, self.model.processor.tokens.tokenizer)
        keep = tokens.query_keep(ids, attention)
        dense = {"input_ids": ids, "attention_mask": attention, "keep_mask": keep}
        dense["cross_visible"] = tokens.cross_visible(ids, keep)
        if pictures == "pixels" and "in.query_pixel_values" in self.stored:
            dense["pixel_values"] = self.stored["in.query_pixel_values"]
        if pictures == "features":
            dense["vision_features"] = self.stored["in.query_image_features"]
        return Inputs(dense)

    def document(self, pictures: bool = False) -> Inputs:
        """Document inputs, the mask made by our processor."""
        ids, attention = self.stored["in.context_input_ids"], self.stored["in.context_attention_mask"]
        keep = self.model.processor.tokens.document_keep(ids, attention)
        dense = {"input_ids": ids, "attention_mask": attention, "keep_mask": keep}
        if pictures:
            dense["pixel_values"] = self.stored["in.context_pixel_values"]
        return Inputs(dense)

    def queries(self) -> None:
        """The full query with its intermediate values, then its variants."""
        model, config = self.model, self.model.config
        seen: dict[str, Any] = {}
        parts = {name: part for name, part in model.named_children()} | {"query_text": model.text_tower("query")}
        parts["text_linear"] = model.text_linear("query")
        hooks = [part.register_forward_hook(_keep_output(seen, name)) for name, part in parts.items()]
        inputs = self.query()
        full = model.encode_query(inputs)
        for hook in hooks:
            hook.remove()
        keep = inputs.dense["keep_mask"]
        self.check("out.query.full.embeddings", full.vectors, EMBEDDING)
        self.check("out.query.embeddings", full.vectors, EMBEDDING)
        self.check("out.query.full.pooler", seen["text_linear"][:, 0] * keep[:, :1], MIDDLE)
        self.check("mid.query_text_hidden", seen["query_text"].last_hidden_state, MIDDLE)
        self.check("mid.query_text_keep_mask", keep, EXACT)
        if "vision" in seen:
            overall, patches = seen["vision"]
            self.check("mid.vision_cls_last_layer", overall, MIDDLE)
            self.check("mid.vision_patches_penultimate", patches, MIDDLE)
            self.check("mid.prefix_tokens", seen["prefix"].reshape(len(full), -1, config.dim), MIDDLE)
        if "mapping" in seen:
            self.check("mid.mapping_network_hidden", seen["mapping"], MIDDLE)
            self.check("mid.mapping_tokens", seen["mapping_out"], MIDDLE)
        if "in.query_image_features" in self.stored:
            given = model.encode_query(self.query(pictures="features"))
            features = self.stored["in.query_image_features"]
            overall, _ = model.vision_states(inputs, "query")
            self.asked.add("in.query_image_features")
            self.report.compare(f"{self.prefix}in.query_image_features", overall, features, MIDDLE)
            self.report.compare(
                f"{self.prefix}out.query.embeddings (from features)",
                given.vectors,
                self.stored["out.query.embeddings"],
                EMBEDDING,
            )
        self.query_variants()

    def query_variants(self) -> None:
        """Parts switched off, other masks, shorter texts."""
        model, config = self.model, self.model.config

        def vectors(inputs: Inputs, model: PreFLMR = model) -> Tensor:
            return model.encode_query(inputs).vectors

        if "out.query.text_only.embeddings" in self.stored:
            self.check("out.query.text_only.embeddings", vectors(self.query(pictures=None)), EMBEDDING)
        if "out.query.image_only.embeddings" in self.stored:
            without = with_config(model, replace(config, query_text_in_score=False)).eval()
            self.check("out.query.image_only.embeddings", vectors(self.query(), without), EMBEDDING)
        if "out.query.per_sample_flags.embeddings" in self.stored:
            vision = self.stored["in.per_sample_flags.vision"].bool()
            switches = {"use_image": vision[:, None], "use_text": self.stored["in.per_sample_flags.text"].bool()}
            inputs = Inputs({**self.query().dense, **switches})
            self.check("out.query.per_sample_flags.embeddings", vectors(inputs), EMBEDDING)
        for case in ("no_separator", "short"):
            if f"in.{case}.query_input_ids" in self.stored:
                self.check(f"out.{case}.embeddings", vectors(self.query(f"{case}.")), EMBEDDING)
        if "out.query.no_instruction_mask.embeddings" in self.stored:
            inputs = self.query(config=replace(config, instruction_separator=None))
            self.check("out.query.no_instruction_mask.embeddings", vectors(inputs), EMBEDDING)
        if "out.query.skip_ids.embeddings" in self.stored:
            inputs = self.query(config=replace(config, query_skip_ids=self.facts["skip_ids_case"]))
            self.check("out.query.skip_ids.embeddings", vectors(inputs), EMBEDDING)

    def documents(self) -> None:
        """Documents with and without pictures, and their scores."""
        model = self.model
        queries, documents = model.encode_query(self.query()), model.encode_document(self.document())
        assert documents.mask is not None
        for name in ("out.context.text", "out.context"):
            self.check(f"{name}.embeddings", documents.vectors, EMBEDDING)
            self.check(f"{name}.mask", documents.mask, EXACT)
        self.check("out.context.text.flat", documents.vectors[documents.mask], EMBEDDING)
        self.check("out.context.text.doclens", documents.mask.sum(1), EXACT)
        self.check("out.score_matrix", model.score(queries, documents), SCORE)
        if "in.context_pixel_values" in self.stored:
            pictured = model.encode_document(self.document(pictures=True))
            assert pictured.mask is not None
            self.check("out.context.multimodal.embeddings", pictured.vectors, EMBEDDING)
            self.check("out.context.multimodal.mask", pictured.mask, EXACT)
            self.check("out.score_matrix_multimodal_docs", model.score(queries, pictured), SCORE)
        hidden = documents.mask.clone()
        hidden[1] = False
        masked = model.score(queries, Embeddings(documents.vectors, hidden))
        self.check("out.score_matrix_doc1_fully_masked", masked, SCORE)

    def losses(self) -> None:
        """Both variants of the loss, and the in-batch one's gradients."""
        step = self.step([range(len(self.stored["in.query_input_ids"]))])
        loss = self.loss(step, in_batch=True)
        self.check("out.forward.ib.loss", loss, LOSS)
        self.check("out.forward.scores", step.own_scores(), SCORE)
        self.check("out.forward.pairwise.loss", self.loss(step, in_batch=False), LOSS)
        self.gradients(loss, "grad.ib.")

    def gather(self) -> None:
        """Each process holds some rows; the others' are constants to it. The sum over processes is the full gradient.

        Played in one process here; tests/distributed starts real ones.
        """
        if "in.gather.query_rows" not in self.stored:
            return
        self.asked.add("in.gather.query_rows")
        ranks = [rows.tolist() for rows in self.stored["in.gather.query_rows"]]
        for rank in range(len(ranks)):
            step = self.step(ranks, own=rank)
            loss = self.loss(step, in_batch=True)
            self.check(f"out.gather.rank{rank}.loss", loss, LOSS)
            self.check(f"out.gather.rank{rank}.scores", step.own_scores(), SCORE)
            self.gradients(loss, f"out.gather.rank{rank}.grad.")

    def step(self, ranks: Sequence[Sequence[int]], own: int | None = None) -> Step:
        """A step over the ranks' query rows and their documents; only rank `own` has gradient (None: all have)."""
        query, document = self.query(), self.document()
        K = len(document) // len(query)
        queries, documents = [], []
        for rank, rows in enumerate(ranks):
            theirs = [row * K + k for row in rows for k in range(K)]
            with torch.set_grad_enabled(own in (None, rank)):
                queries.append(self.model.encode_query(query.select(list(rows))))
                documents.append(self.model.encode_document(document.select(theirs)))
        rows = [row for part in ranks for row in part]
        batch = Batch(query.select(rows), document.select([row * K + k for row in rows for k in range(K)]), K)
        return Step(self.model, batch, queries=Embeddings.cat(queries), documents=Embeddings.cat(documents))

    def loss(self, step: Step, in_batch: bool) -> Tensor:
        """Our objective as the released code computes its loss."""
        return HardNegative(HardNegativeConfig(in_batch=in_batch, mask_false_negatives=False))(step).loss

    def gradients(self, loss: Tensor, prefix: str) -> None:
        """Compare the stored gradients of `loss`, named by the published parameters."""
        own = {published: ours for ours, published in published_names(self.model).items()}
        names = [name for name in self.stored if name.startswith(prefix)]
        unknown = [name for name in names if name[len(prefix) :] not in own]
        for name in unknown:
            self.report.fail(self.prefix + name, "the model has no such parameter")
        names = [name for name in names if name not in unknown]
        if names:
            parameters = [self.model.get_parameter(own[name[len(prefix) :]]) for name in names]
            for name, gradient in zip(names, torch.autograd.grad(loss, parameters)):
                self.check(name, gradient, GRADIENT, relative=True)


def _keep_output(seen: dict[str, Any], name: str) -> Any:
    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        seen[name] = output

    return hook
