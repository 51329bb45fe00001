"""`mmret data peek TARGET`: some samples, in the terminal or on a page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from mmret.cli.console import console, write
from mmret.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from mmret.data.care import Looked
    from mmret.types import Content, EncodedImage

SUMMARY = "show samples in the terminal, or as an HTML contact sheet with pictures and texts"
WIDTH = 40
"""Columns of a picture in the terminal; a character is two pixels, one above the other."""
EXCERPT = 600
"""Characters of a text that are shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    """TARGET, -n, --html."""
    parser.add_argument(
        "target", metavar="TARGET", help="data spec (mmret ls data), its file, or manifest (.json, URL)"
    )
    parser.add_argument("-n", "--num", type=int, default=12, metavar="N", help="how many, evenly spread (12)")
    parser.add_argument("--html", metavar="FILE", help="write a page that stands alone, instead")


def run(args: argparse.Namespace) -> int:
    """Show; samples that cannot be read show why."""
    if args.num < 1:
        raise ConfigError(f"-n must be at least 1, got {args.num}")
    from mmret.data.care import Collection, look

    collection = Collection.find(args.target)
    samples = look(collection, args.num)
    if args.html:
        from mmret.cli.data.sheet import write_sheet

        write(str(write_sheet(args.html, collection, list(samples))))
        return 0
    for sample in samples:
        console.print(_panel(sample, len(collection.manifest)))
    return 0


def _panel(sample: Looked, total: int) -> Panel:
    title = f"{sample.index + 1:,} of {total:,}" + (f" · {sample.name}" if sample.name else "")
    if sample.query is None:
        return Panel(Text(sample.fault, "red"), title=Text(title), title_align="left", border_style="red")
    parts: list[RenderableType] = [_content("query", sample.query)]
    parts += [_content("positive", one) for one in sample.positives]
    parts += [_content("negative", one) for one in sample.negatives]
    if sample.num_negatives > len(sample.negatives):
        parts.append(Text(f"{sample.num_negatives - len(sample.negatives)} more negatives", "dim"))
    if sample.meta:
        parts.append(Text("  ".join(f"{name}: {value}" for name, value in sample.meta.items())[:EXCERPT], "dim"))
    return Panel(Group(*parts), title=Text(title), title_align="left")


def _content(side: str, content: Content) -> Group:
    text = Text(f"{side}  ", "bold cyan" if side == "query" else "bold green" if side == "positive" else "bold red")
    if content.id is not None:
        text.append(f"[{content.id}] ", "dim")
    if content.instruction:
        text.append(f"{content.instruction} ", "italic dim")
    text.append(_excerpt(content.text or ""), "default not bold")
    return Group(text, *(_picture(image) for image in content.pictures))


def _picture(image: EncodedImage) -> Text:
    """The picture in half blocks where there is colour; elsewhere its size."""
    try:
        picture = image.decode()
    except SampleError as error:
        return Text(str(error), "red")
    label = f"picture {picture.width} x {picture.height} px, {len(image.data) / 1000:,.0f} kB"
    if not console.is_terminal or console.no_color:
        return Text(label, "dim")
    import numpy as np

    height = max(round(WIDTH * picture.height / picture.width / 2), 1)
    small = picture.resize((WIDTH, 2 * min(height, WIDTH // 2)))
    pixels = np.asarray(small).tolist()
    found = Text(label + "\n", "dim")
    for y in range(0, small.height, 2):
        for x in range(small.width):
            above, below = pixels[y][x], pixels[y + 1][x]
            found.append("▀", f"rgb({above[0]},{above[1]},{above[2]}) on rgb({below[0]},{below[1]},{below[2]})")
        found.append("\n")
    return found


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT] + " …"
