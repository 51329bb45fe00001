"""A source: one spec's samples by number, beside its tables. Training and evaluation read through it alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from msgspec.structs import replace

from mmret.data.classes import Classes, Target
from mmret.data.decode import Decoder, Parsed
from mmret.data.mined import MinedNegatives
from mmret.data.reader import ShardReader
from mmret.data.recaptions import Recaptions
from mmret.data.spec import DataSpec
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError
from mmret.types import Content, Example, Role, document_number

CONTENT = "content:"


def content_id(document: Content) -> str:
    """Names a document by its text and pictures; a table that gives it this id means the same document."""
    return CONTENT + _content(document)


def _content(document: Content) -> str:
    text = blake2b((document.text or "").encode(), digest_size=16).hexdigest()
    return text + "".join([image.key.hex() for image in document.pictures])


class Source:
    """Samples in stored order. Pickles into data workers as paths: they open the files themselves."""

    def __init__(self, spec: DataSpec):
        """Open a spec (the same as `DataSpec.open`)."""
        self.spec = spec
        self.manifest = spec.manifest()
        self.documents: Table | None = Table.open(spec.resolve(spec.documents)) if spec.documents else None
        self.images: Table | None = Table.open(spec.resolve(spec.images)) if spec.images else None
        self.classes: Classes | None = Classes.load(spec.resolve(spec.classes)) if spec.classes else None
        self.reader = ShardReader(self.manifest, ranges=spec.remote == "ranges")
        self.reader.check()
        mined = MinedNegatives(spec.resolve(spec.negatives)) if spec.negatives else None
        if mined is not None and self.documents is None:
            raise ConfigError(f"{spec.file or spec.name}: `negatives` are ids of a documents table; name it, too")
        self.decoder = Decoder(spec, self.documents, self.images, mined)
        self.recaptions = Recaptions(spec.resolve(spec.recaptions)) if spec.recaptions else None
        self.synthetic = 0.0
        """Share of training rows whose caption is one of `recaptions`; the mixture sets it."""
        self.collection = spec.name
        """Equal ids of sources of one collection are the same document."""

    @property
    def name(self) -> str:
        """The spec's name."""
        return self.spec.name

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def shard_lengths(self) -> list[int]:
        """Samples of each shard."""
        return [shard.samples for shard in self.manifest.shards]

    def parse(self, index: int) -> Parsed:
        """Sample `index` with its documents unresolved."""
        return self.decoder.parse(self.reader.read(index))

    def example(self, index: int) -> Example:
        """Sample `index`, in stored order.

        Raises:
            SampleError: the sample is broken; the text starts with shard:key.
        """
        return self.decoder.example(self.reader.read(index))

    def target(self, sample: Parsed) -> Target | None:
        """What the sample says is right; None: nothing.

        Raises:
            ConfigError: the spec names no classes.
            SampleError: its label is none of them.
        """
        if self.classes is None:
            raise ConfigError(
                f"{self.spec.file or self.name} names no `classes` (a text file, one class a line), but labels are read"
            )
        return self.classes.target(sample.name, sample.meta)

    def recaption(self, sample: Parsed, place: tuple[object, ...]) -> Content | None:
        """The written caption that the sample has at this place of the training; None: its own."""
        if self.recaptions is None or not self.synthetic:
            return None
        return self.recaptions.draw(sample, self.synthetic, *place)

    def number(self, document: Content) -> int:
        """The document's number in `Batch.document_ids`: of its id in this collection, else of its content."""
        if document.id is None:
            return document_number("", _content(document))
        if document.id.startswith(CONTENT):
            return document_number("", document.id.removeprefix(CONTENT))
        return document_number(self.collection, document.id)

    def all_documents(self) -> Iterator[Content]:
        """Every document of the table, in stored order; nothing without a table."""
        if self.documents is not None:
            for row in range(len(self.documents)):
                yield self.decoder.row_document(row)

    def contents(self, indices: Iterable[int] | None = None) -> Iterator[tuple[Role, Content]]:
        """Everything training can put into a batch: queries with each instruction they may get, and all documents.

        Broken samples are passed over: training replaces and counts them.

        Args:
            indices: samples to look at; None: all.
        """
        for index in range(len(self)) if indices is None else indices:
            try:
                yield from self._contents(self.parse(index))
            except SampleError:
                continue
        for document in self.all_documents():
            yield "document", document

    def _contents(self, sample: Parsed) -> Iterator[tuple[Role, Content]]:
        queries = [sample.query]
        if self.recaptions is not None and self.synthetic:
            written = self.recaptions.of(sample.name)
            if sample.query.images:
                for text in written:
                    yield "document", Content(text)
            else:
                queries += [replace(sample.query, text=text) for text in written]
        instructions = self.spec.instructions if sample.query.instruction is None else []
        for instruction in instructions or [sample.query.instruction]:
            for query in queries:
                yield "query", replace(query, instruction=instruction)
        for side, references in (("positives", sample.positives), ("negatives", sample.negatives)):
            for reference in references:
                # What the table has comes from the table, once.
                if not isinstance(reference, str):
                    yield "document", self.decoder.document(sample, side, reference)
