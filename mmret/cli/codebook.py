"""`mmret codebook SPEC... OUT`: a visual tokenizer for masked image modelling, made of a frozen vision tower."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.cli.arguments import add_batch_size, add_device, count
from mmret.cli.console import say
from mmret.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from torch import Tensor

    from mmret.data import Source
    from mmret.models.backbones import PictureSettings
    from mmret.types import EncodedImage

logger = logging.getLogger(__name__)

SUMMARY = "make a visual tokenizer of a vision tower and pictures (for the mim objective)"
PER_TOKEN = 64
"""Patches of the sample for each token: enough for means, and 8192 tokens still fit in memory."""


def configure(parser: argparse.ArgumentParser) -> None:
    """SPEC..., OUT, the tower, sizes."""
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="data specs whose pictures to take (mmret ls data)")
    parser.add_argument("out", metavar="OUT", help="folder to write; must not exist")
    parser.add_argument("--vision", metavar="NAME", required=True, help="the tower, as model.vision names it")
    parser.add_argument("--vision-weights", metavar="FILE", help="its weights, if they lie elsewhere")
    parser.add_argument("--vision-px", type=int, metavar="N", help="size of its pictures; default: its own")
    parser.add_argument("--vision-mean", metavar="M[,M,M]", help="what its weights were trained with; default: known")
    parser.add_argument("--vision-std", metavar="S[,S,S]", help="likewise")
    parser.add_argument("--tokens", type=count, default=8192, metavar="K", help="size of the vocabulary (8192)")
    parser.add_argument("--image-px", type=count, default=224, metavar="N", help="the model's model.image_px (224)")
    parser.add_argument("--patch-px", type=count, default=16, metavar="N", help="the model's model.patch_px (16)")
    parser.add_argument("--samples", type=count, default=5000, metavar="N", help="pictures to look at (5000)")
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help="steps of k-means (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of pictures and centroids (0)")
    add_batch_size(parser, 64, "pictures encoded at once")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Look at pictures, cluster their patches, write the folder, say how it is used."""
    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"{out} exists; name a new folder, or delete it first")
    if args.image_px % args.patch_px:
        raise ConfigError(f"--image-px {args.image_px} is not a multiple of --patch-px {args.patch_px}")
    if args.vision == "tiny":
        raise ConfigError("--vision tiny has random weights, other ones each time it is opened; name a trained tower")
    mean, std = _channels(args.vision_mean, "--vision-mean"), _channels(args.vision_std, "--vision-std")
    import torch

    from mmret.data import DataSpec
    from mmret.models.backbones import PictureSettings, load_vision, vision_spec
    from mmret.models.visual_tokenizer import CodebookConfig, collect_features, fit_codebook
    from mmret.training.progress import track

    sources = [DataSpec.load(name).open() for name in args.specs]
    spec = vision_spec(args.vision, args.vision_px)
    spec = replace(spec, mean=mean or spec.mean, std=std or spec.std)
    window = args.image_px // args.patch_px
    config = CodebookConfig(args.vision, spec, window, args.vision_weights)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    tower = load_vision(args.vision, spec, args.vision_weights).to(device)

    images = _images(sources, args.samples, args.seed)
    per_picture = min(window**2, math.ceil(PER_TOKEN * args.tokens / max(len(images), 1)))
    settings = PictureSettings(args.image_px, (0.0,) * 3, (1.0,) * 3, "squash")
    batches = [images[start : start + args.batch_size] for start in range(0, len(images), args.batch_size)]
    pictures = _pixels(track(batches, "features"), settings)
    features = collect_features(config, tower, pictures, per_picture, args.seed)
    rounds = track(range(args.rounds), "clusters")
    codebook, usage = fit_codebook(config, tower, features, args.tokens, rounds, args.seed)
    codebook.save(out)
    say(
        f"{out}: {args.tokens:,} tokens for pictures of {window} x {window} patches, from {usage.vectors:,} patches of "
        f"{len(images):,} pictures",
        "green",
    )
    say(
        f"usage: perplexity {usage.perplexity:,.0f}, {usage.dead:,} dead codes, mean cosine to the centroid "
        f"{usage.similarity:.3f}"
    )
    say(f"in a recipe's stage: objectives: {{mim: {{tokenizer: {out}}}}}")
    return 0


def _channels(text: str | None, option: str) -> tuple[float, ...] | None:
    """ "0.5" or "0.48,0.46,0.41" to three numbers."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise ConfigError(f"{option} wants one number or three, with commas between; got '{text}'")
    return values * (3 // len(values))


def _images(sources: Sequence[Source], count: int, seed: int) -> list[EncodedImage]:
    """About `count` pictures, equally many of each source while it has them: queries', or else positives'."""
    from mmret.data.dice import permutation

    found, broken = [], 0
    for number, source in enumerate(sources):
        share = (count - len(found)) // (len(sources) - number)
        for index in permutation(len(source), "codebook", seed, source.name)[:share].tolist():
            try:
                example = source.example(index)
            except SampleError as error:
                broken += 1
                if broken <= 3:
                    logger.warning("broken sample left out: %s", error)
                continue
            images = example.query.images or [image for one in example.positives for image in one.images]
            found += images[:1]
    if broken:
        logger.warning("%d broken samples left out in all", broken)
    return found


def _pixels(batches: Iterator[list[EncodedImage]], settings: PictureSettings) -> Iterator[Tensor]:
    """[B, 3, px, px] in [0, 1]."""
    import torch

    from mmret.models.backbones import pixels

    for batch in batches:
        yield torch.stack([pixels(image, settings) for image in batch])
