"""What the members of a sample say without our JSON: a picture beside its caption, as img2dataset and others write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmret.errors import SampleError

if TYPE_CHECKING:
    from mmret.data.reader import RawSample

LAYOUTS = ("samples", "pairs")
"""What a spec's `layout` may say."""
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
"""Suffixes of a picture."""


class HalfSample(SampleError):
    """A member is not there that makes the others a sample."""


class DottedKey(HalfSample):
    """The key holds a dot: names are cut at the first one, so that its end went to the members' suffixes."""


def pair_row(raw: RawSample) -> dict[str, Any]:
    """The JSON that our own layout would have: the picture asks, its captions or its class answer; facts stay beside.

    Raises:
        HalfSample: no picture, or neither caption nor class.
        SampleError: a member cannot be read.
    """
    picture = next((suffix for suffix in raw.members if suffix.lower() in PICTURES), None)
    if picture is None:
        raise half_sample(raw, PICTURES, "picture")
    facts = _facts(raw)
    texts = captions(facts, _text(raw, "txt"))
    row: dict[str, Any] = {"query": {"images": [picture]}, "positives": [{"text": text} for text in texts]}
    if "cls" in raw.members:
        label = _text(raw, "cls").strip()
        row["label"] = int(label) if label.isdecimal() else label
    if not texts and "label" not in row:
        raise half_sample(raw, ("txt", "json", "cls"), "caption")
    return {**facts, **row, "negatives": []}


def captions(facts: Mapping[str, Any], text: str) -> list[str]:
    """Each caption once: `captions` or `caption` of the facts, else the text; empty if there is none."""
    listed = facts.get("captions")
    found = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else [facts.get("caption")]
    kept = [one.strip() for one in found if isinstance(one, str) and one.strip()]
    return list(dict.fromkeys(kept or ([text.strip()] if text.strip() else [])))


def half_sample(raw: RawSample, wanted: Sequence[str], what: str) -> HalfSample:
    """The error for a sample without any of the wanted members."""
    has = ", ".join(raw.members)
    if any(suffix.lower().endswith(tuple(f".{one}" for one in wanted)) for suffix in raw.members):
        return DottedKey(
            f"{raw.name}: no {what} member (has: {has}); the key holds a dot, and names are cut at the first one: "
            "rename the members"
        )
    return HalfSample(f"{raw.name}: no {what} member (has: {has}); half a sample")


def _facts(raw: RawSample) -> dict[str, Any]:
    try:
        facts = json.loads(raw.members.get("json") or b"{}")
    except ValueError as error:
        raise SampleError(f"{raw.name}: its json does not parse ({error})") from error
    return facts if isinstance(facts, dict) else {}


def _text(raw: RawSample, suffix: str) -> str:
    try:
        return raw.members.get(suffix, b"").decode()
    except UnicodeDecodeError as error:
        raise SampleError(f"{raw.name}.{suffix}: no UTF-8 text ({error})") from error
