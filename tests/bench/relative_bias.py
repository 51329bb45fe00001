"""Memory of VLMo's relative position bias: gathered layer by layer, against all at once as published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmret.models import VLMo, VLMoConfig
from mmret.models.vlmo.position import RelativePositions
from mmret.types import Inputs

PX, TOKENS = 480, 40
PLACES = TOKENS + 1 + (PX // 16) ** 2


@dataclass
class MemoryRow:
    """Peaks of one contestant, in bytes; weights are not counted, they are there before."""

    task: str
    contestant: str
    bias: int
    """Of what is gathered from the table."""
    total: int
    """Of all tensors that the pass makes."""
    layers: float
    """`bias` over one layer's: heads x places^2 x 4 bytes."""


class Peaks(TorchDispatchMode):
    """Watches storages come and go, operation by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.gathered: dict[int, tuple[StorageWeakRef, int]] = {}
        self.total = self.bias = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, note what it made, and what is still there."""
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.alive[tensor.untyped_storage().data_ptr()] = _entry(tensor)
        self.total, self.bias = max(self.total, _sum(self.alive)), max(self.bias, _sum(self.gathered))
        return out

    def note(self, bias: Tensor) -> Tensor:
        """Count a tensor as bias."""
        self.gathered[bias.untyped_storage().data_ptr()] = _entry(bias)
        return bias


def _entry(tensor: Tensor) -> tuple[StorageWeakRef, int]:
    storage = tensor.untyped_storage()
    return StorageWeakRef(storage), storage.nbytes()


def _sum(entries: dict[int, tuple[StorageWeakRef, int]]) -> int:
    for key in [key for key, (storage, _) in entries.items() if storage.expired()]:
        del entries[key]
    return sum(size for _, size in entries.values())


class AllAtOnce:
    """The table of all layers gathered at the start of a pass, and given out by layer: what the released code does."""

    def __init__(self, positions: RelativePositions, peaks: Peaks) -> None:
        self.positions, self.peaks = positions, peaks
        self.index_of, self.whole = positions.index, torch.empty(0)

    def index(self, num_text: int, with_image: bool) -> Tensor:
        """As `RelativePositions.index`, and gather for a pair."""
        index = self.index_of(num_text, with_image)
        if num_text and with_image:
            padded = torch.nn.functional.pad(index, (0, -len(index) % 16))
            gathered = self.positions.table.T.index_select(1, padded.flatten())
            self.whole = self.peaks.note(gathered.view(-1, 1, self.positions.heads, *padded.shape))
        return index

    def bias(self, layer: int, index: Tensor) -> Tensor:
        """A layer's part."""
        return self.whole[layer]


@contextmanager
def watched(model: VLMo, at_once: bool) -> Iterator[Peaks]:
    """A pass of `model`, with its bias counted."""
    peaks, positions = Peaks(), model.backbone.positions
    assert positions is not None
    own, all_layers = RelativePositions.bias.__get__(positions), AllAtOnce(positions, peaks)
    positions.index = all_layers.index if at_once else RelativePositions.index.__get__(positions)
    positions.bias = all_layers.bias if at_once else lambda layer, index: peaks.note(own(layer, index))
    with peaks:
        yield peaks
    del positions.index, positions.bias


def run() -> list[MemoryRow]:
    """Base at 480 px with 40 text tokens: 941 places, one pair."""
    torch.manual_seed(0)
    model = VLMo(VLMoConfig(image_px=PX, drop_path=0.0)).eval()
    ids = torch.randint(1000, 2000, (1, TOKENS))
    text = Inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    image = Inputs({"pixel_values": torch.randn(1, 3, PX, PX)})

    def inference() -> None:
        with torch.inference_mode():
            model.encode_pair(text, image)

    def training() -> None:
        model.encode_pair(text, image).pooled.sum().backward()
        model.zero_grad()

    def recomputing() -> None:
        model.backbone.checkpoint_blocks = True
        training()

    at_once = "all layers at once"
    contests: list[tuple[str, str, Callable[[], None]]] = [
        ("inference", "mmret", inference),
        ("inference", at_once, inference),
        ("forward and backward", "mmret", training),
        ("forward and backward", at_once, training),
        ("forward and backward", "mmret, checkpoint_blocks", recomputing),
    ]
    rows = []
    for task, contestant, call in contests:
        with watched(model, contestant == at_once) as peaks:
            call()
        layer = model.config.shape["heads"] * PLACES**2 * 4
        name = f"relative bias, base at {PX} px with {TOKENS} tokens, {task}"
        rows.append(MemoryRow(name, contestant, peaks.bias, peaks.total, peaks.bias / layer))
    return rows


def table(rows: list[MemoryRow]) -> Table:
    """The rows for a terminal; the last column is the formula, heads x places^2 x 4 bytes, and how often it fits."""
    table = Table(title="memory, one pair, peak of what a pass makes")
    for heading in ("task", "contestant", "bias MB", "all MB", "layers of bias"):
        table.add_column(heading, justify="left" if heading in ("task", "contestant") else "right")
    for row in rows:
        table.add_row(row.task, row.contestant, f"{row.bias / 1e6:.1f}", f"{row.total / 1e6:,.1f}", f"{row.layers:.2f}")
    return table
