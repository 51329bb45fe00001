"""Stages, the step, the optimizer: everything that needs Lightning. What a loss or a model is stands elsewhere."""

from mmret.training.module import RetrievalModule

__all__ = ["RetrievalModule"]
