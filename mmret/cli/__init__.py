"""The command line: one file a verb. Reads arguments and environment, prints; the work is done elsewhere."""

import sys

from mmret.stop import listen

if sys.argv[1:2] == ["run"]:
    # Before the imports below, which take seconds: a scheduler's signal would end the process meanwhile.
    listen()

from mmret.cli.main import main

__all__ = ["main"]
