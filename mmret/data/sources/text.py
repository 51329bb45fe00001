"""Text corpora to text-only samples: lines or paragraphs of text, JSON and parquet files, long ones cut into pieces."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as setting
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import MISSING

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.record import Built, Counts, fingerprint, finish, finished, remove_shards, whole_shards
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
SHARD_SAMPLES = 100_000


@dataclass
class TextConfig:
    """The options of `mmret data build text`."""

    texts: list[str] = setting(default_factory=list)
    """Files (.txt, .jsonl, also .gz; .parquet) or folders of them; at least one."""
    out: str = "data/text"
    """Folder for the corpora. The data specs look for it in the variable MMRET_TEXT."""
    name: str = MISSING
    """The corpus: the folder below --out (wiki_books)."""
    field: str = "text"
    """Column or key of the text in parquet and JSON files."""
    unit: str = "line"
    """line or paragraph (lines up to an empty one): what becomes a sample."""
    max_words: int = 140
    """Longer units are cut into pieces of so many words; 140 are about the 196 tokens of VLMo's language stage."""
    min_words: int = 5
    """Shorter pieces are left out: headings, list items."""
    limit: int | None = None
    """Only the first so many samples."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ConfigError("text: no files; give --texts FILE_OR_FOLDER ...")
        if self.unit not in ("line", "paragraph"):
            raise ConfigError(f"text: unit must be line or paragraph, got '{self.unit}'")
        if not 1 <= self.min_words <= self.max_words:
            raise ConfigError(f"text: want 1 <= min_words <= max_words, got {self.min_words} and {self.max_words}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"text: limit must be at least 1, got {self.limit}")


def build_text(config: TextConfig, track: Track = untracked) -> list[Built]:
    """Write `<out>/<name>/train.manifest.json`, unless the same build is there.

    Raises:
        ConfigError: a file or folder does not exist, or is of no known kind.
        SampleError: a file cannot be read, or no text is left.
    """
    files = _files(config)
    folder = Path(config.out) / config.name
    manifest, record = folder / "train.manifest.json", folder / "train.build.json"
    options = {name: getattr(config, name) for name in ("field", "unit", "max_words", "min_words", "limit")}
    made_from = fingerprint(files, options)
    counts = finished(record, made_from)
    skipped = counts is not None and whole_shards(manifest)
    if counts is None or not skipped:
        record.unlink(missing_ok=True)
        remove_shards(manifest)
        counts = Counts()
        samples = islice(_samples(files, config, counts), config.limit)
        write_shards(track(samples, config.name, config.limit), folder, "train", max_samples=SHARD_SAMPLES)
        finish(record, made_from, counts)
    return [Built(f"{config.name}/train", manifest, None, counts, Counts(), skipped)]


def pieces(text: str, max_words: int) -> Iterator[str]:
    """A text's words joined by blanks, at most so many at a time; the pieces are about equally long."""
    words = text.split()
    number = -(-len(words) // max_words)
    for at in range(number):
        yield " ".join(words[at * len(words) // number : (at + 1) * len(words) // number])


def _samples(files: list[Path], config: TextConfig, counts: Counts) -> Iterator[Sample]:
    for file in files:
        for unit in _units(file, config):
            for text in pieces(unit, config.max_words):
                counts.rows += 1
                if text.count(" ") + 1 < config.min_words:
                    counts.leave_out(f"fewer than {config.min_words} words", f"{file.name}: {text}")
                    continue
                counts.kept += 1
                yield Sample(f"{counts.kept:09d}", {"query": {"text": text}})
    if not counts.kept:
        raise SampleError(f"{', '.join(map(str, files[:3]))}: no text of {config.min_words} words or more")


def _units(file: Path, config: TextConfig) -> Iterator[str]:
    lines: list[str] = []
    for line in _lines(file, config):
        if config.unit == "line":
            yield line
        elif line.strip():
            lines.append(line)
        else:
            yield " ".join(lines)
            lines = []
    yield " ".join(lines)


def _lines(file: Path, config: TextConfig) -> Iterator[str]:
    """All lines of a file; each document of a JSON or parquet file ends with an empty one."""
    if file.suffix == ".parquet":
        for text in _column(file, config.field):
            yield from text.splitlines()
            yield ""
        return
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, 1):
                if ".jsonl" in file.suffixes:
                    yield from _document(line, f"{file}:{number}", config.field).splitlines()
                    yield ""
                else:
                    yield line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SampleError(f"{file} cannot be read: {error}") from error


def _document(line: str, where: str, field: str) -> str:
    try:
        text = json.loads(line)[field]
    except (ValueError, KeyError, TypeError) as error:
        raise SampleError(f"{where}: want an object with '{field}' ({type(error).__name__}: {error})") from error
    if not isinstance(text, str):
        raise SampleError(f"{where}: '{field}' is no text")
    return text


def _column(file: Path, field: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(file) as table:
            if field not in table.schema_arrow.names:
                names = ", ".join(table.schema_arrow.names)
                raise ConfigError(f"{file} has no column '{field}' (--field); it has {names}")
            for batch in table.iter_batches(columns=[field]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except pa.ArrowException as error:
        raise SampleError(f"{file} cannot be read: {error}") from error


def _files(config: TextConfig) -> list[Path]:
    files = []
    for path in map(Path, config.texts):
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if file.name.endswith(SUFFIXES)]
            if not found:
                raise ConfigError(f"text: {path} has no file that ends in {', '.join(SUFFIXES)}")
            files += found
        elif not path.is_file():
            raise ConfigError(f"text: {path} does not exist")
        elif not path.name.endswith(SUFFIXES):
            raise ConfigError(f"text: {path} is of no known kind; want {', '.join(SUFFIXES)}")
        else:
            files.append(path)
    return files
