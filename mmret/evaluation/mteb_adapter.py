"""Our models for the `mteb` package (version 2): its benchmarks feed batches in, embeddings come out.

    mteb.evaluate(MTEBEncoder.load("runs/mine"), tasks=mteb.get_tasks(["CIRRIT2IRetrieval"]))

mteb is no dependency of ours: who evaluates with it has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmret.errors import EnvironmentProblem, SampleError
from mmret.evaluation.encode import compact, device_of, evaluating
from mmret.models import Retriever, load
from mmret.types import Content, Embeddings, EncodedImage, Role

_SIDES = ("text", "image")


class MTEBEncoder:
    """A retriever behind mteb's encoder protocol.

    Args:
        model: any retriever.
        name: how mteb calls it in its results, "organisation/model".
        batch_size: rows encoded at once, whatever the size of mteb's batches.
        device: where to; None: where the model is.
        instructions: task name -> instruction of its queries; for tasks that are not named, mteb's own prompt.
    """

    def __init__(
        self,
        model: Retriever,
        name: str = "mmret/model",
        batch_size: int = 64,
        device: torch.device | str | None = None,
        instructions: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.name, self.batch_size, self.device = model, name, batch_size, device
        self.instructions = dict(instructions or {})

    @classmethod
    def load(cls, folder: str | Path, name: str | None = None, **options: Any) -> MTEBEncoder:
        """The adapter around a checkpoint.

        Raises:
            CheckpointError: the folder holds no model.
        """
        return cls(load(folder), name or f"mmret/{Path(folder).name}", **options)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside its results.

        Raises:
            EnvironmentProblem: mteb is not installed.
        """
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise EnvironmentProblem(
                f"MTEBEncoder describes itself by mteb's ModelMeta, which is not to be had ({error}); "
                "pip install 'mteb>=2'"
            ) from error
        facts = {"name": self.name, "revision": "local", "similarity_fn_name": ScoringFunction.CUSTOM}
        facts |= {"n_parameters": sum(p.numel() for p in self.model.parameters()), "use_instructions": True}
        return ModelMeta.create_empty(facts | {"framework": ["PyTorch"], "modalities": list(_SIDES)})

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[Any]]],
        *,
        task_metadata: Any,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """Embeddings of all rows, [N, D] or, of a late-interaction model, [N, T, D] with zeros where a token is masked.

        Args:
            inputs: batches by column; "text" and "image" are read, and "instruction" where a batch has it.
            task_metadata: its `name` and `prompt` (a text, or one for each of query and document) give the instruction.
            prompt_type: query, document, or None for tasks whose sides are alike: those are encoded as queries.
            hf_split, hf_subset: not needed.
            kwargs: `batch_size` counts; the rest is not needed.

        Raises:
            SampleError: no rows, or a batch has neither texts nor pictures, or is of an unknown kind.
        """
        side = getattr(prompt_type, "value", prompt_type)
        role: Role = "document" if side == "document" else "query"
        instruction = self._instruction(task_metadata, role)
        encode = self.model.encode_document if role == "document" else self.model.encode_query
        size = int(kwargs.get("batch_size") or self.batch_size)
        parts: list[Embeddings] = []
        with evaluating(self.model, self.device) as device:
            for batch in inputs:
                rows = contents(batch, instruction)
                for start in range(0, len(rows), size):
                    ready = self.model.processor(rows[start : start + size], role).to(device)
                    parts.append(compact(encode(ready)).to("cpu", torch.float32))
        if not parts:
            raise SampleError(f"mteb: {getattr(task_metadata, 'name', 'a task')} gave no rows to encode")
        found = Embeddings.cat(parts)
        return found.vectors if found.mask is None else found.vectors * found.mask.unsqueeze(-1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """[N, M] scores of the model between queries and documents that `encode` gave."""
        device = device_of(self.model)
        first, second = (_embeddings(one).to(device) for one in (embeddings1, embeddings2))
        with torch.no_grad():
            return self.model.score(first, second).cpu()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """[N] scores of row i with row i."""
        pairs = zip(_embeddings(embeddings1).split(1), _embeddings(embeddings2).split(1))
        return torch.cat([self.similarity(first.vectors, second.vectors)[0] for first, second in pairs])

    def _instruction(self, task: Any, role: Role) -> str | None:
        named = self.instructions.get(getattr(task, "name", ""))
        prompt = getattr(task, "prompt", None) if named is None else named
        if isinstance(prompt, Mapping):
            return prompt.get(role) or None
        return (prompt or None) if role == "query" else None  # a plain prompt is about what is asked


def contents(batch: Mapping[str, Sequence[Any]], instruction: str | None) -> list[Content]:
    """The rows of one of mteb's batches; queries take the instruction, or that of their own.

    Raises:
        SampleError: it has neither texts nor pictures, or a picture of an unknown kind.
    """
    columns = [batch[name] for name in _SIDES if name in batch]
    if not columns:
        raise SampleError(f"mteb: a batch has {', '.join(batch) or 'no columns'}; this model reads text and image")
    num = len(columns[0])
    nothing = [None] * num
    texts, images = (batch.get(name, nothing) for name in _SIDES)
    own = batch.get("instruction", nothing)
    return [
        Content(text or None, _pictures(image), asked or instruction) for text, image, asked in zip(texts, images, own)
    ]


def _pictures(image: Any) -> tuple[EncodedImage, ...]:
    if image is None:
        return ()
    if isinstance(image, Image.Image):
        return (EncodedImage.of(image),)
    if isinstance(image, (list, tuple)):
        return tuple(picture for one in image for picture in _pictures(one))
    raise SampleError(f"mteb: a picture is {type(image).__name__}; want a Pillow image")


def _embeddings(values: Any) -> Embeddings:
    """As `encode` gave them, from a tensor or array; a token of zeros was masked."""
    if isinstance(values, (list, tuple)):
        values = torch.stack([torch.as_tensor(one) for one in values])
    vectors = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    vectors = vectors.float()
    return Embeddings(vectors, vectors.any(-1) if vectors.dim() == 3 else None)
