"""`python -m mmret`, the `mmret` command, and the file that `fabric run` and torchrun are given."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run as a file, Python looks here first, where types.py would hide the standard library's.
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here), *(p for p in sys.path if os.path.abspath(p) != _here)]

from mmret.cli import main

if __name__ == "__main__":
    sys.exit(main())
