"""Which samples of its shards a manifest keeps: a curated collection names the tars of another one, and copies none."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmret.data.shards import Manifest
from mmret.errors import ConfigError

T = TypeVar("T")


class Kept:
    """The kept samples of each shard of a manifest. Pickles as the manifest: the file is read where it lands."""

    def __init__(self, manifest: Manifest):
        """Open the file that `manifest.keep` names.

        Raises:
            ConfigError: it is missing, not a list of numbers, or does not fit the manifest's counts.
        """
        self.manifest = manifest
        self._starts = [0, *accumulate(shard.samples for shard in manifest.shards)]
        self._numbers: np.ndarray | None = None
        if manifest.keep is not None:
            self._numbers = _read(manifest.path.parent / manifest.keep)
            self._check(self._numbers)

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.manifest,)

    def __bool__(self) -> bool:
        return self._numbers is not None

    def numbers(self, shard: int) -> np.ndarray:
        """[samples] places in the tar of what is kept of a shard, in rising order."""
        if self._numbers is None:
            return np.arange(self.manifest.shards[shard].samples)
        return self._numbers[self._starts[shard] : self._starts[shard + 1]]

    def place(self, shard: int, sample: int) -> int:
        """Where in its tar the shard's `sample`-th kept sample is."""
        return sample if self._numbers is None else int(self._numbers[self._starts[shard] + sample])

    def select(self, shard: int, stored: Sequence[T]) -> list[T]:
        """Of what a tar holds, what is kept; a tar that is too short gives what it has."""
        if self._numbers is None:
            return list(stored)
        return [stored[at] for at in self.numbers(shard).tolist() if at < len(stored)]

    def _check(self, numbers: np.ndarray) -> None:
        manifest = self.manifest
        where = f"{manifest.path.parent / str(manifest.keep)}"
        if len(numbers) != self._starts[-1]:
            raise ConfigError(
                f"{where}: {len(numbers):,} kept samples, {manifest.path.name} says {self._starts[-1]:,}; they are of "
                "different versions, curate again"
            )
        for shard, entry in enumerate(manifest.shards):
            own = self.numbers(shard)
            stored = entry.samples if entry.stored is None else entry.stored
            if len(own) and (int(own[-1]) >= stored or bool((own[1:] <= own[:-1]).any())):
                raise ConfigError(
                    f"{where}: shard {entry.name}: want rising numbers below {stored:,}; it is broken, curate again"
                )


def write_kept(path: Path, numbers: Sequence[np.ndarray]) -> None:
    """Write the kept samples of each shard, one shard after the other; all of the file or nothing."""
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate([np.asarray(own, np.uint32) for own in numbers]))
    part = path.with_name(path.name + ".part")
    part.write_bytes(buffer.getvalue())
    os.replace(part, path)


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ConfigError(f"{path}: the list of kept samples is missing; copy it beside its manifest, or curate again")
    try:
        numbers = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{path}: not a list of kept samples ({error}); curate again") from error
    if numbers.dtype != np.uint32 or numbers.ndim != 1:
        raise ConfigError(f"{path}: {numbers.dtype} {list(numbers.shape)}, want uint32 numbers in a row; curate again")
    return numbers
