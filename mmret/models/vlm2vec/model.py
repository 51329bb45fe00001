"""VLM2Vec: the last token's state of a vision-language model, as a unit vector (Jiang et al. 2024)."""

# B rows, L places, D width

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm import VLMSpec, build_vlm, load_vlm, vlm_spec
from mmret.models.retriever import Retriever
from mmret.models.vlm2vec import adapter, checkpoint
from mmret.models.vlm2vec.config import VLM2VecConfig
from mmret.models.vlm2vec.processor import VLM2VecProcessor
from mmret.types import Embeddings, Inputs


class VLM2Vec(Retriever):
    """One encoder for queries and documents of text, pictures or both.

    Args:
        config: the recipe's model section.
        spec: the backbone's architecture; None: as `config` names. Weights are random (see `from_config`).
        tokenizer: None: as `config` names.
    """

    Config = VLM2VecConfig
    SIZES: ClassVar[dict[str, VLM2VecConfig]] = {"tiny": VLM2VecConfig(backbone="tiny")}
    """Ready configurations; `tiny` needs no file beside the code."""
    config: VLM2VecConfig
    processor: VLM2VecProcessor

    def __init__(
        self, config: VLM2VecConfig, *, spec: VLMSpec | None = None, tokenizer: TextTokenizer | None = None
    ) -> None:
        super().__init__()
        self._build(config, spec or vlm_spec(config.backbone))
        if config.peft:
            adapter.inject(self.vlm, config.peft)
        padding = config.padding or self.family.PADDING
        self.processor = VLM2VecProcessor(
            self.family, tokenizer or checkpoint.tokenizer_of(config.backbone), padding, config.max_length
        )

    def _build(self, config: VLM2VecConfig, spec: VLMSpec) -> None:
        self.config, self.spec = config, spec
        self.family = spec.family(
            square_px=config.square_px, min_pixels=config.min_pixels, max_pixels=config.max_pixels
        )
        self.vlm = build_vlm(spec, getattr(torch, config.dtype), config.attention)
        if config.gradient_checkpointing:
            self.vlm.gradient_checkpointing_enable({"use_reentrant": False})  # pyright: ignore[reportCallIssue]

    @classmethod
    def from_config(cls, config: VLM2VecConfig) -> VLM2Vec:
        """The model with its pretrained backbone, and fresh adapters if the configuration asks for any.

        Raises:
            ConfigError: the backbone is not here and not to be had.
            CheckpointError: its weights do not fit its configuration.
        """
        spec = vlm_spec(config.backbone)
        model = cls(checkpoint.without_peft(config), spec=spec)
        load_vlm(model.vlm, config.backbone)
        return checkpoint.with_peft(model, config)

    @classmethod
    def skeleton(cls, config: VLM2VecConfig) -> VLM2Vec:
        """The model without weights or processor, on the meta device: for counting parameters, with no download.

        Raises:
            ConfigError: the backbone's configuration is not here.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        spec = vlm_spec(config.backbone, download=False)
        with torch.device("meta"):
            model._build(config, spec)
            if config.peft:
                adapter.inject(model.vlm, config.peft)
        return model

    def encode_query(self, inputs: Inputs) -> Embeddings:
        """[B, D] float32, unit length."""
        return Embeddings(normalize(self.pooled(inputs).float(), dim=-1))

    def encode_document(self, inputs: Inputs) -> Embeddings:
        """[B, D] float32, unit length; the same as a query's."""
        return self.encode_query(inputs)

    def pooled(self, inputs: Inputs) -> Tensor:
        """[B, D] state of each row's last real token, after the final norm."""
        ids, mask = inputs.dense["input_ids"], inputs.dense["attention_mask"]
        # A part of a batch keeps the whole's padding; places that none of its rows uses cost time only.
        used = mask.any(0).nonzero()
        ids, mask = (x[:, int(used[0]) : int(used[-1]) + 1] for x in (ids, mask))
        states = self.hidden(ids, mask, inputs)
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        return states[torch.arange(len(states), device=states.device), last]

    def hidden(self, ids: Tensor, mask: Tensor, inputs: Inputs) -> Tensor:
        """[B, L, D] states after the final norm, of ids and mask [B, L] and the pictures of `inputs`."""
        if self.config.positions == "text_1d":
            places = self.family.positions(mask)
        else:
            places = self.family.mrope(ids, mask, inputs.ragged)
        pictures = self.family.arguments(inputs.ragged)
        output = self.vlm(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False, **pictures)
        return output.last_hidden_state

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """[B, N] float32: dot products, which are cosines here."""
        with torch.autocast(queries.vectors.device.type, enabled=False):
            return queries.vectors.float() @ documents.vectors.float().T

    def merged(self) -> VLM2Vec:
        """This model with the adapters' effect in its weights, in place: what is left has no `peft` section."""
        adapter.merge(self.vlm)
        self.config = checkpoint.without_peft(self.config)
        return self

    def save(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, tokenizer and picture settings; `mmret.load(folder)` opens them."""
        checkpoint.save(self, Path(folder))

    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapters alone, as peft does; they load onto the same backbone."""
        adapter.save_adapter(self.vlm, self.config.peft, self.config.backbone, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, **overrides: Any) -> VLM2Vec:
        """Open what `save` wrote, a published full model, or a published adapter (its base as its files name it).

        Args:
            folder: the checkpoint.
            overrides: fields of `VLM2VecConfig` to change; `backbone` says where an adapter's base lies.

        Raises:
            CheckpointError: keys are missing, unknown or of another shape; the text lists them.
            ConfigError: an override is no field of the configuration, or the base is not to be had.
        """
        return checkpoint.load(Path(folder), overrides, cls)

    def handover_source(self, key: str) -> str | None:
        """A module that gets an adapter keeps its weights."""
        return re.sub(r"\.base_layer\.", ".", key) if ".base_layer." in key else None
