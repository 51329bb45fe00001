"""PreFLMR: late interaction between a question with a picture, and documents (Lin et al. 2024)."""

# B rows, L text places, C pictures per row, P patches, M prefix tokens, H text width, V vision width, D dim

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmret.models.backbones import TextSpec, TextTokenizer, VisionSpec, text_spec
from mmret.models.preflmr import checkpoint
from mmret.models.preflmr.build import check_sizes, load_towers, tokenizer_of, vision_spec_of
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.preflmr.mapping import MappingNetwork, initialise
from mmret.models.preflmr.processor import PreFLMRProcessor
from mmret.models.preflmr.towers import Towers, has_pictures
from mmret.ops.maxsim import maxsim
from mmret.types import Embeddings, Inputs, Role


class PreFLMR(Towers):
    """Query tokens: text, prefix tokens of the picture, mapped patches. Document tokens: prefix tokens, text.

    Places that do not count are zero vectors before anything is normalised, so they add nothing to a score.

    Args:
        config: the recipe's model section.
        text, vision: architectures of the towers; None: as `config` names. Weights are random (see `from_config`).
        tokenizer: None: as `config` names.
    """

    Config = PreFLMRConfig
    SIZES: ClassVar[dict[str, PreFLMRConfig]] = {
        "tiny": PreFLMRConfig(
            text="tiny", vision="tiny", dim=16, prefix_tokens=4, query_tokens=24, document_tokens=48, mapping_heads=2
        )
    }
    """Ready configurations; `tiny` needs no file beside the code."""
    processor: PreFLMRProcessor
    document_text_linear: nn.Linear
    prefix: nn.Module
    mapping_in: nn.Module
    mapping: nn.Module
    mapping_out: nn.Module

    def __init__(
        self,
        config: PreFLMRConfig,
        *,
        text: TextSpec | None = None,
        vision: VisionSpec | None = None,
        tokenizer: TextTokenizer | None = None,
    ) -> None:
        super().__init__()
        self._build(config, text or text_spec(config.text), vision or vision_spec_of(config))
        self.processor = PreFLMRProcessor(config, tokenizer or tokenizer_of(config), self.picture)
        self.processor.patches = self.num_droppable

    def _build(self, config: PreFLMRConfig, text: TextSpec, vision: VisionSpec | None) -> None:
        check_sizes(config, text)
        self.build_towers(config, text, vision)
        self.unused: dict[str, Tensor] = {}
        """Tensors of a published checkpoint that nothing reads, kept for the way back (`convert.py`)."""
        H, D, M = text.width, config.dim, config.prefix_tokens
        heads: dict[str, nn.Module] = {"document_text_linear": nn.Linear(H, D, bias=False)}
        if self.vision is not None:
            V = int(self.vision.width)  # pyright: ignore[reportArgumentType]
            heads["prefix"] = nn.Sequential(nn.Linear(V, M * D // 2), nn.Tanh(), nn.Linear(M * D // 2, M * D))
            if config.maps_patches:
                heads["mapping_in"] = nn.Linear(V, H)
                heads["mapping"] = MappingNetwork(
                    config.mapping_layers,
                    H,
                    config.mapping_heads or max(1, H // 64),
                    config.mapping_ffn or 4 * H,
                    config.mapping_dropout,
                    config.mapping_attention_dropout,
                    config.mapping_activation,
                    config.mapping_norm_eps,
                )
                heads["mapping_out"] = nn.Linear(H, D)
        for name, head in heads.items():
            initialise(head)
            self.add_module(name, head)
        if config.separate_text_encoders:
            self.query_text_linear = nn.Linear(H, D, bias=False)
            self.query_text_linear.load_state_dict(heads["document_text_linear"].state_dict())

    @classmethod
    def from_config(cls, config: PreFLMRConfig) -> PreFLMR:
        """The model with pretrained towers, as a first stage starts from; all else is random.

        Raises:
            ConfigError: a tower's weights are not here and not to be had.
        """
        model = cls(config)
        load_towers(model)
        return model

    @classmethod
    def skeleton(cls, config: PreFLMRConfig) -> PreFLMR:
        """The model without weights or processor, on the meta device: for counting parameters, with no download.

        Raises:
            ConfigError: a tower's size is not known offline.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        text, vision = text_spec(config.text, download=False), vision_spec_of(config, download=False)
        with torch.device("meta"):
            model._build(config, text, vision)
        return model

    @property
    def query_length(self) -> int:
        """Vectors of a query with one picture."""
        text = self.config.query_tokens if self.config.query_text_in_score else 0
        if self.vision is None or not self.config.query_vision:
            return text
        patches = int(self.vision.num_patches) if self.config.maps_patches else 0  # pyright: ignore[reportArgumentType]
        return text + self.config.prefix_tokens + patches

    def text_linear(self, role: Role) -> nn.Linear:
        """The projection [D, H] of one side's text."""
        separate = role == "query" and self.config.separate_text_encoders
        return self.query_text_linear if separate else self.document_text_linear

    def encode_query(self, inputs: Inputs) -> Embeddings:
        """[B, L + M C + P, D]: text places, prefix tokens, mapped patches; the mask says which count."""
        hidden = self.text_states(inputs, "query")
        parts, masks = [], []
        if self.config.query_text_in_score:
            keep = _text_mask(inputs)
            parts.append(self.text_linear("query")(hidden) * keep.unsqueeze(2))
            masks.append(keep)
        if has_pictures(inputs):
            use = self.use_image(inputs, "query")
            overall, patches = self.vision_states(inputs, "query")
            parts.append(self._prefix(overall, use))
            masks.append(use.repeat_interleave(self.config.prefix_tokens, 1))
            if patches is not None:
                parts.append(self._mapped(patches, hidden, inputs.dense["cross_visible"]) * use.unsqueeze(2))
                masks.append(use.expand(-1, patches.shape[1]))
        if not parts:
            raise ValueError("nothing of these queries counts: no pictures, and model.query_text_in_score is false")
        return _embeddings(parts, masks)

    def encode_document(self, inputs: Inputs) -> Embeddings:
        """[B, M C + L, D]: prefix tokens, text places; the mask says which count."""
        parts, masks = [], []
        if has_pictures(inputs):
            use = self.use_image(inputs, "document")
            parts.append(self._prefix(self.vision_states(inputs, "document")[0], use))
            masks.append(use.repeat_interleave(self.config.prefix_tokens, 1))
        if self.config.document_text_in_score:
            keep = _text_mask(inputs)
            parts.append(self.text_linear("document")(self.text_states(inputs, "document")) * keep.unsqueeze(2))
            masks.append(keep)
        if not parts:
            raise ValueError("nothing of these documents counts: no pictures, and document_text_in_score is false")
        return _embeddings(parts, masks)

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """[B, N] float32: sum over query tokens of the best document token (`ops/maxsim.py`)."""
        return maxsim(queries.vectors, documents.vectors, documents.mask)

    def save(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and tokenizer/; `mmret.load(folder)` opens them, offline."""
        checkpoint.save(self, folder)

    @classmethod
    def load(cls, folder: str | Path, **overrides: Any) -> PreFLMR:
        """Open what `save` wrote, or a published PreFLMR or FLMR checkpoint, from the folder alone.

        Args:
            folder: the checkpoint.
            overrides: fields of `PreFLMRConfig` to change; a query encoder split off starts as a copy.

        Raises:
            CheckpointError: keys are missing, unknown or of another shape; the text lists them.
            ConfigError: an override is no field of the configuration, or does not fit the weights.
        """
        return checkpoint.load(Path(folder), overrides, cls)

    def handover_source(self, key: str) -> str | None:
        """A query encoder that splits off begins as the document encoder's copy."""
        return key.replace("query_text", "document_text", 1) if key.startswith("query_text") else None

    def parts(self) -> dict[str, str]:
        """`connector`: what maps the vision tower's outputs into the token space."""
        return {"connector": r"(^|\.)(prefix|mapping)"}

    def _prefix(self, overall: Tensor, use: Tensor) -> Tensor:
        """[B, C, V] -> [B, C M, D], picture by picture."""
        tokens = self.prefix(overall).unflatten(2, (self.config.prefix_tokens, self.config.dim))
        return (tokens * use[:, :, None, None]).flatten(1, 2)

    def _mapped(self, patches: Tensor, hidden: Tensor, visible: Tensor) -> Tensor:
        """[B, P, V] -> [B, P, D], each patch having read the text's first places."""
        first = self.config.cross_attention_tokens
        states = self.mapping(self.mapping_in(patches), hidden[:, :first], visible[:, :first])
        return self.mapping_out(states)


def _text_mask(inputs: Inputs) -> Tensor:
    """[B, L] bool: text places that count, less the rows switched off."""
    keep = inputs.dense["keep_mask"]
    return keep & inputs.dense["use_text"].unsqueeze(1) if "use_text" in inputs else keep


def _embeddings(parts: list[Tensor], masks: list[Tensor]) -> Embeddings:
    """Join, then normalise: a place that was zeroed stays zero. float32 even under autocast."""
    mask = torch.cat(masks, 1)
    vectors = normalize(torch.cat([part.float() for part in parts], 1), dim=2, eps=1e-12)
    # Zeros again for their gradient's sake: over 1e-12 it would be infinite in float16, and NaN after the mask.
    return Embeddings(vectors.masked_fill(~mask.unsqueeze(2), 0), mask)
