"""Search, behind `search(model, queries, corpus, k)`, and ranking of given lists. No encoding, no metrics."""

from mmret.index.exact import search
from mmret.index.lists import rank_lists

__all__ = ["rank_lists", "search"]
