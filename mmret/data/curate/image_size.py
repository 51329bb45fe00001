"""Pictures of the right size and shape, read from their headers; nothing is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from mmret.data.curate.filter import Filter, Verdict, extremes, no_reasons
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError, SampleError
from mmret.types import EncodedImage


@dataclass
class ImageSizeConfig:
    """Sides, shape and bytes of each picture."""

    of: str = "both"
    """Whose pictures: both, query or positives."""
    min_side_px: int | None = None
    """Of the shorter side."""
    max_aspect_ratio: float | None = None
    """Longer side by shorter side."""
    min_bytes: int | None = None
    """As encoded: placeholders and plain fields are small."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if self.min_side_px is None and self.max_aspect_ratio is None and self.min_bytes is None:
            raise ConfigError("want at least one of min_side_px, max_aspect_ratio, min_bytes")
        if self.max_aspect_ratio is not None and self.max_aspect_ratio < 1:
            raise ConfigError(f"max_aspect_ratio is longer by shorter side, at least 1; got {self.max_aspect_ratio}")


class ImageSize(Filter):
    """Every picture of a sample has to be within the limits; a sample without pictures stays."""

    name, Config, unit = "image_size", ImageSizeConfig, "shorter side of the smallest picture, px"
    kind = pa.struct([(name, pa.list_(pa.float64())) for name in ("side", "ratio", "bytes")])

    def measure(self, view: View) -> dict[str, list[float]]:
        """Shorter side, longer by shorter side, and bytes of each picture."""
        found: dict[str, list[float]] = {"side": [], "ratio": [], "bytes": []}
        for image in view.pictures(self.config.of):
            try:
                with Image.open(io.BytesIO(image.data)) as picture:
                    width, height = picture.size
            except Exception as error:  # whatever Pillow's plugins raise
                raise SampleError(f"{image.name}: no picture ({EncodedImage.why(error)})") from error
            found["side"].append(min(width, height))
            found["ratio"].append(max(width, height) / min(width, height))
            found["bytes"].append(len(image.data))
        return found

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """The first limit that a picture breaks is the reason."""
        reasons, config = no_reasons(len(values)), self.config
        side, _ = extremes(values.field("side"))
        _, ratio = extremes(values.field("ratio"))
        size, _ = extremes(values.field("bytes"))
        for reason, broken in (
            ("picture too small", config.min_side_px is not None and side < config.min_side_px),
            ("picture too long", config.max_aspect_ratio is not None and ratio > config.max_aspect_ratio),
            ("picture of too few bytes", config.min_bytes is not None and size < config.min_bytes),
        ):
            reasons[(reasons == "") & broken] = reason
        return Verdict(reasons, side)
