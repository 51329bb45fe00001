"""One task's share of a build that several machines do together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmret.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Slice:
    """Every `count`th piece from piece `number` on; numbers start at 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str | None) -> Slice:
        """ "3/16", or the whole.

        Raises:
            ConfigError: it is none.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"slice {text!r}: want NUMBER/COUNT, from 1/COUNT to COUNT/COUNT (3/16), or slurm")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_slurm(cls, environ: Mapping[str, str]) -> Slice:
        """By the task's place in its SLURM array, and among the processes of its srun if there are several.

        Raises:
            ConfigError: this is no such task, or its number in the array has gaps before it.
        """
        number, count = 0, 1
        if "SLURM_ARRAY_TASK_ID" in environ:
            count = int(environ["SLURM_ARRAY_TASK_COUNT"])
            step = int(environ.get("SLURM_ARRAY_TASK_STEP") or 1)
            number = (int(environ["SLURM_ARRAY_TASK_ID"]) - int(environ["SLURM_ARRAY_TASK_MIN"])) // step
            if number >= count:
                raise ConfigError(
                    f"slice slurm: task {environ['SLURM_ARRAY_TASK_ID']} of an array of {count} tasks with gaps; "
                    "say which slice it is: --slice $SLURM_ARRAY_TASK_ID/COUNT"
                )
        # A batch script has most of SLURM's variables too, but no step: there is one process.
        if "SLURM_STEP_ID" in environ:
            tasks = int(environ.get("SLURM_STEP_NUM_TASKS") or 1)
            number, count = number * tasks + int(environ["SLURM_PROCID"]), count * tasks
        elif "SLURM_ARRAY_TASK_ID" not in environ:
            raise ConfigError("slice slurm: neither a task of a job array nor one of srun; name it: --slice 3/16")
        return cls(number + 1, count)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items of this slice; all slices together have each item once."""
        return list(items[self.number - 1 :: self.count])
