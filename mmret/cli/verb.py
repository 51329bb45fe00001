"""What each file of a verb, or of one of its actions, has."""

from __future__ import annotations

import argparse
from typing import Protocol


class Verb(Protocol):
    """What each file of a verb has."""

    @property
    def SUMMARY(self) -> str:
        """One line for `mmret --help`."""
        ...

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...
