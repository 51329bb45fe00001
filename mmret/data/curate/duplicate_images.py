"""Pictures that look the same: perceptual hashes (pHash, `imagehash`) that differ in a few bits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from mmret.data.curate.filter import Filter, Setup, Verdict, no_reasons, package
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError

BITS = 64


@dataclass
class DuplicateImagesConfig:
    """Bits in which the hashes of two samples' first pictures differ."""

    of: str = "query"
    """Whose first picture: both, query or positives."""
    max_distance: int = 4
    """Of 64 bits; so many or fewer are the same picture. 0: only equal hashes."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if not 0 <= self.max_distance < 32:
            raise ConfigError(f"max_distance is 0 to 31 of 64 bits, got {self.max_distance}")


class DuplicateImages(Filter):
    """A sample goes if an earlier one that stays looks like it; without a picture it stays."""

    name, Config, unit = "duplicate_images", DuplicateImagesConfig, "bits to the nearest picture that stays, if it goes"
    kind = pa.uint64()

    def __init__(self, config: DuplicateImagesConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        package("imagehash", "ImageHash", self.name)

    def measure(self, view: View) -> int | None:
        """The 64-bit hash of the first picture; None without one."""
        pictures = view.pictures(self.config.of)
        if not pictures:
            return None
        bits = package("imagehash", "ImageHash", self.name).phash(pictures[0].decode()).hash.ravel()
        return int.from_bytes(np.packbits(bits).tobytes(), "big")

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """In stored order; of several that stay and are near, the first one counts as the original.

        Two hashes that differ in d bits agree in at least one of d + 1 bands, so that few have to be compared.
        """
        reasons, distances = no_reasons(len(values)), np.full(len(values), np.nan)
        like = np.full(len(values), -1, np.int64)
        edges = np.linspace(0, BITS, self.config.max_distance + 2).astype(int).tolist()
        kept: dict[tuple[int, int], list[int]] = defaultdict(list)
        hashes = values.to_pylist()
        for row, value in enumerate(hashes):
            if value is None:
                continue
            bands = [(band, value >> low & ((1 << high - low) - 1)) for band, (low, high) in enumerate(pairwise(edges))]
            near = sorted({other for band in bands for other in kept[band]})
            found = next((o for o in near if (hashes[o] ^ value).bit_count() <= self.config.max_distance), None)
            if found is None:
                for band in bands:
                    kept[band].append(row)
            else:
                reasons[row], like[row] = "looks like an earlier picture", found
                distances[row] = (hashes[found] ^ value).bit_count()
        return Verdict(reasons, distances, like)
