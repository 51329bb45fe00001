"""Rows that leave nothing to choose, read and drawn a run at a time: a query, one positive, no negatives.

`draw` says what a row is. Of plain rows this says the same in a fraction of the time, and of all others nothing: what
is unusual or broken in a row, `draw` meets it, with its errors.
"""

from __future__ import annotations

import msgspec

from mmret.data.dice import Dice
from mmret.data.draw import Drawn
from mmret.data.plan import Run
from mmret.data.source import CONTENT, Source
from mmret.errors import SampleError
from mmret.types import Content, Need, document_numbers


class _Query(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str | None = None
    images: list[str] | None = None
    instruction: str | None = None
    video: None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str | None = None
    images: list[str] | None = None
    id: str | None = None
    video: None = None


class _Row(msgspec.Struct, gc=False):
    query: _Query
    positives: tuple[_Document | str]
    negatives: list[msgspec.Raw] | None = None
    scores: None = None


_PATIENCE = 8


class _NotPlain(Exception):
    """A row is left to `draw`."""


class PlainRows:
    """The plain rows of one source."""

    def __init__(self, source: Source, documents_per_query: int, seed: int, needs: frozenset[Need]):
        """Arguments are those of `draw`."""
        self.source, self.seed = source, seed
        self.plain = (
            documents_per_query == 1
            and not needs & {Need.NEGATIVES, Need.TARGETS}
            and not source.synthetic
            and source.decoder.as_stored
        )
        """Whether rows can be plain, and some of the last were."""
        self._missed = 0

    def draw(self, run: Run) -> list[Drawn] | None:
        """The rows of a run; None: one of them is not plain. After many such runs on end none is looked at again."""
        if not self.plain:
            return None
        try:
            drawn = self._draw(run)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, SampleError, _NotPlain):
            self._missed += 1
            self.plain = self._missed < _PATIENCE
            return None
        self._missed = 0
        return drawn

    def _draw(self, run: Run) -> list[Drawn]:
        source, decoder, instructions = self.source, self.source.decoder, self.source.spec.instructions
        name, seed, epoch, number_of = source.name, self.seed, run.epoch, document_numbers(source.collection)
        drawn, required = [], decoder.requires
        for index, (key, members) in zip(run.samples, source.reader.read_all(run.samples, views=True)):
            row, dice = _decode(members["json"]), (seed, name, epoch, index)
            asked, (found,) = row.query, row.positives
            text, instruction = asked.text, asked.instruction
            if (text is not None and not text.strip()) or (instruction is not None and not instruction.strip()):
                raise _NotPlain
            if instruction is None and instructions:
                throw = Dice(*dice)
                throw.below(1)  # which positive
                instruction = instructions[throw.below(len(instructions))]
            images = decoder.pictures(key, "query.images", asked.images, members) if asked.images else ()
            query = Content(text, images, instruction)
            if isinstance(found, str):
                document, id = decoder.look_up(key, "positives", found), found
                text, images = document.text, document.pictures
            else:
                text, id = found.text, found.id
                if (text is not None and not text.strip()) or (id is not None and not id.strip()):
                    raise _NotPlain
                images = decoder.pictures(key, "positives.images", found.images, members) if found.images else ()
                document = Content(text, images, None, id)
            if required:
                decoder.check(key, "query", query)
                decoder.check(key, "positives", document)
            elif (text is None and not images) or (asked.text is None and not query.images):
                raise _NotPlain
            if id is None or id.startswith(CONTENT):
                number = (source.number(document),)
            else:
                number = (number_of(id),)
            drawn.append(Drawn(name, key, query, (document,), number, number, dice))
        return drawn


_decode = msgspec.json.Decoder(_Row).decode
