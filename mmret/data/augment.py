"""Random views of training pictures: crop, flip, RandAugment; each a function of the picture's place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from msgspec.structs import replace
from PIL import Image, ImageEnhance, ImageOps

from mmret.data.dice import Dice
from mmret.data.draw import Drawn
from mmret.recipe.schema import AugmentConfig
from mmret.types import Content, EncodedImage

RATIOS = (3 / 4, 4 / 3)
"""Width over height of a random crop, from and to (Szegedy et al. 2015)."""
GREY = (128, 128, 128)
"""What comes in from beyond the edge."""


Op = Callable[[Image.Image, float], Image.Image]
"""Picture and strength in [-1, 1] to a picture of the same size."""


def _affine(image: Image.Image, xx: float = 1, xy: float = 0, x: float = 0, yx: float = 0, yy: float = 1, y: float = 0):
    """Place (i, j) shows what stood at (xx i + xy j + x, yx i + yy j + y)."""
    places = (xx, xy, x, yx, yy, y)
    return image.transform(image.size, Image.Transform.AFFINE, places, Image.Resampling.BILINEAR, fillcolor=GREY)


OPS: Mapping[str, Op] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * abs(strength)),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * abs(strength)),
    "shear_x": lambda image, strength: _affine(image, xy=0.3 * strength),
    "shear_y": lambda image, strength: _affine(image, yx=0.3 * strength),
    "translate_x": lambda image, strength: _affine(image, x=10 * strength),
    "translate_y": lambda image, strength: _affine(image, y=10 * strength),
    "rotate": lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=GREY),
}
"""RandAugment's operations (Cubuk et al. 2019) as ALBEF and VLMo choose them, none that changes colours. At strength 1:
factor 1.9, shear 0.3, 10 pixels, 30 degrees."""


@dataclass(frozen=True)
class AugmentedImage(EncodedImage):
    """A picture that decodes to one random view: always the same for the same place."""

    config: AugmentConfig = field(default_factory=AugmentConfig, hash=False)
    place: tuple[object, ...] = ()
    """What the view is a function of: seed, source, epoch, sample, and which picture of the row."""
    px: int | None = None
    """Width and height that the model wants; null: a crop keeps its own size."""

    def decode(self) -> Image.Image:
        """The view, RGB.

        Raises:
            SampleError: the bytes are no image that Pillow can open.
        """
        return augment(super().decode(), self.config, Dice("augment", *self.place), self.px)

    def decode_jpeg(self, least: int | None = None) -> None:
        """Never: the view is made by Pillow."""

    @property
    def key(self) -> bytes:
        """Identifies the view: not the key of the picture that it is made of."""
        return blake2b(repr((super().key, self.config, self.place, self.px)).encode(), digest_size=16).digest()


def augment(image: Image.Image, config: AugmentConfig, dice: Dice, px: int | None = None) -> Image.Image:
    """One random view of an RGB picture: a crop, scaled to px x px if px is given, mirrored or not, then operations."""
    low, high = config.crop_scale
    if low < 1:
        top, left, height, width = crop_box(image.width, image.height, (low, high), dice)
        image = image.crop((left, top, left + width, top + height))
        if px is not None:
            image = image.resize((px, px), Image.Resampling.BICUBIC)
    if config.flip and dice.below(2):
        image = ImageOps.mirror(image)
    names = list(OPS)
    for _ in range(config.ops):
        name, applied, sign = names[dice.below(len(names))], dice.below(2), 1 - 2 * dice.below(2)
        if applied:
            image = OPS[name](image, sign * config.magnitude / 10)
    return image


def crop_box(width: int, height: int, scale: tuple[float, float], dice: Dice) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop of some share of the area and some shape (Szegedy et al. 2015).

    After ten draws that do not fit: the largest centred crop whose shape is allowed.
    """
    for _ in range(10):
        area = width * height * _between(dice, *scale)
        ratio = math.exp(_between(dice, *map(math.log, RATIOS)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return dice.below(height - high + 1), dice.below(width - wide + 1), high, wide
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    wide, high = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - high) // 2, (width - wide) // 2, high, wide


def augment_row(row: Drawn, config: AugmentConfig, px: int | None = None) -> Drawn:
    """The row with its pictures replaced by random views; numbers of documents stay those of the pictures as stored."""

    def views(content: Content, *where: object) -> Content:
        images = tuple(
            AugmentedImage(image.data, image.name, config, (*row.dice, *where, number), px)
            for number, image in enumerate(content.images)
        )
        return replace(content, images=images)

    query = views(row.query, "query") if "query" in config.roles else row.query
    documents = row.documents
    if "document" in config.roles:
        documents = tuple(views(document, "document", number) for number, document in enumerate(documents))
    return replace(row, query=query, documents=documents)


def _between(dice: Dice, low: float, high: float) -> float:
    return low + (high - low) * dice.below(2**53) / 2**53
