"""Pictures in a folder for each class, as ImageNet has them: class names from the folders, or from a file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from omegaconf import MISSING

from mmret.data.shards import Sample
from mmret.data.sources.image_folder import deciding, read_image
from mmret.data.sources.labelled.split import check_options, write_classes
from mmret.data.sources.pieces import PIECE_ROWS, build_pieces, even_pieces, plan_pieces
from mmret.data.sources.plan import Piece
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint
from mmret.data.sources.row_options import check_counts
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_FIRST_LOOK = 50


@dataclass
class ClassFolderConfig:
    """The options of `mmret data build image_folder`."""

    images: str = MISSING
    """Folder of the splits: train/<class>/*.jpg, val/<class>/*.jpg, ..."""
    names: str | None = None
    """Text file of lines "folder name of the class", as ImageNet's LOC_synset_mapping.txt; null: the folders' names."""
    out: str = "data/imagenet"
    """Folder for shards; the ImageNet data specs look for it in the variable MMRET_IMAGENET."""
    splits: list[str] = field(default_factory=list)
    """Subfolders of `images`; none: all. The classes are numbered by the sorted folders of all of them together."""
    limit: int | None = None
    """Only so many pictures of each split, drawn at random (always the same ones)."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out pictures that are broken, instead of stopping."""
    piece_rows: int = PIECE_ROWS
    """Pictures of a piece: what a restart repeats, and what slices share out."""
    workers: int = 8
    """Threads that read pictures ahead."""
    slice: str | None = None
    """Build only this share of the pieces: 3/16, or slurm (by the task's number in its job array)."""

    def __post_init__(self) -> None:
        check_options("image_folder", self, self.splits)
        check_counts(self, "piece_rows")


def build_class_folder(config: ClassFolderConfig, track: Track = untracked) -> list[Built]:
    """Write classes.txt, then every split that is not finished yet; pictures lie in the shards.

    Raises:
        ConfigError: no such folder, a split without class folders, or a class without name.
        SampleError: a picture is broken.
    """
    root, out = Path(config.images), Path(config.out)
    found = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    splits = [root / name for name in config.splits] if config.splits else found
    if not splits:
        raise ConfigError(f"{root}: no folder of splits; want train/<class>/*.jpg, val/<class>/*.jpg below it")
    for split in splits:
        if not split.is_dir():
            raise ConfigError(f"{split}: no such folder; splits here: {', '.join(path.name for path in found)}")
    # Of all splits that are there, also of those that are not built now: each build gives the same numbers.
    folders = sorted({path.name for split in found for path in split.iterdir() if path.is_dir()})
    for split in splits:
        if not any(path.is_dir() for path in split.iterdir()):
            raise ConfigError(
                f"{split}: no class folders in it; pictures must be sorted into one folder for each class (ImageNet's "
                "validation pictures come in a single folder)"
            )
    if len(folders) < 2:
        raise ConfigError(f"{root}: {len(folders)} classes; want at least 2")
    write_classes(_names(folders, config.names), out)
    return [_build(split, folders, out, config, track) for split in splits]


def _build(split: Path, folders: list[str], out: Path, config: ClassFolderConfig, track: Track) -> Built:
    name = f"{out.resolve().name}/{split.name}"
    files = sorted(path for folder in folders for path in (split / folder).glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"{split}: no pictures ({', '.join(SUFFIXES)}) in its class folders")
    # Sorted by class they would train class after class wherever the shuffle window is smaller than the set.
    random.Random(split.name).shuffle(files)
    files = files[: config.limit]
    numbers = {folder: number for number, folder in enumerate(folders)}
    listing = blake2b("".join(f"{file.parent.name}/{file.name}\0" for file in files).encode(), digest_size=12)
    first = [file.stat().st_size for file in files[:_FIRST_LOOK]]  # other pictures of the same names
    options = {"files": listing.hexdigest(), "sizes": first, "classes": folders, "piece_rows": config.piece_rows}
    made_from = fingerprint((), options | deciding(config, "limit", "skip_missing_images"))
    spec = {
        "name": name,
        "description": f"pictures of {len(folders):,} classes",
        "shards": f"{split.name}.manifest.json",
        "classes": "classes.txt",
        "required": ["query.images"],
    }
    slice = Slice.parse(config.slice)
    plan = plan_pieces(out, split.name, made_from, spec, lambda: even_pieces(len(files), config.piece_rows), slice)

    def samples(piece: Piece, counts: Counts) -> Iterator[Sample]:
        return _samples(files[piece.row : piece.row + piece.rows], piece.first, numbers, config, counts)

    return build_pieces(plan, samples, slice, track)


def _samples(
    files: list[Path], first: int, numbers: dict[str, int], config: ClassFolderConfig, counts: Counts
) -> Iterator[Sample]:
    def read(file: Path) -> tuple[Path, tuple[str, bytes] | str]:
        try:
            return file, read_image(file, config.max_side, config.max_px)
        except (SampleError, OSError) as error:
            return file, str(error)

    for number, (file, image) in enumerate(read_ahead(read, files, config.workers), first):
        counts.rows += 1
        if isinstance(image, str):
            if not config.skip_missing_images:
                raise SampleError(f"{image}; to leave such pictures out: --skip-missing-images")
            counts.leave_out("picture broken", image)
            continue
        counts.kept += 1
        suffix, data = image
        member = f"q.0.{suffix}"
        row = {"query": {"images": [member]}, "label": numbers[file.parent.name], "file": file.name}
        yield Sample(f"{number:08d}", row, {member: data})


def _names(folders: list[str], file: str | None) -> list[str]:
    """A name for each folder; where two classes are called alike, with the folder in brackets."""
    if file is None:
        return folders
    if not Path(file).is_file():
        raise ConfigError(f"{file}: no such file of class names")
    lines = (line.split(maxsplit=1) for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip())
    named = {parts[0]: parts[1].strip() for parts in lines if len(parts) == 2}
    missing = [folder for folder in folders if folder not in named]
    if missing:
        raise ConfigError(f"{file}: no name for class {missing[0]} ({len(missing)} of {len(folders)} classes)")
    counts = Counter(named[folder] for folder in folders)
    return [named[folder] if counts[named[folder]] == 1 else f"{named[folder]} ({folder})" for folder in folders]
