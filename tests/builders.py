"""Small synthetic things that tests share."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmret.data import Sample, write_shards, write_table
from mmret.types import NO_POSITIVE, Inputs

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 50), "blue": (40, 70, 220), "yellow": (235, 215, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
QUESTIONS = {
    "price": ("What does this shape cost?", "The {colour} {shape} costs {answer} coins."),
    "maker": ("Who makes this shape?", "The {colour} {shape} is made by {answer}."),
}


def draw_shape(colour: str, shape: str, px: int, rng: random.Random) -> bytes:
    """PNG of a coloured shape of random place and size on near-white."""
    image = Image.new("RGB", (px, px), (rng.randint(235, 255),) * 3)
    draw, fill = ImageDraw.Draw(image), COLOURS[colour]
    size = rng.randint(px // 2, px * 3 // 4)
    x, y = (rng.randint(0, px - size) for _ in range(2))
    box = (x, y, x + size - 1, y + size - 1)
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    elif shape == "triangle":
        draw.polygon([(x + size // 2, y), (x, y + size - 1), (x + size - 1, y + size - 1)], fill=fill)
    else:
        third = size // 3
        draw.rectangle((x + third, y, x + 2 * third, y + size - 1), fill=fill)
        draw.rectangle((x, y + third, x + size - 1, y + 2 * third), fill=fill)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def toy_samples(num: int, px: int, seed: int, negatives: int = 0, shapes: tuple[str, ...] = SHAPES) -> list[Sample]:
    """Rows of `build_toy_source`: picture of a shape + question -> id of the one passage that answers it."""
    rng = random.Random(seed)
    kinds = [(colour, shape, topic) for colour in COLOURS for shape in shapes for topic in QUESTIONS]
    samples = []
    for number in range(num):
        colour, shape, topic = kinds[number % len(kinds)]
        id = f"{topic}/{colour}-{shape}"
        others = [f"{t}/{c}-{s}" for c, s, t in kinds if f"{t}/{c}-{s}" != id]
        row = {
            "query": {"text": QUESTIONS[topic][0], "images": ["q.0.png"]},
            "positives": [id],
            "answers": [_answer(colour, shape, topic)],
            "topic": topic,
        }
        if negatives:
            row["negatives"] = rng.sample(others, negatives)
        samples.append(Sample(f"{number:06d}", row, {"q.0.png": draw_shape(colour, shape, px, rng)}))
    rng.shuffle(samples)
    return samples


def build_toy_source(
    folder: str | Path,
    num: int = 256,
    px: int = 32,
    negatives: int = 0,
    seed: int = 0,
    shapes: tuple[str, ...] = SHAPES,
) -> Path:
    """Write a learnable source; gives its spec, `<folder>/toy.yaml` (name toy/shapes).

    What is learnable: 4 colours x 4 shapes x 2 topics (price, maker) = 32 passages, `passages.arrow`. A query is a
    picture of a coloured shape (png, inline, other place and size each time) and a question that names the topic only;
    its passage names colour, shape and topic. The question alone finds 1 of 16, the picture alone 1 of 2, both together
    everything. Beside it `<folder>/benchmark.yaml` (name toy/shapes, split heldout): the same passages, new drawings.

    Args:
        negatives: ids of other passages in each row; 0: rows have none (they are then drawn from the table).
        shapes: fewer of them make fewer passages; colour is learnt in far fewer steps than shape.
    """
    folder = Path(folder)
    rows = [
        {
            "id": f"{topic}/{colour}-{shape}",
            "text": QUESTIONS[topic][1].format(colour=colour, shape=shape, answer=_answer(colour, shape, topic)),
            "topic": topic,
        }
        for colour in COLOURS
        for shape in shapes
        for topic in QUESTIONS
    ]
    write_table(rows, folder / "passages.arrow")
    write_shards(toy_samples(num, px, seed, negatives, shapes), folder, "train", max_samples=100)
    write_shards(toy_samples(64, px, seed + 1, shapes=shapes), folder, "heldout")
    spec = folder / "toy.yaml"
    spec.write_text(
        "name: toy/shapes\n"
        "description: coloured shapes, questions about them, passages that answer\n"
        "license: CC0-1.0\n"
        "shards: train.manifest.json\n"
        "documents: passages.arrow\n"
        "required: [query.text, query.images, positives.text]\n"
    )
    (folder / "benchmark.yaml").write_text(
        "name: toy/shapes\n"
        "description: new drawings of the same shapes\n"
        "corpus: passages.arrow\n"
        "splits:\n"
        '  heldout: {shards: heldout.manifest.json, title: "New drawings", group_by: topic}\n'
        "metrics: [recall@1, recall@5, recall@10, pseudo_recall@5, mrr]\n"
        "controls: [question_only, image_only, shuffled_images, untrained, chance]\n"
        "control_splits: [heldout]\n"
        "gallery: heldout\n"
    )
    return spec


def _answer(colour: str, shape: str, topic: str) -> str:
    number = list(COLOURS).index(colour) * len(SHAPES) + SHAPES.index(shape)
    return str(11 + 3 * number) if topic == "price" else f"Maker{chr(ord('A') + number)}"


class ToyProcessor:
    """Text as its bytes, 24 wide, and pictures as their mean colour: enough to see what is in a batch. Pickles."""

    def __call__(self, contents, role):
        rows = []
        for content in contents:
            text = f"{content.instruction or ''}|{content.text or ''}".encode()[:24].ljust(24)
            colour = [sum(image.decode().resize((1, 1)).getpixel((0, 0))) for image in content.images[:1]] or [-1]
            rows.append([*text, *colour])
        return Inputs({"bytes": torch.tensor(rows)})


def known_positives(rows: Sequence[Sequence[int]]) -> Tensor:
    """`Batch.positive_ids` of lists of numbers."""
    lists = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(lists, batch_first=True, padding_value=NO_POSITIVE)
