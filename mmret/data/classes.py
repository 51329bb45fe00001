"""Classes: what a collection's labels may be, numbered by a text file, and what a row says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmret.errors import ConfigError, SampleError

LABELS = ("label", "labels")
"""Fields of a sample that hold one right class, or a score for each that is more or less right."""


@dataclass(frozen=True)
class Target:
    """What is right for a row, among C classes."""

    num_classes: int
    scores: Mapping[int, float]
    """Class number -> score in (0, 1]; others have 0."""
    soft: bool
    """The row brings scores ("labels"), and not one right class ("label")."""

    @property
    def number(self) -> int | None:
        """The class that scores most, of equals the first; None where none scores."""
        return max(self.scores, key=lambda number: (self.scores[number], -number), default=None)


class Classes:
    """Names by number: line n of the file is class n, from 0."""

    def __init__(self, names: Sequence[str], file: str | Path) -> None:
        self.names, self.file = tuple(names), Path(file)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def load(cls, path: str | Path) -> Classes:
        """Read a UTF-8 file of one class a line.

        Raises:
            ConfigError: no such file, less than two classes, an empty line, or a name that occurs twice.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f"{path}: no such classes file; want a text file with one class a line")
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        if len(names) < 2:
            raise ConfigError(f"{path}: {len(names)} classes; want at least 2, one a line")
        seen: dict[str, int] = {}
        for number, name in enumerate(names, 1):
            if not name:
                raise ConfigError(f"{path}:{number}: an empty line; want one class a line")
            if name in seen:
                raise ConfigError(f"{path}:{number}: {name!r} is class {seen[name] - 1} already (line {seen[name]})")
            seen[name] = number
        return cls(names, path)

    def __len__(self) -> int:
        return len(self.names)

    def target(self, where: str, row: Mapping[str, Any]) -> Target | None:
        """What a sample's JSON says: "label" (a name, or a number) or "labels" (name -> score); None: neither.

        Args:
            where: shard:key, for messages.

        Raises:
            SampleError: a class is not in the file, a score is no number in [0, 1], or both fields are there.
        """
        label, labels = row.get("label"), row.get("labels")
        if label is None and labels is None:
            return None
        if labels is None:
            return Target(len(self), {self._number(where, label): 1.0}, soft=False)
        if label is not None:
            raise SampleError(f"{where}: both label and labels; want one of them")
        if not isinstance(labels, Mapping):
            raise SampleError(f"{where}: labels is {labels!r}; want an object of scores by class name")
        scores = {self._number(where, name): self._score(where, name, score) for name, score in labels.items()}
        return Target(len(self), {number: score for number, score in scores.items() if score}, soft=True)

    def _number(self, where: str, label: Any) -> int:
        if isinstance(label, str):
            if label in self._numbers:
                return self._numbers[label]
            close = get_close_matches(label, self.names, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise SampleError(f"{where}: label {label!r} is none of the {len(self):,} classes of {self.file}.{hint}")
        if not isinstance(label, int) or isinstance(label, bool):
            raise SampleError(f"{where}: label is {label!r}; want a class name or its number (line of {self.file})")
        if not 0 <= label < len(self):
            raise SampleError(
                f"{where}: label {label} is none of the {len(self):,} classes of {self.file}; "
                f"want 0 to {len(self) - 1}, nearest {min(max(label, 0), len(self) - 1)}"
            )
        return label

    def _score(self, where: str, name: str, score: Any) -> float:
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
            raise SampleError(f"{where}: labels gives {name!r} the score {score!r}; want a number in [0, 1]")
        return float(score)
