"""Example questions for a report: picture, question, what was found, what was right; read from run files."""

from __future__ import annotations

import base64
import io
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.errors import MMRetError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.split import Query, QuerySplit
from mmret.evaluation.trec import read_run
from mmret.types import Content

logger = logging.getLogger(__name__)

PLACES = 3
"""Documents shown for each question."""
EXCERPT = 220
"""Characters of a text that are shown."""
MAX_PX = 320
"""Larger pictures are made smaller."""
SEED = 0


@dataclass(frozen=True)
class Shown:
    """A document as a card shows it: text in three parts, the middle one the answer (maybe empty), and a picture."""

    before: str
    answer: str
    after: str
    images: tuple[str, ...]
    right: bool


@dataclass(frozen=True)
class Asked:
    """A query as a card shows it."""

    id: str
    question: str
    images: tuple[str, ...]
    """data: URIs."""
    group: str | None
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Card(Asked):
    """One question, and what was found."""

    found: tuple[Shown, ...]
    """The first documents, best first."""
    wanted: Shown
    """A right document."""
    place: int | None
    """Where the first right document stands; None: not retrieved."""
    control_places: Mapping[str, int | None]
    """The same under controls."""
    depth: int
    """Documents retrieved."""

    @property
    def won(self) -> bool:
        """A right document stands first."""
        return self.place == 1


def gallery(benchmarks: Sequence[Mapping[str, Any]], rankings: Path, num: int) -> dict[str, list[Card]]:
    """Cards by "title of the split", for each benchmark that names a gallery split.

    Half of the questions were won (a right document first), half lost, as far as there are such; groups take turns.
    The choice is the same on every call. A benchmark whose files are gone is left out, with a warning.

    Args:
        benchmarks: as in evaluation.json.
        rankings: folder of the run files.
        num: questions shown, over all benchmarks.
    """
    shown: dict[str, list[Card]] = {}
    chosen = [entry for entry in benchmarks if entry.get("gallery") in entry["splits"]]
    for number, entry in enumerate(chosen):
        share = num // len(chosen) + (number < num % len(chosen))
        try:
            split = Benchmark.load(entry["source"]).split(entry["gallery"])
            cards = _cards(split, rankings / entry["prefix"], list(entry["splits"][split.name]["controls"]), share)
        except (MMRetError, FileNotFoundError) as error:
            logger.warning("gallery of %s left out: %s", entry["name"], error)
            continue
        if cards:
            shown[f"{entry['prefix']}: {split.title}"] = cards
    return shown


def pick(places: Mapping[str, int | None], groups: Mapping[str, str | None], num: int) -> list[str]:
    """Ids of `num` queries, won and lost in turn, half each as far as there are; groups mixed; by a fixed seed."""
    lists = {True: _mixed([id for id in places if places[id] == 1], groups)}
    lists[False] = _mixed([id for id in places if places[id] != 1], groups)
    num_lost = min(len(lists[False]), max(num // 2, num - len(lists[True])))
    won, lost = lists[True][: num - num_lost], lists[False][:num_lost]
    turns = [id for pair in zip(won, lost) for id in pair]
    shorter = min(len(won), len(lost))
    return turns + won[shorter:] + lost[shorter:]


def _mixed(ids: Sequence[str], groups: Mapping[str, str | None]) -> list[str]:
    rng = random.Random(SEED)
    members: dict[str | None, list[str]] = {}
    for id in rng.sample(list(ids), len(ids)):
        members.setdefault(groups[id], []).append(id)
    rounds = max(map(len, members.values()), default=0)
    return [queue[turn] for turn in range(rounds) for queue in members.values() if turn < len(queue)]


def _cards(split: QuerySplit, folder: Path, controls: Sequence[str], num: int) -> list[Card]:
    runs: dict[str | None, dict[str, list[tuple[str, float]]]] = {None: read_run(folder / f"{split.name}.run")}
    for control in controls:
        file = folder / f"{split.name}.{control}.run"
        if file.is_file():
            runs[control] = read_run(file)
    corpus = split.benchmark.corpus
    relevant = {query.id: {corpus.id(row) for row in query.relevant} for query in split.queries}
    places = {
        control: {id: first_place(run.get(id, ()), relevant[id]) for id in relevant} for control, run in runs.items()
    }
    rows = {query.id: row for row, query in enumerate(split.queries)}
    cards = []
    for id in pick(places[None], {query.id: query.group for query in split.queries}, num):
        query = split.queries[rows[id]]
        cards.append(
            Card(
                **vars(asked(split, rows[id])),
                found=shown_documents(split, query, runs[None][id]),
                wanted=excerpt(corpus.content(query.relevant[0]), query.answers, True),
                place=places[None][id],
                control_places={control: place[id] for control, place in places.items() if control},
                depth=len(runs[None][id]),
            )
        )
    return cards


def asked(split: QuerySplit, row: int) -> Asked:
    """The query at `row`."""
    query, sample = split.queries[row], split.source.parse(row)
    answers = sample.meta.get("answers") or ()
    return Asked(
        query.id,
        sample.query.text or sample.query.instruction or "",
        tuple(data_uri(image.data) for image in sample.query.images),
        query.group,
        (answers,) if isinstance(answers, str) else tuple(answers),
    )


def shown_documents(split: QuerySplit, query: Query, ranking: Sequence[tuple[str, float]]) -> tuple[Shown, ...]:
    """The first `PLACES` of a ranking, as far as the corpus still has them."""
    corpus = split.benchmark.corpus
    relevant = {corpus.id(row) for row in query.relevant}
    found = [(id, corpus.table.find(id)) for id, _ in ranking[:PLACES]]
    return tuple(excerpt(corpus.content(row), query.answers, id in relevant) for id, row in found if row is not None)


def first_place(ranking: Sequence[tuple[str, float]], relevant: set[str]) -> int | None:
    """Where the first relevant document stands, from 1."""
    return next((place for place, (id, _) in enumerate(ranking, 1) if id in relevant), None)


def excerpt(content: Content, answers: Sequence[str], right: bool) -> Shown:
    """An excerpt of the text; around the answer where it contains one."""
    text = content.text or ""
    start = end = 0
    for answer in answers:
        at = text.lower().find(answer)
        # Lowering can change a text's length (İ); then the place is not ours to mark.
        if at >= 0 and text[at : at + len(answer)].lower() == answer:
            start, end = at, at + len(answer)
            break
    first = max(0, min(start - EXCERPT // 3, len(text) - EXCERPT)) if end > EXCERPT else 0
    first = text.rfind(" ", 0, first) + 1 if first else 0
    last = max(first + EXCERPT, end)
    last = last if last >= len(text) else max(text.rfind(" ", end, last), end)
    before = ("…" if first else "") + text[first:start]
    after = text[end:last] + ("…" if last < len(text) else "")
    return Shown(before, text[start:end], after, tuple(data_uri(image.data) for image in content.images), right)


def data_uri(data: bytes) -> str:
    """An encoded image, for a page that stands alone."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format in ("PNG", "JPEG", "GIF", "WEBP") and max(image.size) <= MAX_PX:
            mime = Image.MIME[image.format]
        else:  # another format than browsers know, or a photograph of megabytes
            image = image.convert("RGBA")
            image.thumbnail((MAX_PX, MAX_PX))
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=80)
            data, mime = buffer.getvalue(), "image/webp"
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
