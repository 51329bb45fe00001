"""Pictures and features from shards: ours by offset, webdataset streaming as its users write it; the bare work last."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image
from torch import Tensor

from mmret.data import MixtureDataModule, Sample, write_shards
from mmret.data.index import ShardIndex, index_path
from mmret.models.backbones import PictureSettings, resized
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import EncodedImage, Inputs
from tests.bench.harness import Row, Run, race_apart
from tests.bench.loader import Nothing

SETTINGS = PictureSettings(224)
SCALED = replace(SETTINGS, decode="scaled")
PICTURES = {(640, 480): (92, 128), (1440, 1080): (85, 64)}
"""Width, height: JPEG quality, samples."""
FEATURES, SHAPE = 4096, (50, 768)
"""Samples, and what each holds in float16: a CLIP ViT-B/32's outputs."""
BATCH, FEATURE_BATCH = 8, 64


class Pictures:
    """Decode and resize, no more: uint8 [B, 3, 224, 224]."""

    def __init__(self, settings: PictureSettings) -> None:
        self.settings = settings

    def __call__(self, contents, role):
        images = [image for content in contents for image in content.images]
        return (
            Inputs({"pixels": torch.stack([resized(i, self.settings) for i in images])})
            if images
            else Nothing()(contents, role)
        )


class Features:
    """Arrays as `np.save` wrote them: float16 [B, 50, 768]."""

    def __call__(self, contents, role):
        arrays = [features(image.data) for content in contents for image in content.images]
        if not arrays:
            return Nothing()(contents, role)
        return Inputs({"features": torch.from_numpy(np.concatenate(arrays).reshape(len(arrays), *SHAPE))})


def run() -> list[Row]:
    """One pass each, without workers."""
    rows: list[Row] = []
    for (width, height), (quality, samples) in PICTURES.items():
        photos = [photo(width, height, quality, seed) for seed in range(8)]
        for settings in (SETTINGS, SCALED) if height >= 4 * SETTINGS.px else (SETTINGS,):
            rows += _race(
                f"JPEG {width}x{height}, decoded and resized to 224"
                + (", ours decoded at half size" if settings is SCALED else ""),
                [photos[number % len(photos)] for number in range(samples)],
                "jpg",
                Pictures(settings),
                ("pilrgb",),
                _by_pillow,
                ("decode + resize in a loop", partial(_decoded, settings)),
            )
    noise = np.random.default_rng(0)
    arrays = [_saved(noise.normal(size=SHAPE).astype(np.float16)) for _ in range(8)]
    rows += _race(
        f"feature shards, {SHAPE[0]} x {SHAPE[1]} float16",
        [arrays[number % len(arrays)] for number in range(FEATURES)],
        "npy",
        Features(),
        (),
        torch.from_numpy,
        ("read + view in a loop", _copied),
        FEATURE_BATCH,
    )
    return rows


def photo(width: int, height: int, quality: int, seed: int) -> bytes:
    """A JPEG with the sizes and spectrum of a photograph: noise of falling strength at all scales."""
    noise = np.random.default_rng(seed)
    values = np.full((height, width, 3), 110, np.float32)
    for scale in (4, 8, 16, 32, 64, 128, 256):
        coarse = noise.normal(size=(height * scale // 512 + 2, width * scale // 512 + 2, 3)).astype(np.float32)
        planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        values += np.stack([np.asarray(plane) for plane in planes], 2) * (60 / scale**0.5)
    buffer = io.BytesIO()
    values += noise.normal(size=values.shape) * 4
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def features(data: bytes) -> np.ndarray:
    """The values in a .npy file of format 1, without a copy."""
    start = 10 + int.from_bytes(data[8:10], "little")
    return np.frombuffer(data, np.float16, offset=start)


def _race(
    name: str,
    members: list[bytes],
    suffix: str,
    processor: Callable,
    decoders: tuple[str, ...],
    transform: Callable,
    bare: tuple[str, Callable[[bytes], Tensor]],
    batch: int = BATCH,
) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder_name:
        folder, field = Path(folder_name), f"q.0.{suffix}"
        rows = (
            Sample(f"{number:06d}", {"query": {"images": [field]}, "positives": [{"text": "a"}]}, {field: data})
            for number, data in enumerate(members)
        )
        write_shards(rows, folder, "train")
        (folder / "set.yaml").write_text("name: bench/set\nshards: train.manifest.json\n")
        makers = {
            "mmret": partial(_ours, folder, processor, batch, len(members) // batch),
            "webdataset": partial(_theirs, folder, field, decoders, transform, batch),
            bare[0]: partial(_bare, folder, bare[1]),
        }
        return race_apart(name, makers, work=len(members), unit="samples")


def _ours(folder: Path, processor: Callable, batch: int, batches: int) -> Run:
    mixture = MixtureConfig(sources={str(folder / "set.yaml"): SourceConfig()}, batch_size=batch)
    data = MixtureDataModule(mixture, processor, frozenset(), 0, batches)

    def run() -> None:
        for _ in data.train_dataloader():
            pass

    return run


def _theirs(folder: Path, field: str, decoders: tuple[str, ...], transform: Callable, batch: int) -> Run:
    tar = next(folder.glob("*.tar"))

    def run() -> None:
        stream = webdataset.WebDataset(str(tar), shardshuffle=False).shuffle(1000).decode(*decoders)
        stream = stream.to_tuple(field, "json").map_tuple(transform)
        for _ in webdataset.WebLoader(stream, batch_size=batch, collate_fn=_stacked, num_workers=0):
            pass

    return run


def _bare(folder: Path, work: Callable[[bytes], Tensor]) -> Run:
    tar = next(folder.glob("*.tar"))

    def run() -> None:
        index, file = ShardIndex(index_path(tar)), os.open(tar, os.O_RDONLY)
        for number in range(len(index)):
            (_, _, _), (_, offset, size) = index.members(number)
            work(os.pread(file, size, offset))
        os.close(file)

    return run


def _decoded(settings: PictureSettings, data: bytes) -> Tensor:
    return resized(EncodedImage(data), settings)


def _copied(data: bytes) -> Tensor:
    return torch.from_numpy(features(data).copy())


def _by_pillow(image: Image.Image) -> Tensor:
    """The same crop by Pillow."""
    px, (width, height) = SETTINGS.px, image.size
    size = (px, int(px * height / width)) if width <= height else (int(px * width / height), px)
    left, top = (size[0] - px) // 2, (size[1] - px) // 2
    image = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + px, top + px))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _stacked(samples: list[tuple[Tensor, dict]]) -> Tensor:
    return torch.stack([sample[0] for sample in samples])


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
