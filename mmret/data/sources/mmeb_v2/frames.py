"""Videos as folders of frames: finding them, their frames in order, and the clips of a video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mmret.errors import SampleError
from mmret.types import EncodedVideo

_SUFFIXES = (".jpg", ".jpeg", ".png")
_ARCHIVED = "video_ret/data/ziyan/video_retrieval/{name}/frames"
"""Where the frames of the retrieval sets lie in the published archive."""


class FrameFolders:
    """The folders of a set's videos."""

    def __init__(self, root: Path, places: Sequence[str], num_frames: int):
        """`places` are subfolders of `root` that the set may lie in; its name alone will do."""
        last = [place.rpartition("/")[2] for place in places]
        below = [*places, *last, *(_ARCHIVED.format(name=name) for name in last), *(f"{name}/frames" for name in last)]
        self.places = [root / place for place in below if (root / place).is_dir()]
        self.tried = f"{root} and {', '.join(places)} below it"
        self.num_frames = num_frames
        self.frames = lru_cache(65_536)(self._frames)

    def find(self, video: str) -> Path | None:
        """The folder of a video; None: there is none.

        Raises:
            SampleError: the name climbs out of the folder.
        """
        parts = _parts(video)
        return next((folder for place in self.places if (folder := place.joinpath(*parts)).is_dir()), None)

    def picture(self, name: str) -> Path | None:
        """A picture that lies beside the videos; None: there is none."""
        parts = _parts(name)
        return next((file for place in self.places if (file := place.joinpath(*parts)).is_file()), None)

    def _frames(self, video: str) -> tuple[Path, ...]:
        """At most `num_frames` frames, spread evenly; none: the video is not there."""
        folder = self.find(video)
        if folder is None:
            return ()
        files = sorted((path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES), key=_in_order)
        return tuple(files[place] for place in EncodedVideo.spread(len(files), self.num_frames))

    def clips(self, video: str) -> list[str]:
        """Videos in the folder of one, but for the one that is asked with."""
        folder = self.find(video)
        names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder is not None else []
        return [f"{video}/{name}" for name in names if name != "query"]


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.strip()).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise SampleError(f"{name!r} is no name inside a folder of frames")
    return parts


def _in_order(path: Path) -> list[tuple[int, str]]:
    """frame_2.jpg stands before frame_10.jpg."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", path.name)]
