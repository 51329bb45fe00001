"""Where messages go: people read stderr, programs read stdout."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from rich.console import Console

console = Console(stderr=True, highlight=False)
"""For people. Follows whatever `sys.stderr` is at the time."""


def say(text: str, style: str | None = None) -> None:
    """A line on stderr, unwrapped, so that it can be searched and copied."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def write(text: str) -> None:
    """A result on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def write_json(value: Any) -> None:
    """A result on stdout, for programs."""
    write(json.dumps(value, indent=1))


class _Lines(logging.Handler):
    """Log records as lines for people; only warnings say their level."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.levelno < logging.WARNING:
                say(text)
            else:
                say(f"{record.levelname.lower()}: {text}", "yellow" if record.levelno < logging.ERROR else "red")
        except Exception:
            self.handleError(record)


def show_log(rank: int = 0) -> None:
    """Print mmret's log from now on; of ranks other than 0 only warnings."""
    logger = logging.getLogger("mmret")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
