"""Emoji concepts: what several artists drew, with its name and keywords, and which icon of each set shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.demo.render import render_icon, resolve, square, webp

IMAGE_PX = 64
QUALITY = 72
# Style -> package. The share-alike emojione-v1 set is left out.
STYLES = {
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
    "noto1": "@iconify-json/noto-v1",
    "fxemoji": "@iconify-json/fxemoji",
    "emojione": "@iconify-json/emojione",
    "fluent": "@iconify-json/fluent-emoji-flat",
}
# People are left out: their hundreds of near-twins (man, woman, person X) would leak between any two splits.
_GROUPS = {"smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects"}
# Twelve and more pictures that differ by a hand or a sign.
_DROPPED = re.compile(r"o’clock$|-thirty$")
# Filed under the concept's name, but another sense of it, or not drawn at this size (all pairs were looked at).
_MISMATCHED = {
    *(("fxemoji", name) for name in ("dog", "cat", "tiger", "pig", "mouse", "sunglasses", "keyboard", "construction")),
    *(("fxemoji", name) for name in ("window", "fog", "tram-car")),
    *((style, "cricket") for style in ("noto1", "emojione")),
}
_MIN_STYLES = 4
MAX_TAGS = 12


@dataclass(frozen=True)
class Concept:
    """What several artists drew."""

    id: str
    """The name with hyphens: "red-apple"."""
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    icons: Mapping[str, str]
    """Style -> name of the icon in its set."""

    @property
    def caption(self) -> str:
        """ "red apple: food, fruit, healthy, ripe"."""
        return f"{self.label}: {', '.join(self.tags)}" if self.tags else self.label


def load_concepts(folders: Mapping[str, Path]) -> tuple[list[Concept], dict[str, Any]]:
    """Concepts that at least four of the six sets draw, in the order of Unicode's emoji list, and the parsed icon sets.

    Args:
        folders: package name -> unpacked folder.
    """
    data = folders["emojibase-data"]
    groups = json.loads((data / "meta/groups.json").read_text(encoding="utf-8"))
    sets = {
        style: json.loads((folders[name] / "icons.json").read_text(encoding="utf-8")) for style, name in STYLES.items()
    }
    chars = {
        style: json.loads((folders[name] / "chars.json").read_text(encoding="utf-8")) for style, name in STYLES.items()
    }
    # fxemoji runs words together: "redapple".
    squashed = {name.replace("-", ""): name for name in sets["fxemoji"]["icons"]}
    concepts = []
    for entry in sorted(
        json.loads((data / "en/data.json").read_text(encoding="utf-8")), key=lambda e: e.get("order", 0)
    ):
        group, subgroup = (groups[kind].get(str(entry.get(kind[:-1]))) for kind in ("groups", "subgroups"))
        if group not in _GROUPS or _DROPPED.search(entry["label"]):
            continue
        names = list(dict.fromkeys(_names(entry, chars)))
        icons = {}
        for style, icon_set in sets.items():
            candidates = [chars[style].get(code) for code in _codes(entry)] + names
            if style == "fxemoji":
                candidates = [squashed.get(name.replace("-", "")) for name in names]
            found = [name for name in candidates if name and resolve(icon_set, name)]
            if found and (style, names[0]) not in _MISMATCHED:
                icons[style] = found[0]
        if len(icons) >= _MIN_STYLES:
            label = plain(entry["label"])
            tags = [tag for tag in map(plain, entry.get("tags", ())) if tag != label]
            concepts.append(Concept(_slug(label), label, tuple(tags[:MAX_TAGS]), group, subgroup, icons))
    return concepts, sets


def picture(concept: Concept, style: str, sets: Mapping[str, Any]) -> bytes:
    """The concept in one style, on white, as WebP."""
    return webp(square(render_icon(sets[style], concept.icons[style], IMAGE_PX), IMAGE_PX), QUALITY)


def plain(text: str) -> str:
    """Typographic apostrophes and quotes as on a keyboard."""
    return text.replace("’", "'").replace("“", "").replace("”", "")


def _codes(entry: Mapping[str, Any]) -> Iterator[str]:
    code = entry["hexcode"].lower()
    yield code
    yield code.replace("-fe0f", "")


def _names(entry: Mapping[str, Any], chars: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Names under which a set without code points may file the concept: today's, and those of the other sets."""
    yield _slug(plain(entry["label"]))
    for code in _codes(entry):
        for names in chars.values():
            if code in names:
                yield names[code]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("'", "")).strip("-")
