"""How many bytes of tensors are alive at most while something runs, on any device: every new storage is counted."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages that are made while it is open; those from before are not its business."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), before)
        return out

    def _count(self, storage, before):
        key = storage._cdata
        if key in self._known or key in before:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        if self._known.pop(key, None) is not None:
            self.now -= size


def peak_bytes(run):
    """Most bytes alive at once of what `run()` makes."""
    with LiveBytes() as live:
        run()
    return live.peak
