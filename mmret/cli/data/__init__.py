"""`mmret data ACTION ...`: making shards of what others publish, and looking after shards. An action a file."""

from mmret.cli.data import build, check, index, peek, stats
from mmret.cli.verb import Verb

SUMMARY = "make shards of what others publish; check, index and look at shards"
ACTIONS: dict[str, Verb] = {"build": build, "check": check, "index": index, "peek": peek, "stats": stats}
"""`mmret data ...`: what may follow."""
