"""A retriever that needs no training: words and the picture's colour are tokens, the score counts shared ones."""

from __future__ import annotations

import random
import re

import torch
from torch import nn
from torch.nn.functional import normalize

from mmret.models.retriever import Retriever
from mmret.ops import maxsim
from mmret.types import Embeddings, Inputs
from tests.builders import COLOURS


class WordProcessor:
    """Texts to word numbers; a picture adds the name of its colour."""

    def __call__(self, contents, role):
        rows = [self._words(content) for content in contents]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        return Inputs({"tokens": tokens, "mask": tokens > 0})

    def _words(self, content):
        words = re.findall(r"\w+|\?", (content.text or "").lower())
        for image in content.images:
            pixels = list(image.decode().getdata())
            middle = max(pixels, key=lambda rgb: max(rgb) - min(rgb))
            words.append(min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], middle))))
        return [1 + random.Random(word).randrange(999) for word in words]


class WordRetriever(Retriever):
    """Late interaction over fixed word vectors; dropout shows whether evaluation mode was set."""

    def __init__(self, dim=64, seed=0):
        super().__init__()
        self.processor = WordProcessor()
        generator = torch.Generator().manual_seed(seed)
        self.words = nn.Embedding.from_pretrained(torch.randn(1000, dim, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.num_documents = 0

    def _encode(self, inputs):
        mask = inputs.dense["mask"]
        vectors = normalize(self.dropout(self.words(inputs.dense["tokens"])), dim=-1)
        return Embeddings(vectors * mask.unsqueeze(-1), mask)

    def encode_query(self, inputs):
        return self._encode(inputs)

    def encode_document(self, inputs):
        self.num_documents += len(inputs)
        return self._encode(inputs)

    def score(self, queries, documents):
        return maxsim(queries.vectors, documents.vectors, documents.mask)

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder, **overrides):
        raise NotImplementedError


class DotRetriever(WordRetriever):
    """Its score alone is used: a dot product."""

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T
