import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmret.errors import EnvironmentProblem, SampleError
from mmret.evaluation.mteb_adapter import MTEBEncoder, contents
from mmret.types import Content
from tests.builders import COLOURS
from tests.unit.evaluation.test_own_candidates import MeanRetriever
from tests.unit.evaluation.toy import WordRetriever

TASK = SimpleNamespace(name="Shapes", prompt={"query": "find", "document": "shown"})


def batches(rows, size=2):
    """As mteb's loaders give them: dictionaries of columns."""
    return DataLoader(
        rows, batch_size=size, collate_fn=lambda some: {key: [row[key] for row in some] for key in some[0]}
    )


def texts(*values):
    return batches([{"text": value} for value in values])


@pytest.mark.parametrize("kind", [WordRetriever, MeanRetriever])
def test_similarity_of_encoded_rows_is_the_models_own_score(kind):
    model = kind().eval()
    encoder = MTEBEncoder(model, batch_size=3)
    asked, known = ["red dog", "sea", "a blue house by the sea"], ["red house", "dog", "sky sea", "tree"]
    queries = encoder.encode(texts(*asked), task_metadata=SimpleNamespace(name="x", prompt=None), prompt_type="query")
    documents = encoder.encode(texts(*known), task_metadata=TASK, prompt_type=SimpleNamespace(value="document"))
    # The toy reads no instructions; the model scores one pair at a time.
    expected = [
        [
            float(
                model.score(
                    model.encode_query(model.processor([Content(one)], "query")),
                    model.encode_document(model.processor([Content(two)], "document")),
                )
            )
            for two in known
        ]
        for one in asked
    ]
    torch.testing.assert_close(encoder.similarity(queries, documents), torch.tensor(expected))
    torch.testing.assert_close(encoder.similarity(queries.numpy(), np.asarray(documents)), torch.tensor(expected))
    pairwise = encoder.similarity_pairwise(queries, documents[:3])
    torch.testing.assert_close(pairwise, torch.tensor(expected).diagonal())


def test_pictures_and_texts_become_one_content_with_the_instruction_of_their_side():
    red = Image.new("RGB", (4, 4), COLOURS["red"])
    one, two = contents({"text": ["what?", ""], "image": [red, [red, red]], "instruction": [None, "mine"]}, "theirs")
    assert (one.text, len(one.images), one.instruction) == ("what?", 1, "theirs")
    assert (two.text, len(two.images), two.instruction) == (None, 2, "mine")
    assert one.images[0].decode().getpixel((0, 0)) == COLOURS["red"]


@pytest.mark.parametrize(
    ("prompt", "side", "instruction"),
    [
        ({"query": "find", "document": "shown"}, "query", "find"),
        ({"query": "find", "document": "shown"}, "document", "shown"),
        ({"query": "find"}, "document", None),
        ("find", "query", "find"),
        ("find", "document", None),
        ("find", None, "find"),
        (None, "query", None),
    ],
)
def test_instructions_are_mtebs_prompts_for_the_side(prompt, side, instruction):
    seen = []
    model = WordRetriever()
    process = model.processor.__call__
    model.processor = lambda rows, role: (seen.extend(rows), process(rows, role))[1]
    MTEBEncoder(model).encode(texts("red"), task_metadata=SimpleNamespace(name="x", prompt=prompt), prompt_type=side)
    assert [content.instruction for content in seen] == [instruction]
    MTEBEncoder(model, instructions={"x": "ours"}).encode(
        texts("red"), task_metadata=SimpleNamespace(name="x", prompt=prompt), prompt_type="query"
    )
    assert seen[-1].instruction == "ours"


def test_the_models_mode_is_left_as_it_was_and_batches_do_not_matter():
    model = WordRetriever().train()
    once = MTEBEncoder(model).encode(texts("red", "dog", "sea"), task_metadata=TASK)
    small = MTEBEncoder(model).encode(texts("red", "dog", "sea"), task_metadata=TASK, batch_size=1)
    assert model.training
    torch.testing.assert_close(once, small)


def test_what_cannot_be_encoded_is_refused():
    encoder = MTEBEncoder(WordRetriever())
    with pytest.raises(SampleError, match="Shapes gave no rows"):
        encoder.encode([], task_metadata=TASK)
    with pytest.raises(SampleError, match="a batch has audio; this model reads text and image"):
        encoder.encode([{"audio": [1]}], task_metadata=TASK)
    with pytest.raises(SampleError, match="a picture is int; want a Pillow image"):
        encoder.encode([{"image": [1]}], task_metadata=TASK)


def test_without_mteb_its_meta_data_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'mteb>=2'"):
        _ = MTEBEncoder(WordRetriever()).mteb_model_meta
