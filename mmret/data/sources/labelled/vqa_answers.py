"""Answers of VQA: made alike as its evaluation does, the vocabulary of the frequent ones, and soft scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_MARKS = tuple(';/[]"{}()=+\\_-><@`,?!')
_NUMBERS = {"none": "0"} | {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
}
_ARTICLES = ("a", "an", "the")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_WITH_APOSTROPHE = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd've how'd
    how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've he'd he's
"""


def _contractions() -> dict[str, str]:
    """Each word with one of its apostrophes left out -> the whole word, as the evaluation's table has them."""
    table = {}
    for word in _WITH_APOSTROPHE.split():
        for place in [at for at, mark in enumerate(word) if mark == "'"]:
            table[word[:place] + word[place + 1 :]] = word
    return table | {"somebody'd": "somebodyd"}  # the other way round, there too


_CONTRACTIONS = _contractions()


def normalize_vqa_answer(answer: str) -> str:
    """The answer as VQA's official evaluation compares it (visualqa.org/evaluation): punctuation, numbers as digits,
    no articles, apostrophes put back, lower case."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    number = _COMMA_IN_NUMBER.search(text) is not None
    made = text
    for mark in _MARKS:
        # A mark at a word's border, or beside a number with a comma, vanishes; one inside a word parts it.
        border = mark + " " in text or " " + mark in text
        made = made.replace(mark, "" if border or number else " ")
    words = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", made).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def frequent_answers(answers: Iterable[str], at_least: int) -> list[str]:
    """Classes: normalised answers that occur at least so often, in the order of their first occurrence.

    With the most common answer of each question of VQAv2's train, then val, and 9: the 3,129 classes, in the order,
    that ViLT's and VLMo's heads have.
    """
    return [answer for answer, count in _counts(answers).items() if count >= at_least]


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Class -> score by how many of the ten people gave it: 0.3, 0.6, 0.9, 1 from four on.

    The mean over all choices of nine of the ten of min(1, matches / 3), which is how VQA is scored.
    """
    return {answer: min(3 * count, 10) / 10 for answer, count in _counts(answers).items()}


def _counts(answers: Iterable[str]) -> Counter[str]:
    """How often each occurs; what normalising leaves nothing of is mostly the letter A, and stands for it."""
    return Counter(normalize_vqa_answer(answer) or "a" for answer in answers)
