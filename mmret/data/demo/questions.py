"""Questions about flags: the rows of each split, from facts, styles and wordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmret.data.demo.choice import pick, shuffled
from mmret.data.demo.countries import Country
from mmret.data.demo.passages import Passage
from mmret.data.demo.topics import BY_NAME, PLACES
from mmret.data.shards import Sample

Fact = tuple[str, str]
"""(ISO code, topic)."""
TRAIN_STYLES = ("wiki", "icons43", "icons11")
UNSEEN_STYLES = ("twemoji", "circle")
"""twemoji is near to what training sees, circle is far: cropped to a disk, emblems simplified."""
INSTRUCTION = "Find the passage that answers the question about the country whose flag is shown."
DESCRIBE = "Find the description of this flag."
PAIRS = 4
"""Rows of a training fact: more of them would bring no new fact, only weight."""
NEGATIVES = 4
"""Of each kind: other countries' passages of the topic, and the country's other topics."""


class Questions:
    """Makes samples; knows all passages, and draws negatives from the training facts only."""

    def __init__(
        self, countries: Sequence[Country], passages: Mapping[str, Mapping[str, Passage]], train: Sequence[Fact]
    ):
        self.countries = {country.iso: country for country in countries}
        self.passages = passages
        self.facts = train
        self._by_topic: dict[str, list[Fact]] = defaultdict(list)
        self._by_country: dict[str, list[Fact]] = defaultdict(list)
        for fact in train:
            self._by_country[fact[0]].append(fact)
            self._by_topic[fact[1]].append(fact)

    def train(self) -> Iterator[Sample]:
        """Each training fact in four of its six pairs of style and wording, mixed: any beginning is a fair sample."""
        pairs = [(style, wording) for style in TRAIN_STYLES for wording in range(2)]
        rows = [(fact, *pair) for fact in self.facts for pair in pick(pairs, PAIRS, f"pair {fact}")]
        for number, (fact, style, wording) in enumerate(shuffled(rows, "train row")):
            query = {"text": _question(fact, wording), "images": [f"{style}/{fact[0]}"]}
            yield Sample(f"{number:05d}", self._row(fact, query, style=style) | self._negatives(fact, str(number)))

    def text(self) -> Iterator[Sample]:
        """Each training fact asked for by the country's name, without a picture."""
        rows = [(fact, wording) for fact in self.facts for wording in range(2)]
        for number, (fact, wording) in enumerate(shuffled(rows, "text row")):
            place = self.countries[fact[0]].name_in_sentence
            query = {"text": BY_NAME[fact[1]].wordings[wording].format(c=place)}
            yield Sample(f"t{number:05d}", self._row(fact, query) | self._negatives(fact, f"text {number}"))

    def describe(self, facts: Iterable[Fact], prefix: str, negatives: bool = True) -> Iterator[Sample]:
        """A flag and its description without the country's name; `facts` are of the topic "flag"."""
        flags = [iso for iso, _ in facts]
        rows = shuffled([(iso, style) for iso in flags for style in TRAIN_STYLES], "describe row")
        for number, (iso, style) in enumerate(rows):
            row: dict[str, Any] = {
                "query": {"instruction": DESCRIBE, "images": [f"{style}/{iso}"]},
                "positives": [f"{iso}/flag"],
            }
            if negatives:
                others = pick([other for other in flags if other != iso], 2 * NEGATIVES, f"describe {number}")
                row["negatives"] = [f"{other}/flag" for other in others]
            yield Sample(f"{prefix}{number:04d}", row | {"country": iso, "style": style})

    def known_style(self, facts: Iterable[Fact], paraphrase: bool = False) -> Iterator[Sample]:
        """Each fact once, in a training style; the same picture whatever the wording."""
        return self.evaluation([(fact, pick(TRAIN_STYLES, 1, f"style {fact}")[0]) for fact in facts], paraphrase)

    def evaluation(self, rows: Iterable[tuple[Fact, str]], paraphrase: bool = False) -> Iterator[Sample]:
        """(fact, style) to queries without negatives; the instruction stands in the row."""
        for fact, style in rows:
            wording = 2 if paraphrase else pick((0, 1), 1, f"wording {fact}")[0]
            key = f"{fact[0]}-{fact[1]}-{style}-{wording}"
            query = {"instruction": INSTRUCTION, "text": _question(fact, wording), "images": [f"{style}/{fact[0]}"]}
            yield Sample(key, self._row(fact, query, style=style) | {"question_id": key})

    def _row(self, fact: Fact, query: Mapping[str, Any], **meta: str) -> dict[str, Any]:
        iso, topic = fact
        passage = self.passages[iso][topic]
        row = {"query": query, "positives": [passage.id], "topic": topic, "country": iso, **meta}
        return row | ({"answers": list(passage.answers)} if passage.answers else {})

    def _negatives(self, fact: Fact, salt: str) -> dict[str, list[str]]:
        # A held-out passage must not serve: always a negative and never a positive, it would be learnt as wrong.
        same_topic = [other for other in self._by_topic[fact[1]] if other != fact]
        same_country = [other for other in self._by_country[fact[0]] if other != fact]
        chosen = pick(same_topic, NEGATIVES, salt) + pick(same_country, NEGATIVES, salt)
        return {"negatives": [self.passages[iso][topic].id for iso, topic in chosen]}


def _question(fact: Fact, wording: int) -> str:
    """The question with a picture; wording 2 is the paraphrase."""
    topic = BY_NAME[fact[1]]
    return (*topic.wordings, topic.paraphrase)[wording].format(c=PLACES[wording])
