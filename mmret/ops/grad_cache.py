"""Embeddings of more rows than fit at once: encode in chunks, let the loss see all rows, then replay chunk by chunk.

Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache). The loss needs
all embeddings, but the graph that made them only where gradient passes through it, and there one chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mmret.ops.flops import recomputing
from mmret.ops.memory import GraphMemory, is_out_of_memory
from mmret.types import Embeddings, Inputs

Encode = Callable[[Inputs], Embeddings]


def fixed_chunks(num_rows: int, size: int) -> list[Tensor]:
    """Row indices of neighbouring chunks of `size` rows; the last may be smaller."""
    return list(torch.arange(num_rows).split(size))


def token_chunks(lengths: Sequence[int], budget: int) -> list[Tensor]:
    """Row indices of chunks of similar length, each at most `budget` tokens once padded (rows x longest row).

    Longest rows come first, so that the first chunk tells whether memory suffices. A row longer than the budget is a
    chunk of its own: it cannot be split.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    chunks: list[list[int]] = []
    for row in order:
        if chunks and lengths[chunks[-1][0]] * (len(chunks[-1]) + 1) <= budget:
            chunks[-1].append(row)
        else:
            chunks.append([row])
    return [torch.tensor(chunk) for chunk in chunks]


def row_lengths(inputs: Inputs) -> list[int]:
    """Tokens of each row: the sum of its attention mask.

    Raises:
        ValueError: these inputs have no attention mask, so their rows have no length.
    """
    mask = inputs.dense.get("attention_mask")
    if mask is None:
        raise ValueError(f"no attention_mask among the inputs {sorted(inputs.dense)}: rows have no length to sort by")
    return mask.sum(1).tolist()


@dataclass
class _Chunk:
    """Some rows' embeddings as the loss sees them, and what it takes to send their gradient on."""

    rows: Tensor
    leaf: Embeddings
    graph: Embeddings | None
    """The embeddings with the graph that made them, where it is kept."""
    state: RandomState


class CachedEncoding:
    """N rows encoded in chunks, each with the random state it met; `embeddings` looks like one encoding of all of them.

    Args:
        encode: row-wise, with no randomness but torch's own generators.
        inputs: N rows.
        chunks: row indices of each chunk; together every row once.
        keep: so many chunks, the last ones, keep their graph and are not computed twice; or as many, the first ones, as
            there is room for.
    """

    def __init__(self, encode: Encode, inputs: Inputs, chunks: Sequence[Tensor], keep: int | GraphMemory = 0) -> None:
        self.encode, self.inputs = encode, inputs
        self._chunks: list[_Chunk] = []
        for number, rows in enumerate(chunks):
            if isinstance(keep, GraphMemory):
                self._chunks.append(self._measured(rows, keep))
            else:
                self._chunks.append(self._chunk(rows, kept=number >= len(chunks) - keep))
        whole = Embeddings.cat([chunk.leaf for chunk in self._chunks])
        order = torch.cat(list(chunks)).argsort()
        self.embeddings = whole.select(order.to(whole.vectors.device, non_blocking=True))
        """All N rows in their order. A loss's backward stops at the chunks; `replay` goes on from there."""

    @property
    def num_kept(self) -> int:
        """Chunks that keep their graph."""
        return sum(chunk.graph is not None for chunk in self._chunks)

    def replay(self) -> None:
        """After the loss's backward: send each chunk's gradient into the parameters.

        Kept graphs go first, and each is given up at once; the others are computed again, one at a time.
        """
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.graph is None):
            gradients = [head.vectors.grad for head in _heads(chunk.leaf)]
            graph, chunk.graph = chunk.graph, None
            if all(gradient is None for gradient in gradients):
                continue
            if graph is None:
                with chunk.state.again(), recomputing():
                    graph = self._run(chunk.rows)
            pairs = [
                (head.vectors, gradient)
                for head, gradient in zip(_heads(graph), gradients)
                if gradient is not None and head.vectors.requires_grad
            ]
            del graph
            if pairs:
                torch.autograd.backward([vectors for vectors, _ in pairs], [gradient for _, gradient in pairs])
        self._chunks.clear()

    def _chunk(self, rows: Tensor, kept: bool) -> _Chunk:
        state = RandomState()
        with torch.set_grad_enabled(kept):
            embeddings = self._run(rows)
        return _Chunk(rows, embeddings.as_leaf(), embeddings if kept else None, state)

    def _measured(self, rows: Tensor, memory: GraphMemory) -> _Chunk:
        """The chunk with its graph if there is room for it, and without where memory runs out on the way."""
        if not memory.allows():
            return self._chunk(rows, kept=False)
        state = RandomState()
        try:
            with memory.measure() as size:
                chunk = self._chunk(rows, kept=True)
            if not memory.admits(size[0]):
                chunk.graph = None
            return chunk
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, which holds on to the failed pass's tensors.
        memory.ran_out()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        state.restore()
        return self._chunk(rows, kept=False)

    def _run(self, rows: Tensor) -> Embeddings:
        # Autocast remembers its casts of weights; one made without graph would cut the next chunk's graph.
        torch.clear_autocast_cache()
        embeddings = self.encode(self.inputs.select(rows))
        torch.clear_autocast_cache()
        return embeddings


class RandomState:
    """Torch's random state at one moment: the CPU's, and the current accelerator's if there is one in use."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        # Only if this process uses a GPU already: asking would start CUDA in it.
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._cuda = None if self._device is None else torch.cuda.get_rng_state(self._device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, random numbers are those that followed the moment; afterwards all is as before."""
        with torch.random.fork_rng(devices=[] if self._device is None else [self._device]):
            self.restore()
            yield

    def restore(self) -> None:
        """Go back to the moment."""
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            assert self._device is not None
            torch.cuda.set_rng_state(self._cuda, self._device)


def _heads(embeddings: Embeddings) -> list[Embeddings]:
    """The embeddings and their further heads, in one order."""
    return [embeddings, *(inner for name in sorted(embeddings.aux) for inner in _heads(embeddings.aux[name]))]
