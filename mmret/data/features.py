"""Outputs of frozen towers on disk: memory-mapped, found by content key, bounded in size, safe to delete at any time.

Layout: `<folder>/<tower fingerprint>/<part>.{bin,npz}`. A part is written aside and appears by rename, so a reader sees
whole parts only; several processes may write parts of their own at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class FeatureReader:
    """Features [T, D] of one tower by 16-byte content key. Pickles as its path: each worker maps the files itself."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._parts: list[_Part] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_parts": None}

    @property
    def parts(self) -> list[_Part]:
        """Parts on disk when first asked."""
        if self._parts is None:
            self._parts = [_Part(index) for index in sorted(self.folder.glob("*.npz"))]
        return self._parts

    def refresh(self) -> None:
        """Look at the disk again."""
        self._parts = None

    def __contains__(self, key: bytes) -> bool:
        return any(part.row(key) is not None for part in self.parts)

    def __len__(self) -> int:
        return sum(len(part.high) for part in self.parts)

    def get(self, key: bytes) -> Tensor:
        """[T, D] float32.

        Raises:
            KeyError: not cached.
        """
        for part in self.parts:
            row = part.row(key)
            if row is not None:
                return part.read(row)
        raise KeyError(key.hex())


class _Part:
    def __init__(self, index: Path) -> None:
        with np.load(index) as stored:
            self.high, self.low = stored["high"], stored["low"]
            self.start, self.tokens = stored["start"], stored["tokens"]
            self.dim, self.dtype = int(stored["dim"]), str(stored["dtype"])
        width = np.float32 if self.dtype == "float32" else np.int16
        self.data = np.memmap(index.with_suffix(".bin"), dtype=width, mode="r")

    def row(self, key: bytes) -> int | None:
        high, low = _halves(key)
        row = int(np.searchsorted(self.high, high))
        while row < len(self.high) and self.high[row] == high:
            if self.low[row] == low:
                return row
            row += 1
        return None

    def read(self, row: int) -> Tensor:
        start, tokens = int(self.start[row]), int(self.tokens[row])
        flat = torch.from_numpy(np.array(self.data[start * self.dim : (start + tokens) * self.dim]))
        return flat.view(DTYPES[self.dtype]).view(tokens, self.dim).float()


class FeatureWriter:
    """Writes one part. `close` makes it visible; what was not closed never existed."""

    def __init__(self, root: str | Path, fingerprint: str, dtype: str, max_gb: float) -> None:
        self.root, self.folder = Path(root), Path(root) / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        self.dtype, self.max_bytes = dtype, int(max_gb * 1e9)
        self.free = self.max_bytes - _make_room(self.root, self.folder, self.max_bytes)
        self.keys: list[tuple[int, int]] = []
        self.tokens: list[int] = []
        self.dim = 0
        self.path = self.folder / f"{uuid.uuid4().hex}.bin"
        self.file = open(self.path.with_suffix(".tmp"), "wb")  # noqa: SIM115  (closed by close)

    def add(self, key: bytes, features: Tensor) -> bool:
        """Append [T, D]; False when the folder's bound leaves no room."""
        stored = features.detach().to("cpu", DTYPES[self.dtype]).contiguous()
        size = stored.numel() * stored.element_size()
        if size > self.free:
            return False
        self.free -= size
        self.dim = stored.shape[1]
        self.file.write(stored.view(torch.uint8).numpy().tobytes())
        self.keys.append(_halves(key))
        self.tokens.append(stored.shape[0])
        return True

    def close(self) -> None:
        """Write the index and make the part visible."""
        self.file.close()
        temporary = Path(self.file.name)
        if not self.keys:
            temporary.unlink()
            return
        keys = np.array(self.keys, dtype=np.uint64)
        tokens = np.array(self.tokens, dtype=np.int64)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        start = np.cumsum(tokens) - tokens
        index = self.path.with_suffix(".tmp.npz")
        np.savez(
            index,
            high=keys[order, 0],
            low=keys[order, 1],
            start=start[order],
            tokens=tokens[order],
            dim=self.dim,
            dtype=self.dtype,
        )
        temporary.rename(self.path)
        index.rename(self.path.with_suffix(".npz"))  # last: a part exists once its index does


def fingerprint(state: Mapping[str, Tensor], *settings: object) -> str:
    """Identity of a tower: its weights and the settings that shape what it sees."""
    from hashlib import blake2b

    digest = blake2b(repr(settings).encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _halves(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:16], "big")


def _make_room(root: Path, keep: Path, max_bytes: int) -> int:
    """Bytes in use, after deleting leftovers and, while over half full, the towers unused for longest."""
    sizes = {}
    for folder in root.iterdir():
        if folder.is_dir():
            for leftover in folder.glob("*.tmp*"):
                if time.time() - leftover.stat().st_mtime > 86400:
                    leftover.unlink(missing_ok=True)
            sizes[folder] = sum(file.stat().st_size for file in folder.iterdir())
    used = sum(sizes.values())
    for folder in sorted(sizes, key=lambda f: f.stat().st_mtime):
        if used <= max_bytes // 2 or folder == keep:
            continue
        logger.info("feature cache: deleting %s (%.1f GB, unused for longest)", folder, sizes[folder] / 1e9)
        shutil.rmtree(folder, ignore_errors=True)
        used -= sizes[folder]
    return used
