"""Cached tower outputs in place of towers: same vectors, nothing decoded."""

import pytest
import torch
from msgspec.structs import replace

from mmret.types import Content, EncodedImage, Inputs
from tests.unit.models.toys import picture, toy_model

QUERIES = [Content("find: the red flag", (picture(1),)), Content("who is this", (picture(2),)), Content("a map")]
DOCUMENTS = [Content("red flag", (picture(3),)), Content("who is this: a map"), Content("b", (picture(1), picture(2)))]


class Reader(dict):
    """What the disk cache offers, in memory."""


def fill(model, contents, role):
    """Readers as `training/precompute.py` fills them."""
    inputs, keys = model.processor(contents, role), model.processor.tower_keys(contents, role)
    readers = {}
    with torch.no_grad():
        for name, rows in model.tower_features(inputs, role).items():
            readers[name] = Reader({key: row for key, row in zip(keys[name], rows) if key is not None})
    return readers


def encode(model, contents, role):
    inputs = model.processor(contents, role)
    with torch.no_grad():
        return inputs, model.encode_query(inputs) if role == "query" else model.encode_document(inputs)


@pytest.mark.parametrize("settings", [{}, {"missing_image": "skip"}, {"use_mapping": False}])
@pytest.mark.parametrize("role, contents", [("query", QUERIES), ("document", DOCUMENTS)])
def test_cached_features_give_the_same_vectors(settings, role, contents):
    model = toy_model(document_vision=True, **settings)
    _, expected = encode(model, contents, role)
    model.processor.features = fill(model, contents, role)
    inputs, found = encode(model, contents, role)
    assert "vision_features" in inputs and "text_features" in inputs and "pixel_values" not in inputs
    assert torch.equal(found.mask, expected.mask)
    assert torch.allclose(found.vectors, expected.vectors, atol=1e-5)


def test_features_of_one_batch_serve_another():
    model = toy_model()
    readers = fill(model, QUERIES, "query") | fill(model, DOCUMENTS, "document")
    _, expected = encode(model, DOCUMENTS[:1], "document")
    _, expected_query = encode(model, QUERIES[1:2], "query")
    model.processor.features = readers
    assert torch.allclose(encode(model, DOCUMENTS[:1], "document")[1].vectors, expected.vectors, atol=1e-5)
    assert torch.allclose(encode(model, QUERIES[1:2], "query")[1].vectors, expected_query.vectors, atol=1e-5)


def test_nothing_is_decoded_where_all_rows_are_cached():
    model = toy_model()
    model.processor.features = fill(model, QUERIES, "query")
    broken = EncodedImage(b"no picture")
    key = model.processor.tower_keys([replace(QUERIES[0], images=(broken,))], "query")["vision"][0]
    known = model.processor.tower_keys(QUERIES[:1], "query")["vision"][0]
    model.processor.features["vision"][key] = model.processor.features["vision"][known]
    assert "vision_features" in model.processor([replace(QUERIES[0], images=(broken,))], "query")


def test_one_row_that_is_not_cached_sends_the_batch_through_the_tower():
    model = toy_model()
    model.processor.features = fill(model, QUERIES[:2], "query")
    inputs = model.processor([*QUERIES[:2], Content("new words", (picture(9),))], "query")
    assert "pixel_values" in inputs and "vision_features" not in inputs and "text_features" not in inputs


def test_features_are_global_then_patches_for_mapped_queries_and_one_per_picture_elsewhere():
    model = toy_model(document_vision=True)
    query = model.tower_features(model.processor(QUERIES, "query"), "query")
    assert {len(row) for row in query["vision"]} == {1 + 4}
    assert {len(row) for row in query["query_text"]} == {16}
    document = model.tower_features(model.processor(DOCUMENTS, "document"), "document")
    assert [len(row) for row in document["vision"]] == [1, 0, 2]
    assert [len(row) for row in document["document_text"]] == [5, 9, 4]


def test_inputs_with_features_split_and_join():
    model = toy_model()
    model.processor.features = fill(model, QUERIES, "query")
    inputs, whole = encode(model, QUERIES, "query")
    with torch.no_grad():
        parts = [model.encode_query(part).vectors for part in inputs.split(2)]
    assert isinstance(inputs, Inputs)
    assert torch.allclose(torch.cat(parts), whole.vectors, atol=1e-6)
