"""What a filter is: it measures samples one shard at a time, then judges all that reached it at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mmret.data.curate.view import View
from mmret.errors import EnvironmentProblem, SampleError


@dataclass(frozen=True)
class Setup:
    """What all filters of a curation share."""

    folder: Path
    """Where the files that they name are looked for: that of the curation's file."""
    seed: int = 0
    device: str | None = None
    """Where models run; None: a GPU if there is one."""


@dataclass
class Verdict:
    """What becomes of the N samples that reached a filter."""

    reasons: np.ndarray
    """[N] text: why a sample goes, in words that many share; "" if it stays."""
    values: np.ndarray
    """[N] float64: what was judged, for tables and plots; NaN: there was nothing to measure."""
    like: np.ndarray | None = None
    """[N] int64: of a duplicate the sample that stays in its place (one of the N); -1: none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the report."""

    @property
    def keep(self) -> np.ndarray:
        """[N] bool: which stay."""
        return self.reasons == ""


class Filter(ABC):
    """One entry of a curation. Pickles into other processes as its config; models and lists are opened there."""

    name: ClassVar[str]
    """In a curation's `filters`."""
    Config: ClassVar[type]
    unit: ClassVar[str]
    """What `Verdict.values` are: the label of the plot."""
    kind: ClassVar[pa.DataType]
    """Type of what is measured of one sample."""
    measured_by: ClassVar[tuple[str, ...]] = ("of",)
    """Fields of the config which change what is measured; the others only change how it is judged."""
    measure_name: ClassVar[str] = ""
    """Filters that measure the same share one name here; "": the filter's own."""
    alone: ClassVar[bool] = False
    """It holds a model: measured in this process, in a pass of its own."""

    def __init__(self, config: Any, setup: Setup) -> None:
        self.config, self.setup = config, setup

    @abstractmethod
    def measure(self, view: View) -> Any:
        """The measure of one sample, of type `kind`; of several texts or pictures that of each.

        Raises:
            SampleError: the sample is broken; it goes, for that reason.
        """

    @abstractmethod
    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """Who stays.

        Args:
            values: [N] measures, of type `kind`.
            indices: [N] the samples' numbers in the source, rising: what random choices are keyed by.
        """

    def measure_all(self, views: Sequence[View]) -> list[Any]:
        """`measure` of several samples, or the SampleError of one that is broken."""
        found: list[Any] = []
        for view in views:
            try:
                found.append(self.measure(view))
            except SampleError as error:
                found.append(error)
        return found

    def identity(self) -> dict[str, Any]:
        """What a cached measure depends on beside the samples."""
        return {name: getattr(self.config, name) for name in self.measured_by}


def extremes(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest [N] of each sample's list, NaN of empty ones."""
    lengths = np.diff(values.offsets.to_numpy())
    flat = values.values.to_numpy(zero_copy_only=False).astype(np.float64)
    low, high = np.full(len(lengths), np.nan), np.full(len(lengths), np.nan)
    some = lengths > 0
    if some.any():
        starts = values.offsets.to_numpy()[:-1][some]
        # An empty list begins where the next one does: leaving it out leaves the others whole.
        low[some], high[some] = np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts)
    return low, high


def no_reasons(num: int) -> np.ndarray:
    """[num] empty texts of any length to come."""
    return np.full(num, "", dtype=object)


def package(name: str, install: str, what: str) -> Any:
    """An optional package.

    Raises:
        EnvironmentProblem: it is not installed; the text says how it gets here.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(
            f"the filter {what} needs {install}, which is not installed: pip install 'mmret[curate]'"
        ) from error
