"""Masked image modelling: guess a visual tokenizer's token of each hidden patch from the rest of the picture."""

# B rows, P = window^2 patches, M hidden patches, H width, K visual tokens

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmret.errors import CheckpointError, ConfigError
from mmret.models.retriever import MaskedImageEncoder
from mmret.models.visual_tokenizer import (
    VisualTokenizer,
    find_visual_tokenizer,
    load_visual_tokenizer,
    visual_tokenizer_facts,
)
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.ops import mean_over_ranks
from mmret.types import Need


@dataclass
class MIMConfig:
    """BEiT's masked patches (Bao et al. 2021, Sec. 2.3 and Eq. 1): VLMo's vision stage."""

    name: str = "mim"
    weight: float = 1.0
    tokenizer: str = MISSING
    """The frozen tokenizer: a codebook's folder (`mmret codebook`), a DALL-E encoder's state dict (a file), or `tiny`:
    each patch's mean colour in 64 steps, for toys."""
    num_tokens: int | None = None
    """Tokens it tells apart; null: as many as it says. Given where a recipe is checked without the tokenizer's file."""

    def __post_init__(self) -> None:
        if self.num_tokens is not None and self.num_tokens < 2:
            raise ConfigError(f"num_tokens must be at least 2, got {self.num_tokens}")


class MIM(Objective):
    """Cross-entropy of the hidden patches' tokens, by a linear head on the model's last states; seen patches are free.

    The mask token is a parameter here and not of the model: only this stage reads it (BEiT's fine-tuned checkpoints
    have none), and a model's folder and published files stay what they are.

    Args:
        window: patches along one side of the model's pictures.
        mean, std: what the model's pixels were normalised with.
    """

    Config = MIMConfig
    config: MIMConfig
    needs = frozenset({Need.MASKED_IMAGE})

    def __init__(
        self,
        config: MIMConfig,
        width: int,
        num_tokens: int,
        window: int,
        mean: tuple[float, ...] = (0.5,) * 3,
        std: tuple[float, ...] = (0.5,) * 3,
    ) -> None:
        super().__init__(replace(config, num_tokens=num_tokens))
        self.window = window
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(width, num_tokens)
        for weight in (self.mask_token, self.head.weight):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        # In a list, torch does not see it: no parameter to count, train or broadcast, and no part of a checkpoint.
        self._opened: list[VisualTokenizer] = []

    @classmethod
    def for_model(cls, config: MIMConfig, model: Any) -> MIM:
        """With a head of the tokenizer's size. Its file need not be here if `num_tokens` is given (`prepare`).

        Raises:
            ConfigError: the model hides no patches; the tokenizer is not here, is none, has another number of tokens
                than the recipe says, or was made for pictures of other patches.
        """
        if not isinstance(model, MaskedImageEncoder):
            raise ConfigError(f"mim needs a model that can hide patches of a picture; {type(model).__name__} cannot")
        processor: Any = model.processor
        num_tokens = config.num_tokens
        try:
            find_visual_tokenizer(config.tokenizer)
        except ConfigError as error:
            if num_tokens is None:
                raise ConfigError(f"mim.tokenizer: {error}") from error
        else:
            num_tokens = _checked(config, processor.window)
        picture = processor.picture
        return cls(config, model.width, num_tokens, processor.window, picture.mean, picture.std)

    def prepare(self) -> None:
        """Open the tokenizer."""
        _ = self.tokenizer

    @property
    def tokenizer(self) -> VisualTokenizer:
        """Opened on first use: who only reads the heads of a finished stage need not have it.

        Raises:
            ConfigError: it is not here, or does not open.
        """
        if not self._opened:
            try:
                tokenizer = load_visual_tokenizer(self.config.tokenizer)
            except (ConfigError, CheckpointError) as error:
                raise ConfigError(f"mim.tokenizer: {error}") from error
            self._opened.append(tokenizer.to(self.mask_token.device))
        return self._opened[0]

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy over the hidden patches."""
        mask, image = step.image_mask, step.image
        states = step.image_encoder.encode_image_masked(image, mask, self.mask_token)
        hidden = mask.flatten().nonzero().squeeze(1)  # once: a GPU is waited for
        logits = self.head(states.flatten(0, 1).index_select(0, hidden)).float()
        wanted = self.tokens(image.dense["pixel_values"]).flatten().index_select(0, hidden)
        total = cross_entropy(logits, wanted, reduction="sum") if len(wanted) else logits.sum() * 0
        count = torch.full((), float(len(wanted)), device=mask.device)
        right = (logits.detach().argmax(1) == wanted).float().sum()
        return LossOutput(mean_over_ranks(total, count), {"accuracy": right / count.clamp_min(1)})

    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, P] of pixels as the model reads them: its normalisation is taken back first."""
        seen = (pixels.detach().float() * self.get_buffer("std") + self.get_buffer("mean")).clamp(0, 1)
        return self.tokenizer(seen, self.window)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MIM:
        """To another device: the tokenizer goes along."""
        super()._apply(fn, recurse)
        for tokenizer in self._opened:
            tokenizer._apply(fn)
        return self


def _checked(config: MIMConfig, window: int) -> int:
    """Number of tokens of the tokenizer that is here, if it is for this model."""
    try:
        facts = visual_tokenizer_facts(config.tokenizer)
    except CheckpointError as error:
        raise ConfigError(f"mim.tokenizer: {error}") from error
    if facts.window not in (None, window):
        raise ConfigError(
            f"mim.tokenizer: {config.tokenizer} was made for pictures of {facts.window} x {facts.window} patches, the "
            f"model has {window} x {window}; make another (mmret codebook) or change model.image_px"
        )
    if config.num_tokens not in (None, facts.num_tokens):
        raise ConfigError(
            f"mim.num_tokens: {config.num_tokens} in the recipe, but {config.tokenizer} has {facts.num_tokens}"
        )
    return facts.num_tokens
