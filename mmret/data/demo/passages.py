"""Factbook fields to passages: cleaned, cut at a sentence or list border, with the answer strings they contain."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmret.data.demo.countries import Country
from mmret.data.demo.topics import TOPICS, Topic

MAX_TOKENS = 60
"""WordPiece tokens of a passage, without special tokens: the demo encodes 64, of which three are [CLS], [D], [SEP]."""

# "U.S.", "St. Kitts", "c. 1200", "J. SMITH", "1 Jan. 1990" do not end a sentence.
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!\b(?:St|Dr|Mt|Ft|Lt|Jr|ca|no|vs))(?<!\bc)(?<!est)[.!?][\"')]?(?=\s+[\"'(]?[A-Z0-9])"
)
_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u00a0": " "})
_NO_ANSWER = {
    *("white", "yellow", "red", "ten", "four", "six", "a circle of 15", "five-pointed", "five-pointed stars"),
    *("arms equal length", "crown surmounted by seven", "no clearly defined current national symbol"),
    *("mixed", "homogeneous", "racially homogeneous", "local languages"),
}
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class Passage:
    """What the demo's corpus says about one country and topic."""

    id: str
    """"fr/capital"."""
    text: str
    answers: tuple[str, ...]
    """Short strings of the text that answer the question; empty where a topic has none (background, climate, ...)."""


def passages_of(country: Country, count_tokens: Callable[[str], int]) -> dict[str, Passage]:
    """Topic name -> passage, for the topics that the country's page speaks of."""
    found = {}
    for topic in TOPICS:
        body = _body(country, topic)
        if not body:
            continue
        head = f"{country.name}. {topic.label}: "
        text = head + cut(body, lambda part: count_tokens(head + part) <= MAX_TOKENS)  # noqa: B023
        # An answer that the cut took away is no answer of this passage.
        answers = [answer for answer in _answers(country, topic) if answer in text]
        found[topic.name] = Passage(f"{country.iso}/{topic.name}", text, tuple(dict.fromkeys(answers)))
    return found


def description_of(country: Country, count_tokens: Callable[[str], int]) -> str:
    """The flag's description without the country's names, so that only the picture tells whose it is."""
    text = _text(country.field("Government", "Flag description"))
    text = _mask(text, country)
    text = text[0].upper() + text[1:]
    return cut(text, lambda part: count_tokens(part) <= MAX_TOKENS)


def clean(field: str | None) -> str:
    """One line of plain text: entities and typographic quotes resolved, the Factbook's "++" turned into punctuation."""
    text = html.unescape(field or "").translate(_PLAIN)
    # "-" before the first "++" introduces a list of figures.
    text = re.sub(r"\s*-?\s*\+\+\s*", " ++ ", text).strip(" +")
    text = re.sub(r"([.;:,!?])? \+\+ ", lambda m: (m[1] or ";") + " ", text)
    # Slips of the source: 'Mer Hayrenik"" (', 'The Emperor"s Reign', 'Washington, DC,. during'.
    text = re.sub(r'(?<=\w)"(?=\w)', "'", text.replace('""', '" ')).replace(",.", ",")
    # Headings without content, left over from an older layout of the page.
    text = re.split(r"\s*religious affiliation:|\s*note: ", text)[0]
    text = re.sub(r"\bNEGL\b", "negligible", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ([,;)]|\.(?!\d))", r"\1", text)
    return text.strip(" ;,")


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits and ends well: after a sentence, else after a list item, else after a word.

    A list cut within parentheses is closed; a text that ends after a word says so with three dots.
    """
    if fits(_closed(text)):
        return _closed(text)
    # (where it may end, the shortest result worth stopping at)
    borders = (
        ([match.end() for match in _SENTENCE_END.finditer(text)], 100),
        ([match.start() for match in re.finditer(r";\s", text)], 100),
        ([match.start() for match in re.finditer(r"[,;]\s", text)], 40),
        ([match.start() for match in re.finditer(r"\s", text)], 0),
    )
    best = ""
    for level, (ends, enough) in enumerate(borders):
        for end in ends:
            part = text[:end].strip(" ;,-")
            depth = part.count("(") - part.count(")")
            if part.count('"') % 2 or depth not in (0, 1 if level >= 2 else 0):
                continue
            part = _closed(part + "..." * (level == 3) + ")" * depth)
            if len(part) > len(best) and fits(part):
                best = part
        if len(best) >= enough:
            break
    return best or _closed(text)


def _closed(text: str) -> str:
    text = text.strip(" ;,-")
    return text if text.endswith((".", "!", "?", '."')) else text + "."


def _text(field: Mapping[str, Any]) -> str:
    """The field's own text, or its "metropolitan France" (France lists its overseas departments beside it)."""
    text = clean(field.get("text") or field.get("metropolitan France", {}).get("text"))
    return "" if text in ("NA", "none") else text


def _part(country: Country, section: str, field: str, part: str) -> str:
    return clean(country.field(section, field).get(part, {}).get("text"))


def _body(country: Country, topic: Topic) -> str:
    text = _text(country.field(topic.section, topic.field))
    if topic.name == "capital":
        name, note = _capital(country), _part(country, "Government", "Capital", "note")
        place = _part(country, "Government", "Capital", "geographic coordinates")
        time = _part(country, "Government", "Capital", "time difference")
        parts = [name, f"Coordinates: {place}" if place else "", f"Time: {time}" if time else "", note]
        return _sentences(parts) if name else ""
    if topic.name == "anthem":
        name = _part(country, topic.section, topic.field, "name")
        makers = _part(country, topic.section, topic.field, "lyrics/music")
        note = _part(country, topic.section, topic.field, "note")
        return _sentences([name, f"Lyrics and music: {makers}" if makers else "", note])
    if topic.name == "exports" and text:
        partners = _text(country.field("Economy", "Exports - partners"))
        return _sentences([text, f"Partners: {partners}" if partners else ""])
    if topic.name == "government" and text:
        law = _text(country.field("Government", "Legal system"))
        return _sentences([text, f"Legal system: {law}" if law else ""])
    if topic.name == "currency":
        money, rates = _money(country)
        return f"{money}. Per USD: {rates}" if money and rates else money
    return text


def _sentences(parts: Iterable[str]) -> str:
    kept = [part.rstrip(".") for part in parts if part]
    # Notes begin in lower case; the first part follows the label and stays as it is.
    return ". ".join([*kept[:1], *(part[0].upper() + part[1:] for part in kept[1:])])


def _capital(country: Country) -> str:
    return _part(country, "Government", "Capital", "name")


def _money(country: Country) -> tuple[str, str]:
    """("euros (EUR)", "0.7489 (2014 est.); 0.7634 (2013 est.)"): which money, and what a dollar bought of late."""
    text = _text(country.field("Economy", "Exchange rates"))
    if match := re.search(r"\s+per (US )?dollar\b", text):
        return text[: match.start()], "; ".join(text[match.end() :].strip(" -;:").split("; ")[:2])
    # "the US dollar is used"
    return ("" if text.startswith(("see", "NA")) else text), ""


def _answers(country: Country, topic: Topic) -> list[str]:
    text = _text(country.field(topic.section, topic.field))
    found: list[str] = []
    if topic.name == "capital":
        name = re.split(r"[;:]?\s*note\b", _capital(country))[0]
        plain = re.sub(r"\s*\([^)]*\)|\s+in [A-Z]\w+", "", name)
        # "Washington, DC" is one city; three with their offices in parentheses are three.
        found = re.split(r";|,| or " if "capital" in name else r";| or ", plain)
    elif topic.name == "currency":
        money = re.split(r"\s*\bnote\b", _money(country)[0])[0]
        found = ["US dollar"] if re.match(r"the US dollar", money) else re.split(r"[();]|,\s", money)
    elif topic.name == "anthem":
        found = _QUOTED.findall(_part(country, topic.section, topic.field, "name"))
    elif topic.name == "independence":
        date = re.match(r"\d{1,2} [A-Z][a-z]+ \d{3,4}", text) or re.search(r"(?<![\d,])\d{3,4}(?![\d,])", text)
        found = [date[0]] if date else re.findall(r"^none \(([^);]*)", text)
    elif topic.name in ("geography", "government"):
        found = re.split(r"[,;(]", text)[:1]
    elif topic.name == "symbols":
        found = re.split(r",\s", re.sub(r"\s*\([^)]*\)", "", re.split(r";|national colors", text)[0]))[:2]
    elif topic.name in ("languages", "religions", "people"):
        # The first of "French (official) 100%, Creole": official, or the largest share.
        first = re.split(r"[,;(]|\d", text)[0].rpartition(" - ")[2].rpartition(":")[2]
        found = [re.sub(r"\b(predominantly|mostly|mainly|nominally|about|only|over|at least|nearly)\b", "", first)]
    found = [answer.strip(" :<>~") for answer in found]
    # Pseudo-recall looks for plain substrings: "EUR" would be found in "Europe".
    return [answer for answer in found if len(answer) >= 4 and len(answer.split()) <= 6 and answer not in _NO_ANSWER]


def _mask(text: str, country: Country) -> str:
    names = {country.name, country.name_in_sentence, country.name.removeprefix("The ")}
    for name in sorted(names, key=len, reverse=True):
        # "Slovakian" as well as "Slovakia's", and REPUBLICA DE NICARAGUA on a coat of arms.
        text = re.sub(rf"\b{re.escape(name)}[a-z]{{0,3}}\b", "the country", text, flags=re.IGNORECASE)
    for demonym in country.demonyms:
        text = re.sub(rf"\b{re.escape(demonym)}s?\b", "national", text)
    return re.sub(r"\bthe the country", "the country", text, flags=re.IGNORECASE)
