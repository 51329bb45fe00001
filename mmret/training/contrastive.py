"""How a contrastive batch larger than memory trains: GradCache, with one gradient reduction a step.

    chunks without graph -> Step on leaves -> the same objectives -> backward to the leaves -> chunks again, with graph

All backward passes run unsynchronised, then gradients are averaged over ranks once (`ops.average_gradients`). Leaving
the last chunk synchronised instead, as is usual, is silently wrong when that chunk does not touch every parameter.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import nullcontext
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.retriever import Retriever
from mmret.objectives import Step
from mmret.ops import average_gradients
from mmret.ops.grad_cache import CachedEncoding, fixed_chunks, row_lengths, token_chunks
from mmret.recipe.schema import GradCacheConfig, Stage
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Inputs, Need

logger = logging.getLogger(__name__)


class ContrastiveModule(RetrievalModule):
    """A stage with `grad_cache`, for any objective that asks for embeddings only, of one or many vectors.

    Args:
        accumulate: batches per optimizer step. The loss of each is divided by it, and gradients add up; negatives still
            come from one batch only. To have more negatives, enlarge the batch: the chunks bound the memory.
        clip_norm: largest norm of the averaged gradient; None: any.

    Raises:
        ConfigError: an objective needs what chunks cannot give.
    """

    def __init__(
        self,
        model: Retriever,
        stage: Stage,
        seed: int = 0,
        *,
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(model, stage, seed)
        if stage.grad_cache is None:
            raise ConfigError(f"stage {stage.name} has no grad_cache section; want chunk_size or tokens_per_chunk")
        self.cache: GradCacheConfig = stage.grad_cache
        for name, objective in self.objectives.items():
            beyond = getattr(type(objective), "needs", frozenset()) - {Need.NEGATIVES}
            if beyond:
                raise ConfigError(
                    f"stage {stage.name}: objective {name} needs {', '.join(sorted(n.value for n in beyond))}, which "
                    "passes through the model again and has no cached gradient; leave grad_cache out of this stage"
                )
        self.accumulate, self.clip_norm = accumulate, clip_norm
        self.automatic_optimization = False

    def on_fit_start(self) -> None:
        """Refuse what would not be exact.

        Raises:
            ConfigError: sharded parameters, float16 scaling, or statistics over the rows of a chunk.
        """
        if not isinstance(self.trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise ConfigError(
                f"grad_cache with {type(self.trainer.strategy).__name__}: chunks may differ between ranks, and sharded "
                "parameters are gathered in step; use trainer.strategy=ddp"
            )
        if self.trainer.precision == "16-mixed":
            raise ConfigError("grad_cache with 16-mixed: gradients of chunks have no common scale; use bf16-mixed")
        norms = [name for name, m in self.model.named_modules() if _counts_rows(m) and m.training]
        if norms:
            raise ConfigError(
                f"grad_cache: {norms[0]} normalises over the rows of a batch, so a chunk is not part of the whole; "
                "freeze that tower (lr_scale 0)"
            )
        # Lightning's checkpoint callback would like the weights before each step; we want those after it.
        warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")
        checkpointed = any(getattr(m, "gradient_checkpointing", False) for m in self.model.modules())
        if checkpointed and self.cache.chunk_size != 1:
            logger.warning(
                "activation checkpointing inside grad_cache computes each chunk three times; a smaller "
                "grad_cache.chunk_size saves memory without"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch; every `accumulate` batches also the optimizer and the schedule step."""
        strategy = self.trainer.strategy
        quiet = strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()
        with quiet:
            loss = self.cached_backward(batch)
        if (batch_idx + 1) % self.accumulate == 0:
            self._optimizer_step()
        return loss

    def cached_backward(self, batch: Batch) -> Tensor:
        """Gradient of one batch's loss, added to the parameters; returns the loss, detached."""
        if batch.document is None:
            raise ValueError("this batch has no documents; grad_cache trains queries against documents")
        query_chunks, document_chunks = self._chunks(batch.query), self._chunks(batch.document)
        keep_documents = min(self.cache.keep_graph, len(document_chunks))
        keep_queries = min(self.cache.keep_graph - keep_documents, len(query_chunks))
        queries = CachedEncoding(self.model.encode_query, batch.query, query_chunks, keep_queries)
        documents = CachedEncoding(self.model.encode_document, batch.document, document_chunks, keep_documents)
        step = Step(
            self.model,
            batch,
            queries=queries.embeddings,
            documents=documents.embeddings,
            scales=self.learnt_scales(),
        )
        loss = self.total_loss(step)
        self.manual_backward(loss / self.accumulate)
        queries.replay()
        documents.replay()
        return loss.detach()

    def _chunks(self, inputs: Inputs) -> list[Tensor]:
        if self.cache.tokens_per_chunk is not None:
            return token_chunks(row_lengths(inputs), self.cache.tokens_per_chunk)
        assert self.cache.chunk_size is not None
        return fixed_chunks(len(inputs), self.cache.chunk_size)

    def _optimizer_step(self) -> None:
        optimizer = cast(LightningOptimizer, self.optimizers())
        average_gradients(self.parameters())
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        cast(Any, self.lr_schedulers()).step()


def _counts_rows(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
