"""`mmret data recaption SPEC --model FOLDER`: captions that a local model writes, beside the shards."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.cli.arguments import add_batch_size, add_device, count
from mmret.cli.console import say
from mmret.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from PIL import Image

    from mmret.data import Source
    from mmret.models.captioner import Captioner

SUMMARY = "let a local captioning model write captions; a recipe mixes them with the pictures' own"


def configure(parser: argparse.ArgumentParser) -> None:
    """SPEC, the model, options."""
    parser.add_argument("spec", metavar="SPEC", help="a data spec (mmret ls data) or its YAML: pictures with captions")
    parser.add_argument("--model", metavar="FOLDER", required=True, help="a captioning model of transformers")
    parser.add_argument("--out", metavar="FOLDER", help="where to write; default: recaptions/<name of the source>")
    parser.add_argument("--prompt", metavar="TEXT", help="what the model is asked; default: nothing, as BLIP wants it")
    parser.add_argument("--max-tokens", type=count, default=40, metavar="N", help="most tokens of a caption (40)")
    add_batch_size(parser, 32, "pictures at once")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Write `recaptions.arrow` and a data spec that names it; say how many captions there are."""
    import torch

    from mmret.data.recaptions import write_recaptions
    from mmret.data.respec import write_spec
    from mmret.data.spec import DataSpec
    from mmret.models.captioner import Captioner
    from mmret.training.progress import track

    spec = DataSpec.load(args.spec)
    source = spec.open()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    captioner = Captioner(args.model, args.prompt, args.max_tokens, device)
    counts = {"written": 0, "without": 0, "broken": 0}
    rows = _rows(source, captioner, args.batch_size, counts)
    folder = Path(args.out or f"recaptions/{spec.name}")
    folder.mkdir(parents=True, exist_ok=True)
    write_recaptions(track(rows, "recaption", len(source)), folder / "recaptions.arrow")
    if not counts["written"]:
        raise ConfigError(
            f"{args.spec}: no caption was written for any of {len(source):,} samples: want rows of a picture that "
            "captions answer, or of a caption that asks for a picture"
        )
    path = write_spec(spec, folder / f"{spec.name.rpartition('/')[2]}.yaml", recaptions="recaptions.arrow")
    say(
        f"{counts['written']:,} samples have a written caption; {counts['without']:,} have no picture to write about, "
        f"or the model said nothing; {counts['broken']:,} are broken"
    )
    say(f"in a recipe: data.sources: {{{path}: {{weight: 1, synthetic: 0.5}}}}", "green")
    return 0


def _rows(
    source: Source, captioner: Captioner, batch_size: int, counts: dict[str, int]
) -> Iterator[tuple[str, list[str]]]:
    """(shard:key, captions) of each sample in stored order, pictures a batch at a time."""
    waiting: list[tuple[str, Image.Image | None]] = []
    broken: set[str] = set()
    for index in range(len(source)):
        name = source.reader.name(index)
        try:
            waiting.append((name, _picture(source, index)))
        except SampleError:
            broken.add(name)
            waiting.append((name, None))
        if len(waiting) == batch_size or index == len(source) - 1:
            pictures = [picture for _, picture in waiting if picture is not None]
            made = iter(captioner(pictures) if pictures else [])
            for name, picture in waiting:
                text = next(made) if picture is not None else ""
                counts["written" if text else "broken" if name in broken else "without"] += 1
                yield name, [text] if text else []
            waiting = []


def _picture(source: Source, index: int) -> Image.Image | None:
    """What is to be described: the picture that asks, or the first that answers."""
    from mmret.data.recaptions import picture_side

    sample = source.parse(index)
    side = picture_side(sample)
    if side == "query":
        return sample.query.images[0].decode()
    if side == "positives":
        for reference in sample.positives:
            images = source.decoder.document(sample, "positives", reference).images
            if images:
                return images[0].decode()
    return None
