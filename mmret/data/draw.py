"""What a row uses of its sample: one positive, negatives, an instruction; f(seed, source, epoch, sample)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mmret.data.classes import Target
from mmret.data.decode import Parsed, no_positives
from mmret.data.dice import Dice
from mmret.data.plan import Row
from mmret.data.source import Source
from mmret.errors import ConfigError, SampleError
from mmret.types import Content, Need


class Drawn(Struct):
    """One row of a batch before the processor."""

    source: str
    key: str
    """shard:key"""
    query: Content
    documents: tuple[Content, ...]
    """The drawn positive, then the negatives."""
    document_numbers: tuple[int, ...]
    positive_numbers: tuple[int, ...]
    """Of all positives, drawn or not."""
    dice: tuple[object, ...] = ()
    """What further random choices about this row are a function of: seed, source, epoch, sample."""
    scores: tuple[float, ...] | None = None
    """A teacher's score of each document, NaN for those it did not see; None: the row brings none."""
    target: Target | None = None
    """The row's class, where the stage reads it."""


def draw(
    source: Source,
    row: Row,
    documents_per_query: int,
    seed: int,
    needs: frozenset[Need] = frozenset({Need.DOCUMENT}),
    fill: bool = True,
) -> Drawn:
    """Read a row's sample and choose from it.

    Negatives come from the row's own list as far as it goes, then from the source's documents table, never a document
    that is already there and never one of the row's positives. A row without positives gets no documents, nor does one
    that is classified and has text and picture in its query.

    Args:
        needs: what the stage's objectives need.
        fill: draw from the table what the row's own negatives leave empty; else the row has fewer documents.

    Raises:
        SampleError: the sample is broken, or has no positives or label where an objective needs them.
        ConfigError: it has too few negatives, and there is no table, or too small a one, to draw the rest from.
    """
    sample = source.parse(row.index)
    dice = Dice(seed, source.name, row.epoch, row.index)
    wants_documents = bool(needs & {Need.DOCUMENT, Need.NEGATIVES})
    if wants_documents and not sample.positives:
        raise no_positives(sample.name)
    target = _target(source, sample) if Need.TARGETS in needs else None
    positive = dice.below(len(sample.positives)) if sample.positives else 0
    query = sample.query
    if query.instruction is None and source.spec.instructions:
        query = replace(query, instruction=source.spec.instructions[dice.below(len(source.spec.instructions))])
    keys = (seed, source.name, row.epoch, row.index)
    written = source.recaption(sample, keys)
    if written is not None and not query.images:
        query, written = replace(query, text=written.text), None
    alone = target is not None and not wants_documents and query.text is not None and bool(query.images)
    if alone or not sample.positives:
        return Drawn(source.name, sample.name, query, (), (), (), keys, target=target)

    documents = [written or source.decoder.document(sample, "positives", sample.positives[positive])]
    positives = [
        documents[0] if at == positive and written is None else _identity(source, sample, reference)
        for at, reference in enumerate(sample.positives)
    ]
    if written is not None:
        positives.insert(0, written)
    wanted = documents_per_query - 1
    negatives = dice.sample(len(sample.negatives), min(wanted, len(sample.negatives)))
    for at in negatives:
        documents.append(source.decoder.document(sample, "negatives", sample.negatives[at]))
    if fill and len(documents) <= wanted:
        documents += _fill(source, sample, positives, documents, documents_per_query, dice)

    numbers = tuple(source.number(document) for document in documents)
    known = tuple(dict.fromkeys(numbers[0] if p is documents[0] else source.number(p) for p in positives))
    listed = [None if written else positive, *(len(sample.positives) + at for at in negatives)]
    scores = _teacher_scores(sample, listed, documents_per_query)
    return Drawn(source.name, sample.name, query, tuple(documents), numbers, known, keys, scores, target)


def _target(source: Source, sample: Parsed) -> Target:
    target = source.target(sample)
    if target is None:
        raise SampleError(f"{sample.name}: no label or labels, which an objective of this stage reads (classify)")
    return target


def _teacher_scores(sample: Parsed, drawn: Sequence[int | None], documents_per_query: int) -> tuple[float, ...] | None:
    """Scores of the drawn documents; `drawn` counts positives, then negatives. What came from elsewhere has none."""
    scores = sample.meta.get("scores")
    if scores is None:
        return None
    listed = len(sample.positives) + len(sample.negatives)
    if not isinstance(scores, list) or len(scores) != listed:
        raise SampleError(
            f"{sample.name}: scores must be {listed} numbers, one per positive, then one per negative; "
            f"got {len(scores) if isinstance(scores, list) else scores!r}"
        )
    chosen = [math.nan if at is None or scores[at] is None else float(scores[at]) for at in drawn]
    return (*chosen, *[math.nan] * (documents_per_query - len(chosen)))


def _identity(source: Source, sample: Parsed, reference: object) -> Content:
    """As much of a positive that was not drawn as its number needs: ids are not looked up."""
    if isinstance(reference, str):
        return Content(id=reference)
    return source.decoder.document(sample, "positives", reference)


def _fill(
    source: Source,
    sample: Parsed,
    positives: list[Content],
    documents: list[Content],
    documents_per_query: int,
    dice: Dice,
) -> list[Content]:
    """Random documents of the table for the places that the row's own negatives leave empty."""
    missing = documents_per_query - len(documents)
    lack = f"{sample.name}: documents_per_query is {documents_per_query}, negatives here: {len(sample.negatives)}, and "
    table = source.documents
    if table is None:
        raise ConfigError(
            f"{lack}{source.spec.file or source.name} has no documents table to draw the rest from; "
            "add one, pack rows with negatives, or lower documents_per_query"
        )
    taken = {content.id for content in (*positives, *documents) if content.id is not None}
    # The same passage may stand in the row without an id.
    texts = {content.text for content in positives if content.text is not None}
    drawn: list[Content] = []
    for _ in range(64 * missing):
        number = dice.below(len(table))
        id = table.id(number)
        if id in taken:
            continue
        content = source.decoder.table_document(sample, "negatives", number)
        taken.add(id)
        if content.text is None or content.text not in texts:
            drawn.append(content)
            if len(drawn) == missing:
                return drawn
    raise ConfigError(
        f"{lack}{table.path} has only {len(table):,} documents, too few to draw {missing} others; "
        "lower documents_per_query"
    )
