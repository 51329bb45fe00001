"""Models that a curation asks: any mmret checkpoint, or a CLIP of open_clip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmret.errors import ConfigError
from mmret.evaluation.encode import device_of
from mmret.models.load import load
from mmret.models.retriever import Retriever
from mmret.recipe.find_model import find_model
from mmret.types import Content, Embeddings, Role

OPEN_CLIP = "open_clip:"


class Embedder(Protocol):
    """What gives vectors and scores of contents."""

    def embed(self, contents: Sequence[Content], role: Role) -> Embeddings:
        """Embeddings of N contents."""
        ...

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        """[N] score of each query with the document in its row, float32."""
        ...


def open_embedder(name: str, device: str | None) -> Embedder:
    """An mmret checkpoint (folder, run's folder or hub id), or `open_clip:NAME` or `open_clip:NAME/WEIGHTS`.

    NAME is an architecture of open_clip or `local-dir:FOLDER`, WEIGHTS a tag that it knows or a file. Weights that are
    not here are fetched by the libraries themselves.

    Raises:
        CheckpointError: no checkpoint of a model we know.
        ConfigError: open_clip cannot open it, or the run has not finished a stage.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith(OPEN_CLIP):
        return _OpenClip(name.removeprefix(OPEN_CLIP), place)
    return _Retriever(load(find_model(name)[0]).to(place))


def model_identity(name: str) -> str:
    """Digest of a local model's files (names, sizes, times): another model under the same name measures anew."""
    name = name if name.startswith(OPEN_CLIP) else find_model(name)[0]
    path = Path(name.removeprefix(OPEN_CLIP).removeprefix("local-dir:")).expanduser()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr((name, states)).encode()).hexdigest()[:16]


def pooled(embeddings: Embeddings) -> Tensor:
    """[N, D] unit vectors; of late interaction the mean of the tokens."""
    vectors = embeddings.vectors.float()
    if embeddings.mask is not None:
        vectors = (vectors * embeddings.mask.unsqueeze(-1)).sum(1)
    return normalize(vectors, dim=-1)


class _Retriever:
    def __init__(self, model: Retriever) -> None:
        self.model = model

    @torch.no_grad()
    def embed(self, contents: Sequence[Content], role: Role) -> Embeddings:
        inputs = self.model.processor(contents, role).to(device_of(self.model))
        return self.model.encode_query(inputs) if role == "query" else self.model.encode_document(inputs)

    @torch.no_grad()
    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        return self.model.score(queries, documents).diagonal().float()


class _OpenClip:
    """CLIP's two towers: a content is a text or a picture. The score is their cosine (CLIPScore without its factor of
    2.5 and its cut at 0; Hessel et al. 2021, Eq. 1)."""

    def __init__(self, name: str, device: str) -> None:
        import open_clip

        architecture, _, weights = (name, "", "") if name.startswith("local-dir:") else name.partition("/")
        try:
            model: Any = open_clip.create_model_from_pretrained(architecture, weights or None, device=device)
            self.tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:  # the library raises whatever its hub, files and configurations raise
            raise ConfigError(
                f"{OPEN_CLIP}{name} cannot be opened ({error}); want open_clip:NAME/WEIGHTS, a file or a tag, "
                "or open_clip:local-dir:FOLDER"
            ) from error
        self.model, self.transform = model
        self.model.eval()
        self.device = device

    @torch.no_grad()
    def embed(self, contents: Sequence[Content], role: Role) -> Embeddings:
        rows: list[Tensor | None] = [None] * len(contents)
        kinds: dict[bool, list[int]] = {True: [], False: []}
        for at, content in enumerate(contents):
            if content.pictures and content.text is not None:
                raise ConfigError(
                    "open_clip's towers read a text or a picture, but a sample's content has both; "
                    "name a checkpoint of mmret that reads both"
                )
            kinds[bool(content.pictures)].append(at)
        if kinds[True]:
            pixels = torch.stack([self.transform(contents[at].pictures[0].decode()) for at in kinds[True]])
            for at, row in zip(kinds[True], self.model.encode_image(pixels.to(self.device))):
                rows[at] = row
        if kinds[False]:
            tokens = self.tokenizer([contents[at].text or "" for at in kinds[False]])
            for at, row in zip(kinds[False], self.model.encode_text(tokens.to(self.device))):
                rows[at] = row
        return Embeddings(normalize(torch.stack([row for row in rows if row is not None]).float(), dim=-1))

    def score(self, queries: Embeddings, documents: Embeddings) -> Tensor:
        return (queries.vectors * documents.vectors).sum(-1)
