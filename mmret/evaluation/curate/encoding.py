"""What filters with a model share: the model, opened when needed, and batches in which broken samples stand out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from msgspec.structs import replace

from mmret.data.curate import Filter, View
from mmret.errors import SampleError
from mmret.evaluation.curate.embedder import Embedder, model_identity, open_embedder
from mmret.types import Content, Embeddings, Role


class ModelFilter(Filter):
    """A filter whose measure a model gives; `config.model` names it, `config.batch_size` says how much at once."""

    alone = True

    def identity(self) -> dict[str, Any]:
        """With a digest of the model's files."""
        return super().identity() | {"model_files": model_identity(self.config.model)}

    @cached_property
    def embedder(self) -> Embedder:
        """The model."""
        return open_embedder(self.config.model, self.setup.device)

    def measure(self, view: View) -> Any:
        """One sample's; many at once are faster."""
        (found,) = self.measure_all([view])
        if isinstance(found, SampleError):
            raise found
        return found

    def measure_all(self, views: Sequence[View]) -> list[Any]:
        """In batches; where one has a broken sample each of its samples is tried alone."""
        found: list[Any] = []
        for first in range(0, len(views), self.config.batch_size):
            batch = views[first : first + self.config.batch_size]
            try:
                found += self.measure_batch(batch)
            except SampleError:
                for view in batch:
                    try:
                        found += self.measure_batch([view])
                    except SampleError as error:
                        found.append(error)
        return found

    def measure_batch(self, views: Sequence[View]) -> list[Any]:
        """Measures of a batch.

        Raises:
            SampleError: one of its samples is broken.
        """
        raise NotImplementedError

    def embed(self, contents: Sequence[Content], role: Role) -> Embeddings:
        """Embeddings on the CPU; queries without an instruction get none."""
        if role == "document":
            contents = [replace(content, instruction=None) for content in contents]
        return self.embedder.embed(contents, role).to(device="cpu", dtype=torch.float32)
