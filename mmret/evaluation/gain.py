"""What training on one dataset gives another: the difference of two runs' best validation losses, in nats.

PreFLMR's authors measure intermediate training so (arXiv 2402.08327, on intermediate KB-VQA pre-training; the formula
is that of Xu et al., ICLR 2020, Definitions 1 and 2). The loss of the best model that a family V (architecture and
training) finds estimates the predictive V-entropy of the right document d given the query q,

    H_V = inf over f in V of E[-log p_f(d | q)]   ~   minimum over training of the validation loss,

and what another dataset tells about this one is the entropy that it takes away:

    gain = H_V without it  -  H_V with it     [nats; > 0: it helps]

The loss must be a plain mean cross-entropy (objective `hard_negative`, weight 1, temperature 1) over the same
candidates in both runs: what it can reach depends on their number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.record import read_log

VALIDATION_LOSS = "val/loss"
_MEANING = ("stage.validation.", "stage.validation_batches", "stage.objectives.", "seed")
"""Settings (of stage.json) that decide what a validation loss means."""
_IRRELEVANT = ("stage.validation.num_workers",)


@dataclass(frozen=True)
class BestLoss:
    """The lowest validation loss of one stage."""

    stage: Path
    """Its folder."""
    loss: float
    step: int
    last_step: int
    """Where it was measured last."""
    settings: Mapping[str, Any]
    """What decides the meaning of the loss: validation data, objectives, seed."""

    @property
    def still_falling(self) -> bool:
        """The best was the last: a longer run might have gone lower."""
        return self.step == self.last_step


@dataclass(frozen=True)
class Gain:
    """What a run gained over another that lacks something."""

    with_it: BestLoss
    without: BestLoss

    @property
    def nats(self) -> float:
        """H without - H with."""
        return self.without.loss - self.with_it.loss

    @property
    def bits(self) -> float:
        """The same to the base 2."""
        return self.nats / math.log(2)

    @property
    def other_batches(self) -> bool:
        """The seeds differ, and with them the rows and negatives that the loss was measured on."""
        return self.with_it.settings.get("seed") != self.without.settings.get("seed")


def gain(with_it: str | Path, without: str | Path, stage: str | None = None, name: str = VALIDATION_LOSS) -> Gain:
    """Compare two runs.

    Args:
        with_it, without: run folders, or folders of single stages.
        stage: which stage of each run; None: the last one that has a validation loss.
        name: column of the log.

    Raises:
        CheckpointError: no such run, or no finished stage with a validation loss.
        ConfigError: the two losses do not measure the same, or are no cross-entropy in nats.
    """
    found = Gain(best_loss(with_it, stage, name), best_loss(without, stage, name))
    _check(found)
    return found


def best_loss(folder: str | Path, stage: str | None = None, name: str = VALIDATION_LOSS) -> BestLoss:
    """The lowest validation loss of a run's stage.

    Raises:
        CheckpointError: as `gain`.
    """
    folder = Path(folder)
    stages = _stages(folder)
    chosen = [path for path in stages if stage in (None, path.name)]
    if not chosen:
        what = f"stage {stage!r} is not among the finished ones ({', '.join(path.name for path in stages)})"
        raise CheckpointError(f"{folder}: {what if stages else 'no finished stage (one has a stage.json)'}")
    for path in reversed(chosen):
        record = json.loads((path / "stage.json").read_text(encoding="utf-8"))
        points = dict(read_log(path / "metrics.csv").get(name, ()))
        if name in record.get("metrics", {}):
            points[int(record["steps"])] = float(record["metrics"][name])
        points = {step: loss for step, loss in points.items() if math.isfinite(loss)}
        if points:
            step = min(points, key=lambda step: (points[step], step))
            settings = {
                key: value
                for key, value in record.get("settings", {}).items()
                if key.startswith(_MEANING) and key not in _IRRELEVANT
            }
            return BestLoss(path, points[step], step, max(points), settings)
    raise CheckpointError(
        f"{folder}: no {name} in {', '.join(path.name for path in chosen)}; give the stage held-back data in the "
        "recipe (stages[i].validation) and let it be measured while training (trainer.evaluate_every)"
    )


def _stages(folder: Path) -> list[Path]:
    """Finished stages in the order in which they were trained."""
    if (folder / "stage.json").is_file():
        return [folder]
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such run")
    recipe = folder / "recipe.yaml"
    sections = yaml.safe_load(recipe.read_text(encoding="utf-8"))["stages"] if recipe.is_file() else ()
    order = [str(section["name"]) for section in sections]
    found = {path.parent.name: path.parent for path in folder.glob("*/stage.json")}
    # Without a recipe (a copied stage or two) the files' times have to do.
    by_time = sorted(found, key=lambda name: (found[name] / "stage.json").stat().st_mtime)
    return [found[name] for name in dict.fromkeys([*order, *by_time]) if name in found]


def _check(found: Gain) -> None:
    """Refuse to call a difference of unlike losses a gain."""
    a, b = found.with_it.settings, found.without.settings
    problems = [
        f"{key} is {a.get(key)!r} in {found.with_it.stage}, {b.get(key)!r} in {found.without.stage}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and key != "seed"
    ]
    for key, value in a.items():
        if key.startswith("stage.objectives.") and key.endswith((".weight", ".temperature")) and value != 1:
            problems.append(f"{key} is {value}: the loss is then not in nats of the model's own scores; want 1")
    if problems:
        raise ConfigError("the validation losses do not measure the same:\n  " + "\n  ".join(problems))
