"""Texts that say nearly the same: MinHash finds candidates (`datasketch`), their exact Jaccard similarity decides."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmret.data.curate.filter import Filter, Setup, Verdict, no_reasons, package
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError

SHINGLE = 5
"""Characters of a shingle: captions have too few words for shingles of those."""
PERMUTATIONS = 128


@dataclass
class DuplicateTextsConfig:
    """Share of the shingles (5 characters) that two samples' texts have in common: Jaccard similarity."""

    of: str = "positives"
    """Whose texts, joined: both, query or positives."""
    min_similarity: float = 0.8
    """So similar or more is the same text. MinHash misses a candidate now and then, it finds no wrong one."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if not 0 < self.min_similarity <= 1:
            raise ConfigError(f"min_similarity is above 0, at most 1; got {self.min_similarity}")


class DuplicateTexts(Filter):
    """A sample goes if an earlier one that stays says nearly the same; without texts it stays."""

    name, Config, unit = (
        "duplicate_texts",
        DuplicateTextsConfig,
        "similarity to the nearest text that stays, if it goes",
    )
    kind = pa.list_(pa.uint32())

    def __init__(self, config: DuplicateTextsConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        package("datasketch", "datasketch", self.name)

    def measure(self, view: View) -> list[int]:
        """Hashes of the different shingles of the texts, in small letters and single spaces."""
        text = " ".join(" ".join(view.texts(self.config.of)).lower().split())
        shingles = {text[at : at + SHINGLE] for at in range(max(len(text) - SHINGLE + 1, 1))} if text else set()
        return sorted({zlib.crc32(shingle.encode()) for shingle in shingles})

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """In stored order; of several that stay and are near, the most similar one counts as the original."""
        datasketch = package("datasketch", "datasketch", self.name)
        reasons, similarities = no_reasons(len(values)), np.full(len(values), np.nan)
        like = np.full(len(values), -1, np.int64)
        # False candidates cost a comparison, missed ones a duplicate: recall has the greater weight.
        lsh = datasketch.MinHashLSH(min(self.config.min_similarity, 0.99), PERMUTATIONS, weights=(0.1, 0.9))
        sets: dict[int, frozenset[int]] = {}
        for row, shingles in enumerate(values.to_pylist()):
            if not shingles:
                continue
            own = frozenset(shingles)
            sketch = datasketch.MinHash(PERMUTATIONS, seed=1, hashfunc=int)
            sketch.update_batch(shingles)
            near = sorted((-len(own & sets[o]) / len(own | sets[o]), o) for o in lsh.query(sketch))
            if near and -near[0][0] >= self.config.min_similarity:
                similarities[row], like[row] = -near[0][0], near[0][1]
                reasons[row] = "says what an earlier text says"
            else:
                sets[row] = own
                lsh.insert(row, sketch)
        return Verdict(reasons, similarities, like)
