"""Tables of small models and objectives, and a recipe that uses them: the loader without the real ones."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.types import Need

TINY = """\
name: tiny
model:
  name: late
  dim: 32
stages:
  - name: mapping
    steps: 10
    data:
      batch_size: 8
      sources: {demo/flags: 1}
    objectives:
      itc: {temperature: 0.05}
    optimizer: {lr: 1e-3}
"""


@dataclass
class TowerConfig:
    layers: int = 2
    dropout: float = 0.1


@dataclass
class LateConfig:
    name: str = "late"
    text: str = "tiny"
    dim: int = 128
    px: int | None = None
    mean: list[float] | None = None
    tower: TowerConfig = field(default_factory=TowerConfig)
    text_in_score: bool = True
    image_in_score: bool = True

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ConfigError(f"model.dim must be at least 1, got {self.dim}")
        if not (self.text_in_score or self.image_in_score):
            raise ConfigError("text_in_score: false leaves nothing of a query without image_in_score")


@dataclass
class FusionConfig:
    name: str = "fusion"
    size: str = "base"


class Late:
    Config = LateConfig


class Fusion:
    Config = FusionConfig

    def encode_pair(self):
        """Having it is what counts."""


@dataclass
class ITCConfig:
    name: str = "itc"
    weight: float = 1.0
    temperature: float = MISSING
    head: str = "main"

    def __post_init__(self) -> None:
        if self.temperature != MISSING and self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")


@dataclass
class MatchConfig:
    name: str = "match"
    weight: float = 1.0


class ITC:
    Config = ITCConfig
    needs = frozenset()


class Match:
    Config = MatchConfig
    needs = frozenset({Need.PAIR, Need.NEGATIVES})


MODELS = {"late": Late, "fusion": Fusion}
OBJECTIVES = {"itc": ITC, "match": Match}
