"""VLMo as a retriever and a pair encoder (Bao et al. 2022): two encoders from one Multiway transformer."""

# B rows, T text places, P patches, D width

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.backbones import TextTokenizer, find_local
from mmret.models.retriever import PairStates, Retriever
from mmret.models.vlmo import checkpoint
from mmret.models.vlmo.backbone import Backbone, Sequence
from mmret.models.vlmo.config import SIZES, VLMoConfig
from mmret.models.vlmo.processor import VLMoProcessor
from mmret.models.vlmo.resize import TABLE, resize_state
from mmret.types import Embeddings, Inputs


class VLMo(Retriever):
    """Text or picture to a vector each (dual encoder), or both together to joint states (fusion encoder)."""

    Config = VLMoConfig
    SIZES: ClassVar[dict[str, VLMoConfig]] = {
        size: VLMoConfig(size=size, **({"tokenizer": "tiny", "image_px": 32, "patch_px": 8} if size == "tiny" else {}))
        for size in SIZES
    }
    config: VLMoConfig
    processor: VLMoProcessor

    def __init__(self, config: VLMoConfig, tokenizer: TextTokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = VLMoProcessor(config, tokenizer)
        self.width: int = config.shape["width"]
        self.num_tokens = self.processor.num_tokens
        self.image_types = config.image_types
        self.backbone = Backbone(config, self.num_tokens)
        self.pooler = nn.Linear(self.width, self.width)
        names = [f"{prefix}{side}" for prefix, head in (("", "main"), ("vl_", "vl")) if head in config.heads_of
                 for side in ("text", "image")]  # fmt: skip
        self.projections = nn.ModuleDict({name: nn.Linear(self.width, self.width, bias=False) for name in names})
        self.apply(_initialise)
        for table in (self.backbone.image.cls, self.backbone.image.position):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)
        if self.backbone.text.absolute:
            nn.init.trunc_normal_(self.backbone.text.position, std=0.02)

    def encode_query(self, inputs: Inputs) -> Embeddings:
        """Texts or pictures, as the inputs hold."""
        return self.encode(inputs)

    def encode_document(self, inputs: Inputs) -> Embeddings:
        """Texts or pictures, as the inputs hold."""
        return self.encode(inputs)

    def encode(self, inputs: Inputs) -> Embeddings:
        """Unit vectors [B, D]; aux "vl" has those of the branch through the VL experts, if the model has that head."""
        if ("input_ids" in inputs) == ("pixel_values" in inputs):
            raise ConfigError(
                "VLMo encodes a text or a picture to a vector, and here a row has "
                + (
                    "both; reading both together is for pairs (itm, mlm, classify)"
                    if "input_ids" in inputs
                    else "neither"
                )
            )
        if not self.projections:
            raise ConfigError("model.contrastive is none: this model has no retrieval heads")
        kind = "text" if "input_ids" in inputs else "image"
        sequence = self.embed_text(inputs) if kind == "text" else self.embed_image(inputs)
        split = self.backbone.vl_start
        middle = self.backbone.run(sequence, stop=split)
        main = self._head(self.backbone.run(sequence, middle, split), kind)
        aux = {}
        if "vl" in self.config.heads_of:  # the second branch goes on from the same states, through the VL experts
            aux["vl"] = Embeddings(self._head(self.backbone.run(sequence, middle, split, vl=True), f"vl_{kind}"))
        return Embeddings(main, None, aux)

    def encode_text(self, text: Inputs) -> Tensor:
        """[B, T, D] last states of texts alone, through the text experts."""
        return self.backbone.norm(self.backbone.run(self.embed_text(text)))

    def encode_image(self, image: Inputs) -> Tensor:
        """[B, 1 + P, D] last states of pictures alone, CLS first, through the image experts."""
        return self.backbone.norm(self.backbone.run(self.embed_image(image)))

    def encode_image_masked(self, image: Inputs, mask: Tensor, token: Tensor) -> Tensor:
        """[B, P, D] last states of the patches of pictures alone; where mask [B, P] is True, token [D] is read."""
        sequence = self.backbone.embed_image(image.dense["pixel_values"], image.dense.get("image_type"), mask, token)
        return self.backbone.norm(self.backbone.run(sequence))[:, 1:]

    def encode_pair(self, text: Inputs, image: Inputs) -> PairStates:
        """Text and picture read together."""
        sequence = self.backbone.join(self.embed_text(text), self.embed_image(image))
        hidden = self.backbone.norm(self.backbone.run(sequence))
        return PairStates(
            hidden[:, : sequence.num_text], hidden[:, sequence.num_text :], torch.tanh(self.pooler(hidden[:, 0]))
        )

    def embed_text(self, text: Inputs) -> Sequence:
        """First states of texts: input_ids and attention_mask [B, T]."""
        return self.backbone.embed_text(text.dense["input_ids"], text.dense["attention_mask"])

    def embed_image(self, image: Inputs) -> Sequence:
        """First states of pictures: pixel_values [B, 3, px, px], image_type [B] where it is not 1, kept_patches [B, K]
        where not all are read."""
        inputs = image.dense
        return self.backbone.embed_image(
            inputs["pixel_values"], inputs.get("image_type"), kept=inputs.get("kept_patches")
        )

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """Inner products [B, N], float32 also under autocast: half precision would make ties."""
        with torch.autocast(queries.vectors.device.type, enabled=False):
            return queries.vectors.float() @ documents.vectors.float().T

    def _head(self, hidden: Tensor, name: str) -> Tensor:
        vectors = self.projections[name](self.backbone.norm(hidden[:, 0]))
        return nn.functional.normalize(vectors.float(), dim=-1)

    @classmethod
    def from_config(cls, config: VLMoConfig) -> VLMo:
        """A model to train: random, or from `config.weights`."""
        model = cls(config)
        if config.weights is not None:
            path = find_local(config.weights)
            if path is None:
                raise ConfigError(f"model.weights: {config.weights} does not exist")
            model.start_from(path)
        return model

    @classmethod
    def skeleton(cls, config: VLMoConfig) -> VLMo:
        """The model without memory for its weights (meta device): names, shapes, counts."""
        with torch.device("meta"):
            return cls(config)

    def start_from(self, path: str | Path) -> dict[str, list[str]]:
        """Take what a checkpoint has (BEiT's, a published VLMo's or ours); see `checkpoint.start_from`."""
        return checkpoint.start_from(self, Path(path))

    def earlier_state(self, source: str | Path) -> dict[str, Tensor]:
        """Of a folder, a published VLMo file or a BEiT file. A file does not say its sizes: this model's are taken."""
        path = Path(source)
        return checkpoint.own_names(path, self)[0] if path.is_file() else super().earlier_state(path)

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Position tables resampled to this model's image size, text positions cut to its length."""
        return resize_state(state, self.config)

    @property
    def retrieves(self) -> bool:
        """Unless `contrastive` is none."""
        return bool(self.projections)

    def layers_above(self) -> dict[str, int]:
        """As any tower's; the relative table, one for all layers, counts as the top, as BEiT's shared one does."""
        return {key: 0 if key == TABLE else above for key, above in super().layers_above().items()}

    def handover_source(self, key: str) -> str | None:
        """VL experts from another expert, if the configuration says so; separate attention from the shared one; the one
        network of a standard transformer from the image expert, which is BEiT's."""
        if ".experts.all." in key:
            return key.replace(".experts.all.", ".experts.image.")
        if ".experts.vl." in key and self.config.vl_experts_from is not None:
            return key.replace(".experts.vl.", f".experts.{self.config.vl_experts_from}.")
        head, found, rest = key.partition(".attention.")
        return f"{head}.attention.all.{rest.partition('.')[2]}" if found else None

    def save(self, folder: str | Path) -> None:
        """config.json, model.safetensors, tokenizer/."""
        checkpoint.save(self, folder)

    @classmethod
    def load(cls, folder: str | Path, **overrides: Any) -> VLMo:
        """Open a folder that `save` wrote, a published VLMo file, or a BEiT file (then text parts are random).

        Args:
            folder: folder or file.
            overrides: configuration values instead of the stored ones; another `image_px` resamples the positions.

        Raises:
            CheckpointError: entries are missing, unknown or of another shape; the text lists them.
            ConfigError: an override is no setting.
        """
        return checkpoint.load(Path(folder), overrides, cls)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
