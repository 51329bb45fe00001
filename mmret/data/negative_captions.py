"""Captions that are wrong in one thing: rules make hard negatives of a caption, after ARO (Yuksekgonul et al. 2023).

English, by word lists (`mmret.data.english`) and without a parser: a rule that finds nothing makes nothing, and now and
then what it makes is odd English. Each result has the caption's words, or one of them replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from mmret.data.dice import Dice
from mmret.data.english import COLOURS, COMPARATIVES, OPPOSITES, PREPOSITIONS, RELATION_PAIRS, english_words, is_action

_STOP = english_words("""
    a an and are as be been being but for he her his is it its of one or she some that the their these they this those
    three to two very was were
""")
_ATTRIBUTES = frozenset(COLOURS) | {word for pair in OPPOSITES for word in pair}
_ARTICLE = {"a": "an", "an": "a"}


def negative_captions(text: str, rules: Iterable[str], key: object, known: Iterable[str] = ()) -> list[str]:
    """What the rules make of a caption: at most one negative of each, in the order of the rules.

    Args:
        rules: of `RULES`.
        key: where a rule has several places, this and the rule decide: the same key gives the same negatives.
        known: further captions of the same picture; what is equal to one of them (letters' case and spaces aside) is
            no negative.
    """
    seen = {_plain(text), *map(_plain, known)}
    found = []
    for rule in rules:
        for made in RULES[rule](text, Dice("negative_captions", key, rule)):
            if _plain(made) not in seen:
                seen.add(_plain(made))
                found.append(made)
                break
    return found


def _attributes(text: str, dice: Dice) -> list[str]:
    """Two attributes change places: a black cat and a white dog -> a white cat and a black dog."""
    words = _split(text)
    places = [at for at, word in enumerate(words) if word.lower() in _ATTRIBUTES]
    pairs = [(one, two) for one in places for two in places if one < two and words[one].lower() != words[two].lower()]
    return _drawn([_swapped(words, one, two) for one, two in pairs], dice)


def _colour(text: str, dice: Dice) -> list[str]:
    """A colour becomes another one, which the caption does not name."""
    words = _split(text)
    there = {word.lower() for word in words}
    others = [colour for colour in COLOURS if colour not in there and not {colour, *there} >= {"grey", "gray"}]
    made = [
        _replaced(words, at, others[dice.below(len(others))])
        for at, word in enumerate(words)
        if word.lower() in COLOURS and others
    ]
    return _drawn(made, dice)


def _relation(text: str, dice: Dice) -> list[str]:
    """A word for a place becomes its opposite: above -> below."""
    return _drawn(_exchanged(text, RELATION_PAIRS), dice)


def _size(text: str, dice: Dice) -> list[str]:
    """A word for a size or state becomes its opposite, a comparative too: big -> small, taller -> shorter."""
    return _drawn(_exchanged(text, (*OPPOSITES, *COMPARATIVES)), dice)


def _sides(text: str, dice: Dice) -> list[str]:
    """What a relation or action joins changes sides: the horse eats the grass -> the grass eats the horse."""
    words = _split(text)
    joins = [at for at, word in enumerate(words) if word.lower() in PREPOSITIONS or is_action(word.lower())]
    found = []
    for at in joins:
        before = next((place for place in range(at - 1, -1, -1) if _content(words[place])), None)
        after = None
        for place in range(at + 1, len(words)):
            if _content(words[place]):
                after = place  # the last word of a phrase is its noun
            elif after is not None and not words[place].isspace():
                break
        if before is not None and after is not None:
            found.append(_swapped(words, before, after))
    return _drawn(found, dice)


def _order(text: str, dice: Dice) -> list[str]:
    """The words in another order, all of them."""
    words = _split(text)
    places = [at for at, word in enumerate(words) if word[0].isalnum()]
    made = []
    for _ in range(4 if len(places) > 1 else 0):
        shuffled = list(words)
        for at, source in zip(places, dice.sample(len(places), len(places))):
            shuffled[at] = words[places[source]].lower()
        made.append(_sentence(shuffled, words))
    return made


RULES: dict[str, Callable[[str, Dice], list[str]]] = {
    "attributes": _attributes,
    "colour": _colour,
    "relation": _relation,
    "size": _size,
    "sides": _sides,
    "order": _order,
}
"""Name in a data spec -> candidates, the first that is new is taken."""


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _split(text: str) -> list[str]:
    """Words, and what is between them; joined again they are the text."""
    return re.findall(r"[\w'-]+|[^\w'-]+", text)


def _content(word: str) -> bool:
    """A word that names a thing or says how it is."""
    low = word.lower()
    return word[0].isalnum() and low not in _STOP and low not in PREPOSITIONS and not is_action(low)


def _drawn(made: Sequence[str], dice: Dice) -> list[str]:
    """All candidates in a drawn order."""
    return [made[at] for at in dice.sample(len(made), len(made))]


def _swapped(words: Sequence[str], one: int, two: int) -> str:
    changed = list(words)
    changed[one], changed[two] = words[two].lower(), words[one].lower()
    return _sentence(_articles(_articles(changed, one), two), words)


def _replaced(words: Sequence[str], at: int, new: str) -> str:
    changed = list(words)
    changed[at] = new
    return _sentence(_articles(changed, at), words)


def _exchanged(text: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The text with one word (or phrase) of a pair in place of the other, for each place; longer phrases first."""
    words = _split(text)
    found = []
    table = {old: new for one, two in pairs for old, new in ((two, one), (one, two))}
    spans = sorted({len(_split(phrase)) for phrase in table}, reverse=True)
    at = 0
    while at < len(words):
        for span in spans:
            new = table.get("".join(words[at : at + span]).lower())
            if new is not None:
                changed = [*words[:at], new, *words[at + span :]]
                found.append(_sentence(_articles(changed, at), words))
                at += span - 1
                break
        at += 1
    return found


def _articles(words: list[str], at: int) -> list[str]:
    """With a or an as the word at this place wants it."""
    article = words[at - 2].lower() if at >= 2 else ""
    if article in _ARTICLE and (article == "an") != (words[at][0].lower() in "aeiou"):
        words[at - 2] = _ARTICLE[article].capitalize() if words[at - 2][0].isupper() else _ARTICLE[article]
    return words


def _sentence(changed: Sequence[str], words: Sequence[str]) -> str:
    """With a capital where the caption began with one."""
    text = "".join(changed)
    return text[0].upper() + text[1:] if words[0][0].isupper() else text
