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
from mmret.ops.memory import GraphMemory, storages
from mmret.recipe.chunks import chunk_too_large
from mmret.recipe.schema import GradCacheConfig, Stage
from mmret.training.checkpointing import judge_checkpointing
from mmret.training.module import RetrievalModule
from mmret.training.sharding import ShardedStrategy
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
            beyond = getattr(type(objective), "needs", frozenset()) - {Need.DOCUMENT, Need.NEGATIVES}
            if beyond:
                raise ConfigError(
                    f"stage {stage.name}: objective {name} needs {', '.join(sorted(n.value for n in beyond))}, which "
                    "passes through the model again and has no cached gradient; leave grad_cache out of this stage"
                )
        self.accumulate, self.clip_norm = accumulate, clip_norm
        self.automatic_optimization = False
        self.memory: GraphMemory | None = None
        """With `keep_graph: auto`, the room for graphs; what it was told by a step that ran out holds for the next."""
        self._judged = False

    def on_fit_start(self) -> None:
        """Refuse what would not be exact.

        Raises:
            ConfigError: sharded parameters, or statistics over the rows of a chunk.
        """
        if not isinstance(self.trainer.strategy, (SingleDeviceStrategy, DDPStrategy, ShardedStrategy)):
            raise ConfigError(
                f"grad_cache with {type(self.trainer.strategy).__name__}: chunks may differ between ranks, and sharded "
                "parameters are gathered in step; use trainer.strategy=ddp or fsdp2"
            )
        norms = [name for name, m in self.model.named_modules() if _counts_rows(m) and m.training]
        if norms:
            raise ConfigError(
                f"grad_cache: {norms[0]} normalises over the rows of a batch, so a chunk is not part of the whole; "
                "freeze that tower (lr_scale 0)"
            )
        # Lightning's checkpoint callback would like the weights before each step; we want those after it.
        warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch; every `accumulate` batches also the optimizer and the schedule step."""
        strategy = self.trainer.strategy
        quiet = strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()
        with quiet:
            loss = self.cached_backward(batch)
        if (batch_idx + 1) % self.accumulate == 0:
            self._optimizer_step()
            if self.accumulate > 1:  # else loggers count batches, and evaluations optimizer steps
                self.log("step", torch.tensor(float(self.trainer.global_step - 1)))
        return loss

    def cached_backward(self, batch: Batch) -> Tensor:
        """Gradient of one batch's loss, added to the parameters; returns the loss, detached."""
        if batch.document is None:
            raise ValueError("this batch has no documents; grad_cache trains queries against documents")
        query_chunks, document_chunks = self._chunks(batch.query), self._chunks(batch.document)
        if not self._judged:
            self._judged = True
            size, most = self.cache.chunk_size, max(len(batch.query), len(batch.document))
            message = None if size is None else chunk_too_large(size, most)
            if message:  # a recipe that says so is refused, but not one whose devices are counted at the start
                logger.warning("grad_cache.chunk_size: %s", message)
            judge_checkpointing(self.model, batch.query.select(query_chunks[0]), self._graph_memory())
        keep_queries, keep_documents = self._kept(len(query_chunks), len(document_chunks))
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

    def _kept(self, num_queries: int, num_documents: int) -> tuple[int, int] | tuple[GraphMemory, GraphMemory]:
        """How many chunks of each side keep their graph: documents' first, or by the room that there is for both."""
        keep = self.cache.keep_graph
        if keep == "auto":
            self.memory = memory = self._graph_memory()
            # Gradients are about to be made: they need room before the graphs are gone.
            missing = [p for p in self.parameters() if p.requires_grad and p.grad is None]
            memory.begin(reserve=sum(p.numel() * p.element_size() for p in missing))
            return memory, memory
        documents = min(int(keep), num_documents)
        return min(int(keep) - documents, num_queries), documents

    def _graph_memory(self) -> GraphMemory:
        if self.memory is not None:
            return self.memory
        limit = None if self.cache.memory_gb is None else int(self.cache.memory_gb * 2**30)
        sharers = self.trainer.num_devices if self._trainer is not None else 1
        return GraphMemory(self.device, limit, sharers, storages(self.parameters()))

    def _optimizer_step(self) -> None:
        optimizer = cast(LightningOptimizer, self.optimizers())
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.reduce_gradients()
        else:
            average_gradients(self.parameters())
        if self.clip_norm is not None:
            # With float16 gradients are still scaled here, all of a step's chunks by the same factor.
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            scale = 1.0 if scaler is None else scaler.get_scale()
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm * scale)
        optimizer.step()
        optimizer.zero_grad()
        cast(Any, self.lr_schedulers()).step()


def _counts_rows(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
