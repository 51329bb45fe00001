"""Search, behind one `search(model, queries, corpus, k)`. Encoding and metrics do not belong here."""

from mmret.index.exact import search

__all__ = ["search"]
