"""A raw sample to its query and documents; every fault is a SampleError that starts with shard:key.

The JSON of a sample:
    {"query": {"text"?, "instruction"?, "images"?: [ref, ...], "video"?: video},
     "positives"?: [document, ...], "negatives"?: [document, ...], "label"?: class, "labels"?: {class: score},
     anything else -> Example.meta}
    ref       a member's suffix in this sample ("q.0.webp") or else an id of the images table
    document  an id of the documents table, or {"id"?, "text"?, "images"?: [ref, ...], "video"?: video}
    video     its frames in order, [ref, ...] ("q.v.000.jpg"), or with their rate {"frames": [ref, ...], "fps": number}
    class     a line of the spec's classes file, or its number from 0 (`mmret.data.classes`)
Rows without positives are for objectives that read rows alone: classification, masked text or picture modelling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmret.data.classes import LABELS
from mmret.data.layout import half_sample, pair_row
from mmret.data.mined import MinedNegatives
from mmret.data.negative_captions import negative_captions
from mmret.data.reader import RawSample
from mmret.data.spec import DataSpec
from mmret.data.table import Table
from mmret.errors import SampleError
from mmret.types import Content, EncodedImage, EncodedVideo, Example


class MissingField(SampleError):
    """A row lacks what its spec declares required."""


class UnknownReference(SampleError):
    """A row names a document or image that is not there."""


_QUERY = frozenset(("text", "instruction", "images", "video"))
_DOCUMENT = frozenset(("id", "text", "images", "video"))
_VIDEO = frozenset(("frames", "fps"))
_COLUMNS = ("text", "image")
_FRAMES = "frames"
"""Column of a documents table: the pictures of a video, in order."""


@dataclass  # frozen, making one would take twice the time
class Parsed:
    """A sample whose query is ready and whose documents are still references: a batch needs few of them."""

    name: str
    """shard:key"""
    query: Content
    positives: list[Any]
    negatives: list[Any]
    meta: dict[str, Any]
    members: Mapping[str, bytes]


class Decoder:
    """Raw samples of one spec to contents."""

    def __init__(
        self, spec: DataSpec, documents: Table | None, images: Table | None, mined: MinedNegatives | None = None
    ):
        self.source, self.declared = spec.name, spec.file or "its spec"
        self.documents, self.images, self.mined = documents, images, mined
        self.layout = spec.layout
        self.rules = tuple(spec.negative_captions)
        self._required: dict[str, list[str]] = {"query": [], "positives": [], "negatives": []}
        for field in spec.required:
            side, _, name = field.partition(".")
            self._required[side].append(name)

    @property
    def as_stored(self) -> bool:
        """Whether samples are what their JSON says, with nothing added."""
        return self.layout == "samples" and self.mined is None and not self.rules

    @property
    def requires(self) -> bool:
        """Whether the spec declares fields required."""
        return any(self._required.values())

    def parse(self, raw: RawSample) -> Parsed:
        """Check the sample's JSON and build its query."""
        row = pair_row(raw) if self.layout == "pairs" else self._json(raw)
        query = row.pop("query", None)
        if not isinstance(query, dict):
            raise SampleError(f"{raw.name}: query is {_kind(query)}, want an object with text, images or both")
        if not _QUERY.issuperset(query):
            raise SampleError(f"{raw.name}: {_unknown('query', query, _QUERY)}")
        positives, negatives = row.pop("positives", None) or [], row.pop("negatives", None) or []
        if not isinstance(positives, list) or not isinstance(negatives, list):
            raise SampleError(f"{raw.name}: positives and negatives must be lists of documents")
        if not positives and self._required["positives"]:
            raise no_positives(raw.name)
        content = Content(
            _text(raw.name, "query.text", query.get("text")),
            self.pictures(raw.name, "query.images", query.get("images"), raw.members),
            _text(raw.name, "query.instruction", query.get("instruction")),
            video=self._video(raw.name, "query.video", query.get("video"), raw.members),
        )
        self.check(raw.name, "query", content)
        parsed = Parsed(raw.name, content, positives, negatives, row, raw.members)
        if self.mined is not None:
            parsed = self.mined.add_to(parsed)
        return self._with_negative_captions(parsed) if self.rules else parsed

    def document(self, sample: Parsed, side: str, reference: Any) -> Content:
        """The document that a reference names; `side` is positives or negatives."""
        if isinstance(reference, str):
            content = self.look_up(sample.name, side, reference)
        elif isinstance(reference, dict):
            if not _DOCUMENT.issuperset(reference):
                raise SampleError(f"{sample.name}: {_unknown(side, reference, _DOCUMENT)}")
            content = Content(
                _text(sample.name, f"{side}.text", reference.get("text")),
                self.pictures(sample.name, f"{side}.images", reference.get("images"), sample.members),
                id=_text(sample.name, f"{side}.id", reference.get("id")),
                video=self._video(sample.name, f"{side}.video", reference.get("video"), sample.members),
            )
        else:
            raise SampleError(
                f"{sample.name}: {side} holds {_kind(reference)}; want an id or an object with text, images"
            )
        self.check(sample.name, side, content)
        return content

    def table_document(self, sample: Parsed, side: str, row: int) -> Content:
        """The document in a row of the documents table, for a place in `sample`."""
        content = self.row_document(row)
        self.check(sample.name, side, content)
        return content

    def row_document(self, row: int) -> Content:
        """The document in a row of the documents table."""
        assert self.documents is not None
        return self._content(row, self.documents.id(row))

    def example(self, raw: RawSample) -> Example:
        """The whole sample, all documents resolved; it has a document that answers it, or a label."""
        sample = self.parse(raw)
        if not sample.positives and not any(sample.meta.get(name) is not None for name in LABELS):
            raise no_positives(sample.name)
        positives = tuple(self.document(sample, "positives", reference) for reference in sample.positives)
        negatives = tuple(self.document(sample, "negatives", reference) for reference in sample.negatives)
        return Example(raw.name, self.source, sample.query, positives, negatives, sample.meta)

    def _with_negative_captions(self, sample: Parsed) -> Parsed:
        """With what the rules make of its captions behind its own negatives."""
        captions = [
            (document.text, reference)
            for reference in sample.positives
            if (document := self.document(sample, "positives", reference)).text is not None
            and not (isinstance(reference, str) and document.pictures)  # pictures of a table are no members of the row
        ]
        known = {text for text, _ in captions}
        made: list[dict[str, Any]] = []
        for text, reference in captions:
            inline = reference if isinstance(reference, dict) else {}
            rest = {name: value for name, value in inline.items() if name not in ("id", "text")}
            for negative in negative_captions(text, self.rules, sample.name.rpartition(":")[2], known):
                known.add(negative)
                made.append({**rest, "text": negative})
        meta = sample.meta
        if isinstance(meta.get("scores"), list):  # a teacher has not seen them
            meta = {**meta, "scores": [*meta["scores"], *[None] * len(made)]}
        return replace(sample, negatives=[*sample.negatives, *made], meta=meta)

    def _content(self, row: int, id: str) -> Content:
        assert self.documents is not None
        moving = _FRAMES in self.documents.columns
        values = self.documents.row(row, (*_COLUMNS, _FRAMES) if moving else _COLUMNS)
        image, frames, where = values["image"], values.get(_FRAMES), f"{self.documents.path.name}:{id}"
        return Content(
            values["text"],
            () if image is None else (EncodedImage(image, where),),
            id=id,
            video=EncodedVideo(tuple(EncodedImage(frame, where) for frame in frames)) if frames else None,
        )

    def _json(self, raw: RawSample) -> dict[str, Any]:
        data = raw.members.get("json")
        if data is None:
            raise half_sample(raw, ("json",), "json")
        try:
            # Of bytes, json would first guess the encoding; what does not begin like ours is left to it.
            row = json.loads(str(data, "utf-8") if data[:1] == b"{" else data)
        except ValueError as error:
            raise SampleError(f"{raw.name}: its json does not parse ({error})") from error
        if not isinstance(row, dict):
            raise SampleError(f"{raw.name}: its json is {_kind(row)}, want an object")
        return row

    def look_up(self, name: str, side: str, id: str) -> Content:
        """The document of the table that a side names."""
        if self.documents is None:
            raise UnknownReference(f"{name}: {side} names document {id!r}, but {self.declared} has no documents table")
        row = self.documents.find(id)
        if row is None:
            raise UnknownReference(f"{name}: {side} names document {id!r}, which {self.documents.path} does not have")
        return self._content(row, id)

    def pictures(
        self, name: str, field: str, references: Any, members: Mapping[str, bytes]
    ) -> tuple[EncodedImage, ...]:
        """The images that a field names."""
        if not references:
            return ()
        if not isinstance(references, list):
            raise SampleError(f"{name}: {field} is {_kind(references)}, want a list of members or image ids")
        return tuple([self._image(name, field, reference, members) for reference in references])

    def _video(self, name: str, field: str, value: Any, members: Mapping[str, bytes]) -> EncodedVideo | None:
        if not value:
            return None
        frames, fps = (value.get("frames"), value.get("fps")) if isinstance(value, dict) else (value, None)
        if isinstance(value, dict) and not _VIDEO.issuperset(value):
            raise SampleError(f"{name}: {field} has an unknown field; known: {', '.join(sorted(_VIDEO))}")
        if not isinstance(frames, list) or not frames:
            raise SampleError(f"{name}: {field} is {_kind(frames)}, want a list of frames: members or image ids")
        if fps is not None and not (isinstance(fps, (int, float)) and fps > 0):
            raise SampleError(f"{name}: {field}.fps is {fps!r}, want frames a second, more than 0")
        return EncodedVideo(tuple(self._image(name, f"{field}.frames", frame, members) for frame in frames), fps)

    def _image(self, name: str, field: str, reference: Any, members: Mapping[str, bytes]) -> EncodedImage:
        data = members.get(reference) if isinstance(reference, str) else None
        where = f"{name}.{reference}"
        if data is None and self.images is not None and isinstance(reference, str):
            row = self.images.find(reference)
            if row is not None:
                data, where = self.images.row(row, ("image",))["image"], f"{self.images.path.name}:{reference}"
        if data is None:
            table = f"no image in {self.images.path}" if self.images else f"{self.declared} has no images table"
            raise UnknownReference(
                f"{name}: {field} names {reference!r}: no member of this sample (it has {', '.join(members)}), "
                f"and {table}"
            )
        if not data:
            raise SampleError(f"{where}: the image is empty (0 bytes)")
        return EncodedImage(data, where)

    def check(self, name: str, side: str, content: Content) -> None:
        """Whether a side has what the spec declares required, and anything at all."""
        for field in self._required[side]:
            if not getattr(content, field):
                raise MissingField(
                    f"{name} has no {side}.{field}; {self.source} declares it required ({self.declared})"
                )
        if content.text is None and not content.pictures:
            raise SampleError(f"{name}: {side} has neither text nor images nor video")


def no_positives(name: str) -> SampleError:
    """What to say of a row that lacks them."""
    return SampleError(
        f"{name}: no positives; each row needs a document that answers it (positives and negatives must be lists of "
        "documents)"
    )


def _text(name: str, field: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise SampleError(f"{name}: {field} is {_kind(value)}, want a text")
    if not value or value.isspace():
        raise SampleError(f"{name}: {field} is empty; leave it out, or give it a text")
    return value


def _unknown(side: str, given: Mapping[str, Any], known: frozenset[str]) -> str:
    extra = ", ".join(sorted(set(given) - known))
    return (
        f"{side} has an unknown field {extra}; known: {', '.join(sorted(known))} (other facts stand beside the query)"
    )


def _kind(value: Any) -> str:
    names = {type(None): "missing", str: "a text", list: "a list", dict: "an object", bool: "a truth value"}
    return names.get(type(value), "a number")
