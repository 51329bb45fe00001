"""easy-VQA: a slice of the published data set of coloured shapes; questions to one of 13 answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.data.demo.choice import pick, shuffled
from mmret.data.demo.render import webp
from mmret.data.shards import Sample, write_shards
from mmret.data.table import write_table

NUM_IMAGES = {"train": 800, "validation": 60, "test": 200}
"""Slice -> images; validation comes from the published training images, apart from the slice's own."""
INSTRUCTION = "Answer the question about the picture."
CAPTION_INSTRUCTION = "Name the color and the shape in this picture."
_KINDS = {"yes": "yes_no", "no": "yes_no", "circle": "shape", "rectangle": "shape", "triangle": "shape"}


def write_easy_vqa(folder: Path, out: Path) -> None:
    """All tables and shards of the easy-VQA spec; `folder` holds the unpacked wheel."""
    data = folder / "easy_vqa" / "data"
    answers = (data / "answers.txt").read_text(encoding="utf-8").split()
    questions = {name: _questions(data / name / "questions.json") for name in ("train", "test")}
    numbers = shuffled(questions["train"], "easy-vqa image")
    cut = NUM_IMAGES["train"]
    chosen = {
        "train": ("train", numbers[:cut]),
        "validation": ("train", numbers[cut : cut + NUM_IMAGES["validation"]]),
        "test": ("test", pick(questions["test"], NUM_IMAGES["test"], "easy-vqa image")),
    }
    write_table(
        ({"id": answer, "text": answer, "label": label} for label, answer in enumerate(answers)), out / "answers.arrow"
    )
    (out / "classes.txt").write_text("".join(f"{answer}\n" for answer in answers), encoding="utf-8")
    pictures = (
        {"id": f"{part}/{number}", "image": _lossless(data / part / "images" / f"{number}.png")}
        for part, numbers in chosen.values()
        for number in numbers
    )
    write_table(pictures, out / "images.arrow")
    for name, (part, numbers) in chosen.items():
        rows = _rows(part, {n: questions[part][n] for n in numbers}, answers, instruct=name != "train")
        write_shards(rows, out, name, max_samples=100_000, compress=True)
    _write_captions(
        {name: (part, {n: questions[part][n] for n in chosen[name][1]}) for name, (part, _) in chosen.items()}, out
    )


def _write_captions(slices: Mapping[str, tuple[str, Mapping[int, Iterable[tuple[str, str]]]]], out: Path) -> None:
    """Picture -> "a teal circle": the shape whose colour is asked, and the answer; pictures without are left out."""
    captions = {name: (part, _captions(questions)) for name, (part, questions) in slices.items()}
    texts = sorted({text for _, of in captions.values() for text in of.values()})
    write_table(({"id": text, "text": f"a {text}"} for text in texts), out / "captions.arrow")
    for name, (part, of) in captions.items():
        instruct = {} if name == "train" else {"instruction": CAPTION_INSTRUCTION}
        rows = (
            Sample(
                str(number),
                {
                    "query": {**instruct, "images": [f"{part}/{number}"]},
                    "positives": [of[number]],
                    "label": of[number],
                },
            )
            for number in shuffled(of, "easy-vqa caption")
        )
        write_shards(rows, out, f"captions_{name}", max_samples=100_000, compress=True)


def _captions(questions: Mapping[int, Iterable[tuple[str, str]]]) -> dict[int, str]:
    """Image number -> colour and shape, of the images that are asked for the colour of a named shape."""
    found = {}
    for number, asked in questions.items():
        for question, answer in asked:
            shape = question.rstrip("?").split(" ")[-1]
            if _KINDS.get(answer, "color") == "color" and _KINDS.get(shape) == "shape":
                found[number] = f"{answer} {shape}"
                break
    return found


def _questions(path: Path) -> dict[int, list[tuple[str, str]]]:
    """Image number -> (question, answer)s, as published."""
    found: dict[int, list[tuple[str, str]]] = {}
    for question, answer, image in json.loads(path.read_text(encoding="utf-8")):
        found.setdefault(image, []).append((question, answer))
    return found


def _rows(
    part: str, questions: Mapping[int, Iterable[tuple[str, str]]], answers: Sequence[str], instruct: bool
) -> Iterator[Sample]:
    rows = [(number, i, *row) for number, asked in questions.items() for i, row in enumerate(asked)]
    for number, i, question, answer in shuffled(rows, "easy-vqa row"):
        query: dict[str, Any] = {"instruction": INSTRUCTION} if instruct else {}
        query |= {"text": question, "images": [f"{part}/{number}"]}
        yield Sample(
            f"{number}-{i}",
            {
                "query": query,
                "positives": [answer],
                "label": answers.index(answer),
                "kind": _KINDS.get(answer, "color"),
            },
        )


def _lossless(png: Path) -> bytes:
    """The published pixels, in fewer bytes."""
    return webp(Image.open(io.BytesIO(png.read_bytes())).convert("RGB"), quality=None)
