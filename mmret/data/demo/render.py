"""Drawings to small square pictures: SVG by resvg, scaling and WebP by Pillow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.errors import EnvironmentProblem

# Rendered larger than needed and scaled down: thin lines of coats of arms stay visible.
_OVERSAMPLE = 4
WHITE = (255, 255, 255, 255)


def render_file(svg: Path, px: int) -> Image.Image:
    """An SVG file, `_OVERSAMPLE` times `px` wide."""
    return _draw(px, svg_path=str(svg))


def render_icon(icons: Mapping[str, Any], name: str, px: int) -> Image.Image:
    """An icon of an Iconify set (the parsed `icons.json`), `_OVERSAMPLE` times `px` wide."""
    icon = icons["icons"][resolve(icons, name)]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )
    return _draw(px, svg_string=svg)


def resolve(icons: Mapping[str, Any], name: str) -> str | None:
    """The icon behind a name, which may be an alias; None if the set has neither.

    Aliases that turn or mirror an icon are not followed.
    """
    aliases = icons.get("aliases", {})
    while name in aliases and set(aliases[name]) == {"parent"}:
        name = aliases[name]["parent"]
    return name if name in icons["icons"] else None


def square(image: Image.Image, px: int) -> Image.Image:
    """The whole drawing, proportions kept, in the middle of a white square of `px` pixels.

    Square, because processors that crop the middle of a wide picture would cut off what makes a flag.
    """
    image = image.copy()
    image.thumbnail((px, px), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (px, px), WHITE)
    canvas.alpha_composite(image, ((px - image.width) // 2, (px - image.height) // 2))
    return canvas.convert("RGB")


def webp(image: Image.Image, quality: int | None) -> bytes:
    """Encoded with the given quality (0-100); None: without loss."""
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "WEBP", lossless=True, method=6, quality=100)
    else:
        image.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def _draw(px: int, **svg: str) -> Image.Image:
    try:
        resvg = import_module("resvg_py")
    except ImportError as error:
        raise EnvironmentProblem("resvg-py draws the SVG files: pip install 'mmret[demo-build]'") from error
    # System fonts are left out: they would make the result depend on the machine.
    png = resvg.svg_to_bytes(width=px * _OVERSAMPLE, skip_system_fonts=True, **svg)
    return Image.open(io.BytesIO(png)).convert("RGBA")
