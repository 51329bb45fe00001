"""The Pareto front: what nothing else beats in both quality and cost."""

from __future__ import annotations

from collections.abc import Mapping


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points that no other dominates, by rising cost.

    A point dominates another if it costs no more and is no worse, and better in one of the two; of equal points all are
    on the front.

    Args:
        points: name -> (cost, quality); less cost and more quality are better.
    """

    def dominated(cost: float, quality: float) -> bool:
        return any(c <= cost and q >= quality and (c < cost or q > quality) for c, q in points.values())

    front = [name for name, point in points.items() if not dominated(*point)]
    return sorted(front, key=lambda name: points[name])
