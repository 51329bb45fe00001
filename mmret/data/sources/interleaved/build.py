"""Building interleaved documents: of each its pairs, or one sample of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmret.data.shards import Sample
from mmret.data.sources.interleaved.config import InterleavedConfig
from mmret.data.sources.interleaved.document import Interleaved, clean, consecutive, interleave, places, shorten
from mmret.data.sources.picture import Lost, Picture, PictureReader
from mmret.data.sources.record import Built
from mmret.data.sources.row_file import RowFiles
from mmret.data.sources.row_options import Problem, build_rows, fact, find_first, picture_reader
from mmret.data.sources.table.row import is_empty
from mmret.data.sources.track import Track, untracked
from mmret.errors import SampleError


def build_interleaved(config: InterleavedConfig, track: Track = untracked) -> list[Built]:
    """Write `<out>/<name>.manifest.json` with its shards and `<out>/<name>.yaml`, the data spec.

    Raises:
        ConfigError: a file, a column or the folder of pictures is not there.
        SampleError: no document could be used, or a picture is missing or broken and may not be.
    """
    files = RowFiles(config.files, config.columns)
    asking = [] if config.query_column is None else [config.query_column]
    files.require([config.images_column, config.texts_column, *asking, *config.facts])
    pictures = picture_reader(config, files)

    def listed(row: Mapping[str, Any]) -> list[Any]:
        value = row.get(config.images_column)
        return [one for one in value if not is_empty(one)] if isinstance(value, list) else []

    first = find_first(files, pictures, listed)
    if config.query_column is not None:
        required = ["query.text", "positives.images"]
    elif config.pairs == "consecutive":
        required = ["query.images", "positives.text"]
    else:
        required = ["query.images"]
    return [build_rows(config, files, _DocumentReader(config, pictures), required, first, track)]


class _DocumentReader:
    """Reads documents; threads may share one."""

    def __init__(self, config: InterleavedConfig, pictures: PictureReader):
        self.config, self.pictures = config, pictures

    def __call__(self, number: int, place: str, row: Mapping[str, Any]) -> tuple[list[Sample], list[Problem]]:
        """The samples of a document, and what was left out: pictures that are not to be had, or all of it."""
        config = self.config
        title = None if config.query_column is None else row.get(config.query_column)
        if config.query_column is not None and is_empty(title):
            return [], [Problem("nothing asks", f"{config.query_column}: empty")]
        try:
            found = places(row.get(config.texts_column), row.get(config.images_column))
        except SampleError as error:
            reason, _, text = str(error).partition(": ")
            return [], [Problem(reason, text)]
        if config.query_column is None and config.pairs == "consecutive":
            # Pictures that no text follows are of no use: they are not fetched.
            last = max((at for at, (kind, _) in enumerate(found) if kind == "text"), default=-1)
            found = found[: last + 1]
        parts, problems = self._parts(found)
        facts = {name: value for name in config.facts if (value := fact(row.get(name))) is not None}
        made = self._samples(f"{number:09d}", parts, None if title is None else str(title).strip(), facts)
        if not made:
            pairs = config.query_column is None and config.pairs == "consecutive"
            what = "no picture that a text follows" if pairs else "no picture"
            problems.append(Problem(what, f"{len(parts)} parts"))
        return made, problems

    def _parts(self, found: list[tuple[str, Any]]) -> tuple[list[str | Picture], list[Problem]]:
        parts: list[str | Picture] = []
        problems = []
        for kind, value in found:
            part = clean(value) if kind == "text" else self.pictures(value)
            if isinstance(part, Lost):
                problems.append(Problem.of(part))
            elif part:
                parts.append(part)
        return parts, problems

    def _samples(self, key: str, parts: list[str | Picture], title: str | None, facts: dict[str, Any]) -> list[Sample]:
        config = self.config
        if title is None and config.pairs == "consecutive":
            pairs = enumerate(consecutive(parts, config.max_words))
            return [
                self._sample(f"{key}-{at:03d}", facts, self._content(asking), [{"text": below}])
                for at, (asking, below) in pairs
            ]
        whole = self._content(shorten(parts, config.max_words))
        if not whole.pictures:
            return []
        if title is None:
            return [self._sample(key, facts, whole, [])]
        members = _members(whole, "p.0")
        document = {"id": key, **({"text": whole.text} if whole.text else {}), "images": list(members)}
        return [Sample(key, facts | {"query": {"text": title}, "positives": [document]}, members)]

    def _content(self, parts: list[str | Picture]) -> Interleaved:
        return interleave(parts, not self.config.no_placeholders, self.config.max_images)

    def _sample(self, key: str, facts: dict[str, Any], asking: Interleaved, positives: list[dict[str, Any]]) -> Sample:
        members = _members(asking, "q")
        query = {**({"text": asking.text} if asking.text else {}), "images": list(members)}
        return Sample(key, facts | {"query": query} | ({"positives": positives} if positives else {}), members)


def _members(content: Interleaved, name: str) -> dict[str, bytes]:
    return {f"{name}.{at}.{picture.suffix}": picture.data for at, picture in enumerate(content.pictures)}
