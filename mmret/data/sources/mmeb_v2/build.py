"""Building MMEB-V2's video and document sets: of each its corpus or candidates, and samples. Restartable."""

from __future__ import annotations

from pathlib import Path

from mmret.data.sources.mmeb.prompt import spec_name
from mmret.data.sources.mmeb_v2.config import MMEBV2Config
from mmret.data.sources.mmeb_v2.facts import published
from mmret.data.sources.mmeb_v2.pages import PageSet
from mmret.data.sources.mmeb_v2.table import SetTable
from mmret.data.sources.mmeb_v2.videos import VideoSet
from mmret.data.sources.record import Built
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError


def build_mmeb_v2(config: MMEBV2Config, track: Track = untracked) -> list[Built]:
    """Build every set of the folder that is not finished yet: `<out>/<set>/test...`.

    Raises:
        ConfigError: no tables, not those of MMEB-V2, or the frames are not there.
        SampleError: a row is broken, or a picture or frame is missing and may not be.
    """
    root, known = Path(config.tables), published()
    asked = [spec_name(name) for name in config.datasets]
    for name in asked:
        if name not in known:
            raise ConfigError(f"mmeb_v2: {name}: no video or document set of MMEB-V2; they are {', '.join(known)}")
    sets: list[PageSet | VideoSet] = []
    for name in asked or known:
        facts = known[name]
        if facts.kind == "document":
            pages = PageSet.find(root, facts, config, track)
            sets += [pages] if pages is not None else []
        elif (table := SetTable.find(root, facts)) is not None:
            sets.append(VideoSet(table, config, track))
        if asked and not (sets and sets[-1].facts is facts):
            raise ConfigError(
                f"mmeb_v2: {root} has no tables of {facts.name}; want a folder {facts.name}, or {facts.hub}"
            )
    if not sets:
        raise ConfigError(
            f"mmeb_v2: {root} has no tables of MMEB-V2; want folders named as its sets (UCF101, ViDoRe_arxivqa) or as "
            "their repositories on the hub (docs/mmeb.md)"
        )
    # Each set has a folder of its own, so that tasks do not meet.
    mine = Slice.parse(config.slice).share(sorted(sets, key=lambda one: -one.bytes))
    sets = [one for one in sets if one in mine]
    for one in sets:
        one.check()
    return [one.build() for one in sets]
