"""A pair encoder that needs no training, and a benchmark of captions and pictures in both directions."""

import io

import torch
from PIL import Image
from torch import nn

from mmret.data import Sample, write_shards, write_table
from mmret.models.retriever import PairStates, Retriever
from mmret.objectives import ITC, ITM, ITCConfig, ITMConfig
from mmret.types import Embeddings, Inputs

NUM = 12
TEXTS, NOISE = torch.randn(2, NUM, 4, generator=torch.Generator().manual_seed(1))
VECTORS = torch.stack([TEXTS, TEXTS + NOISE])
"""[text or picture, number, 4]: alike enough to be found now and then."""


class NumberProcessor:
    """Thing i is said as "thing i" and shown as a picture of red i; counts what it decodes."""

    def __init__(self):
        self.decoded = []

    def __call__(self, contents, role):
        if contents[0].text is not None:
            return Inputs({"input_ids": torch.tensor([[int(content.text.split()[1])] for content in contents])})
        self.decoded.append(len(contents))
        reds = [content.images[0].decode().getpixel((0, 0))[0] for content in contents]
        return Inputs({"pixel_values": torch.tensor(reds).view(-1, 1)})


class Pairs(Retriever):
    """A poor dual encoder; read together, a pair's pooled state says whether its numbers are the same."""

    def __init__(self):
        super().__init__()
        self.processor = NumberProcessor()
        self.width, self.num_tokens, self.image_types = 3, NUM, 1
        self.dropout = nn.Dropout(0.5)
        self.anchor = nn.Parameter(torch.zeros(1))
        self.pairs_read = 0

    def _encode(self, inputs):
        side = int("pixel_values" in inputs)
        numbers = inputs.dense["pixel_values" if side else "input_ids"].long().squeeze(1)
        return Embeddings(nn.functional.normalize(VECTORS[side][numbers], dim=-1))

    encode_query = encode_document = _encode

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T

    def encode_pair(self, text, image):
        said, shown = text.dense["input_ids"].float(), image.dense["pixel_values"].float()
        self.pairs_read += len(said)
        # [match, a bounded function that is no match's, 1]; dropout shows whether evaluation mode was set
        pooled = torch.cat([(said == shown).float(), torch.sin(said * 3 + shown * 5), torch.ones_like(said)], 1)
        return PairStates(pooled[:, None], pooled[:, None], self.dropout(pooled))

    def encode_text(self, text):
        raise NotImplementedError

    encode_image = encode_text

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder, **overrides):
        raise NotImplementedError


def heads(weights=((0.0, 0.0, 0.0), (9.0, 0.0, 0.0))):
    """The objectives of such a model: itc, and itm whose head has these weights [2, 3]; default: an oracle."""
    itm = ITM(ITMConfig(), 3)
    with torch.no_grad():
        itm.head.weight.copy_(torch.tensor(weights))
    return nn.ModuleDict({"itc": ITC(ITCConfig(temperature=1.0)), "itm": itm})


def write_benchmarks(folder, depth=NUM):
    """`tr.yaml` (picture asks for text) and `ir.yaml` (the other way), split test: NUM of each."""
    pictures = {f"p{number}": _red(number) for number in range(NUM)}
    write_table([{"id": id, "image": data} for id, data in pictures.items()], folder / "images.arrow")
    write_table([{"id": f"t{number}", "text": f"thing {number}"} for number in range(NUM)], folder / "captions.arrow")
    asked = {"tr": ({"images": ["p{}"]}, "t{}", "captions"), "ir": ({"text": "thing {}"}, "p{}", "images")}
    for name, (query, positive, table) in asked.items():
        write_shards(
            [
                Sample(
                    f"{number:03d}",
                    {
                        "query": {
                            key: [one.format(number) for one in value] if key == "images" else value.format(number)
                            for key, value in query.items()
                        },
                        "positives": [positive.format(number)],
                    },
                )
                for number in range(NUM)
            ],
            folder,
            name,
        )
        (folder / f"{name}.yaml").write_text(
            f"name: toy/{name}\ncorpus: {table}.arrow\nimages: images.arrow\ndepth: {depth}\n"
            f"splits: {{test: {{shards: {name}.manifest.json}}}}\nmetrics: [recall@1, recall@3, mrr]\n"
        )
    return [str(folder / f"{name}.yaml") for name in asked]


def _red(number):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()
