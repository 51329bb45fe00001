"""The command line: one file a verb. Reads arguments and environment, prints; the work is done elsewhere."""

from mmret.cli.main import main

__all__ = ["main"]
