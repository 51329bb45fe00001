"""The interface every architecture implements: two encoders and a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mmret.models.depth import layers_above
from mmret.types import Embeddings, Inputs, Processor


class Retriever(nn.Module, ABC):
    """Two encoders and a score. Knows nothing of losses, ranks, recipes.

    Invariants (tests/unit/models/test_contract.py runs them over every entry of `MODELS`):
    `encode_*` is row-wise, so permuting or chunking rows permutes or chunks the outputs; vectors have unit length;
    a masked token never influences a score; `score` is the same in training and evaluation.
    """

    Config: ClassVar[type]
    config: Any
    processor: Processor

    @classmethod
    def from_config(cls, config: Any) -> Retriever:
        """The model as a first stage starts from: pretrained towers, if it has any, loaded; all else random.

        Raises:
            ConfigError: a tower's weights are not here and not to be had.
        """
        return cls(config)

    @classmethod
    def skeleton(cls, config: Any) -> Retriever:
        """The model on the meta device, without weights: for counting parameters, with no download.

        Raises:
            ConfigError: a tower's size is not known offline.
        """
        with torch.device("meta"):
            return cls(config)

    def towers(self) -> dict[str, nn.Module]:
        """Parts whose outputs the feature cache can keep while they do not train, by name; default: none.

        A model that has any also has `tower_features`, its processor `tower_keys` and `features` (PreFLMR shows how).
        """
        return {}

    @abstractmethod
    def encode_query(self, inputs: Inputs) -> Embeddings:
        """Embeddings of N queries."""

    @abstractmethod
    def encode_document(self, inputs: Inputs) -> Embeddings:
        """Embeddings of N documents."""

    @abstractmethod
    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """Scores [B, N], float32 whatever the input type."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write config, weights (safetensors) and processor files; `mmret.load(folder)` opens them, offline."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path, **overrides: Any) -> Retriever:
        """Open a folder that `save` wrote or, where the architecture has one, a published checkpoint.

        Raises:
            CheckpointError: keys are missing, unknown or of another shape; the text lists them.
        """

    def handover_source(self, key: str) -> str | None:
        """Name of the earlier stage's entry that a state-dict key without namesake starts from; None: it starts fresh.

        Lets a stage change the model: PreFLMR's separate query encoder begins as a copy of the document encoder.
        """
        return None

    def after_handover(self, new: Sequence[str]) -> None:
        """An earlier stage's weights are in; `new` are the entries that it did not have. Default: nothing to do."""
        return

    def parts(self) -> dict[str, str]:
        """What a stage's `train` may name -> regex of its parameters. `adapters`, if named, trains by default."""
        return {}

    @property
    def retrieves(self) -> bool:
        """Whether texts and pictures become vectors; a stage may leave these heads out (VLMo's language stage)."""
        return True

    def layers_above(self) -> dict[str, int]:
        """Layers between each parameter and its tower's output (`depth.layers_above`): layer-wise decay counts them."""
        return layers_above(self)

    def earlier_state(self, source: str | Path) -> dict[str, Tensor]:
        """State of the checkpoint that a stage starts from, for `adapt_state` and a hand-over by name.

        Raises:
            CheckpointError: no checkpoint of this architecture.
        """
        return type(self).load(source).state_dict()

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """An earlier stage's state, resampled for this model's image size and text length; default: as it is.

        Raises:
            CheckpointError: the sizes cannot be brought together.
        """
        return state


@dataclass(frozen=True)
class PairStates:
    """What a model sees in N pairs of text and picture that it read together."""

    text: Tensor
    """[N, L, H] last states of the text's places."""
    image: Tensor
    """[N, P, H] last states of the picture's places."""
    pooled: Tensor
    """[N, H] one summary of the pair."""


@runtime_checkable
class PairEncoder(Protocol):
    """A retriever that can also read a text and a picture together (VLMo)."""

    width: int
    """Size H of a state."""
    num_tokens: int
    """Size of the vocabulary."""
    image_types: int
    """2: it tells the second picture of a row from the first."""

    def encode_pair(self, text: Inputs, image: Inputs) -> PairStates:
        """Row i of both, read together.

        `image` may bring `image_type` [N]: 1, or 2 where it is the second picture of a pair.
        """
        ...

    def encode_text(self, text: Inputs) -> Tensor:
        """[N, L, H] last states of texts alone."""
        ...

    def encode_image(self, image: Inputs) -> Tensor:
        """[N, 1 + P, H] last states of pictures alone, CLS first."""
        ...


@runtime_checkable
class MaskedImageEncoder(Protocol):
    """A model that reads a picture some of whose patches are hidden."""

    width: int
    """Size H of a state."""
    processor: Any
    """Its `window` says how many patches a side of a picture has, its `picture` how pixels are normalised."""

    def encode_image_masked(self, image: Inputs, mask: Tensor, token: Tensor) -> Tensor:
        """[N, P, H] last states of the patches, row by row from the top left.

        Args:
            mask: [N, P] bool: patches that are hidden.
            token: [H] what is read in their place. It belongs to the objective: no checkpoint of the model holds it.
        """
        ...
