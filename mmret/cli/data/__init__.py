"""`mmret data ACTION ...`: making shards of what others publish, and looking after shards. An action a file."""

from mmret.cli.data import build, check, curate, index, join, peek, recaption, stats
from mmret.cli.verb import Verb

SUMMARY = "make shards of what others publish; check, index, curate and look at shards"
ACTIONS: dict[str, Verb] = {
    "build": build,
    "check": check,
    "curate": curate,
    "index": index,
    "join": join,
    "peek": peek,
    "recaption": recaption,
    "stats": stats,
}
"""`mmret data ...`: what may follow."""
