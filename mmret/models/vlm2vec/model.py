"""VLM2Vec: the last token's state of a vision-language model, as a unit vector (Jiang et al. 2024)."""

# B rows, L places, D width

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmret.errors import ConfigError
from mmret.models.backbones.composed import ComposedModel, recompute_activations
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm import VLMSpec, build_vlm, load_vlm, vlm_spec
from mmret.models.retriever import Retriever
from mmret.models.vlm2vec import adapter, adapter_file, checkpoint
from mmret.models.vlm2vec.config import VLM2VecConfig
from mmret.models.vlm2vec.processor import VLM2VecProcessor
from mmret.models.vlm2vec.quantize import check_quantization, quantize
from mmret.models.vlm2vec.soft_prompt import input_embedding, soft_prompt
from mmret.types import Embeddings, Inputs, Role


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
        check_quantization(config.peft)
        self._build(config, spec or vlm_spec(config.backbone, config.composed))
        self._inject()
        padding = config.padding or self.family.PADDING
        self.processor = VLM2VecProcessor(
            self.family,
            tokenizer or checkpoint.tokenizer_of(config),
            padding,
            config.max_length,
            config.num_frames,
            config.pictures_first,
            config.use_instructions,
            config.end_token,
        )

    def _build(self, config: VLM2VecConfig, spec: VLMSpec) -> None:
        self.config, self.spec = config, spec
        self.family = spec.family(
            square_px=config.square_px,
            min_pixels=config.min_pixels,
            max_pixels=config.max_pixels,
            max_tiles=config.max_tiles,
        )
        if config.positions == "mrope" and not self.family.MROPE:
            raise ConfigError(f"model.positions: mrope, but a {spec.model_type} model has one axis of positions")
        if config.attention == "flash_attention_2" and not self.family.CAUSAL:
            raise ConfigError(
                f"model.attention: flash_attention_2 knows no tokens that see what comes after them, as a "
                f"{spec.model_type} model's do; use sdpa or eager"
            )
        self.vlm = build_vlm(spec, getattr(torch, config.dtype), config.attention)
        if config.gradient_checkpointing:
            recompute_activations(self.vlm, {"use_reentrant": False})

    @classmethod
    def from_config(cls, config: VLM2VecConfig) -> VLM2Vec:
        """The model with its pretrained backbone, and fresh adapters if the configuration asks for any.

        Raises:
            ConfigError: the backbone is not here and not to be had.
            CheckpointError: its weights do not fit its configuration.
        """
        check_quantization(config.peft)
        spec = vlm_spec(config.backbone, config.composed)
        model = cls(checkpoint.without_peft(config), spec=spec)
        load_vlm(model.vlm, config.backbone, config.composed)
        model = checkpoint.with_peft(model, config)
        model.after_handover([])
        return model

    @classmethod
    def skeleton(cls, config: VLM2VecConfig) -> VLM2Vec:
        """The model without weights or processor, on the meta device: for counting parameters, with no download.

        Raises:
            ConfigError: the backbone's configuration is not here.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        spec = vlm_spec(config.backbone, config.composed, download=False)
        with torch.device("meta"):
            model._build(config, spec)
            model._inject()
        return model

    def _inject(self) -> None:
        """Fresh adapters, or learnt tokens, as the configuration says."""
        self.prompt = soft_prompt(self.vlm, self.config.peft)
        if self.config.peft:
            adapter.inject(self.vlm, self.config.peft)

    def encode_query(self, inputs: Inputs) -> Embeddings:
        """[B, D] float32, unit length.

        Raises:
            ConfigError: `dim` asks for more numbers than an embedding has.
        """
        states, dim = self.pooled(inputs).float(), self.config.dim
        if dim is not None and dim > states.shape[1]:
            raise ConfigError(f"model.dim: {dim}, but an embedding has {states.shape[1]} numbers")
        return Embeddings(normalize(states[:, :dim], dim=-1))

    def encode_document(self, inputs: Inputs) -> Embeddings:
        """[B, D] float32, unit length; the same as a query's."""
        return self.encode_query(inputs)

    def pooled(self, inputs: Inputs) -> Tensor:
        """[B, D] state of each row's last real token, after the final norm."""
        ids, mask = inputs.dense["input_ids"], inputs.dense["attention_mask"]
        # A part of a batch keeps the whole's padding; places that none of its rows uses cost time only.
        used = mask.any(0).int()
        before, behind = torch.stack([used.argmax(), used.flip(0).argmax()]).tolist()
        ids, mask = (x[:, before : x.shape[1] - behind] for x in (ids, mask))
        if self.prompt is None:
            states = self.hidden(ids, mask, inputs)
        else:
            ids, mask = self.prompt.prepend(ids, mask)
            with self.prompt.in_place(ids.shape[1]):
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
        further: dict[str, Any] = {**self.family.token_arguments(ids), **pictures}
        if self.family.WIDTH_COUNTS:
            further["padded_width"] = inputs.dense["input_ids"].shape[1]
        output = self.vlm(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False, **further)
        return output.last_hidden_state

    def towers(self) -> dict[str, nn.Module]:
        """Parts whose outputs can be kept while they do not train: a composed backbone's vision tower."""
        return {"vision": self.vlm.vision} if isinstance(self.vlm, ComposedModel) else {}

    def tower_features(self, inputs: Inputs, role: Role) -> dict[str, list[Tensor]]:
        """Patches of each row's pictures, [pictures x P, D], as the processor's `features` give them back."""
        pictures = inputs.ragged.get("pixel_values")
        if pictures is None:
            return {}
        assert isinstance(self.vlm, ComposedModel)
        patches = self.vlm.patches(torch.cat(list(pictures)))
        return {"vision": [row.flatten(0, 1) for row in patches.split([len(row) for row in pictures])]}

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """[B, N] float32: dot products, which are cosines here."""
        with torch.autocast(queries.vectors.device.type, enabled=False):
            return queries.vectors.float() @ documents.vectors.float().T

    def merged(self) -> VLM2Vec:
        """This model with the adapters' effect in its weights, in place: what is left has no `peft` section.

        Raises:
            ConfigError: learnt tokens are no weights of the backbone.
        """
        if self.prompt is not None:
            raise ConfigError("prompt_tuning puts tokens before the prompt: there is nothing to merge into the weights")
        adapter.merge(self.vlm)
        self.config = checkpoint.without_peft(self.config)
        return self

    def save(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, tokenizer and picture settings; `mmret.load(folder)` opens them."""
        checkpoint.save(self, Path(folder))

    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapters alone, as peft does; they load onto the same backbone."""
        if not self.config.peft:
            raise ConfigError("this model has no adapters to save (no peft section, or merged)")
        if self.config.composed is not None:
            raise ConfigError("adapters of a composed backbone have no base that their files could name; use save")
        adapter_file.save_adapter(self.vlm, self.config.peft, self.config.backbone, Path(folder), self.prompt)

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
        bare = re.sub(r"\.(base_layer|original_module|modules_to_save\.default)\.", ".", key)
        return None if bare == key else bare

    def after_handover(self, new: Sequence[str]) -> None:
        """Adapters that are new start by the weights that are there now; QLoRA then makes those small."""
        fresh = [name for name in new if re.search(adapter.pattern(self.config.peft), name)]
        if fresh and self.prompt is not None:
            self.prompt.renew(input_embedding(self.vlm))
        elif fresh:
            kept = {key: value.clone() for key, value in self.state_dict().items() if key not in new}
            adapter.renew(self.vlm, self.config.peft)
            self.load_state_dict(kept, strict=False)
        if adapter.kind_of(self.config.peft) == "qlora":
            quantize(self.vlm)

    def parts(self) -> dict[str, str]:
        """`adapters` where there are any, and `connector`, between vision tower and language model."""
        found = {"adapters": adapter.pattern(self.config.peft)} if self.config.peft else {}
        return {**found, "connector": self.family.CONNECTOR}
