"""What every architecture promises (`mmret/models/retriever.py`), over all entries of MODELS at their tiny size."""

import pickle

import pytest
import torch

import mmret.models
from mmret.models import MODELS, PreFLMR, VLM2VecConfig, VLMoConfig
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.types import Content, Embeddings
from tests.unit.models.toys import picture

QUERIES = [
    Content("what is this flag?", (picture(1, (40, 30)),), "answer the question:"),
    Content("who", (picture(2, (30, 44)),), "answer the question:"),
    Content("where is the city in the picture, and what is its name", (picture(3, (32, 32)),), "find:"),
    Content("which colour", (picture(1, (40, 30)),), "answer the question:"),
]
DOCUMENTS = [
    Content("A red flag.", id="a"),
    Content("the capital of a country, and its people: a map (large) of the town", id="b"),
    Content("blue", id="c"),
]


PICTURES = [Content(images=(picture(seed, (40, 30)),), id=str(seed)) for seed in range(3)]
CASES = {
    "preflmr": (PreFLMR.SIZES["tiny"], QUERIES, DOCUMENTS),
    **{
        f"vlm2vec/{kind}": (VLM2VecConfig(backbone=f"tiny:{kind}"), QUERIES, [*DOCUMENTS, *PICTURES])
        for kind in FAMILIES
    },
    "vlmo": (VLMoConfig(size="tiny", tokenizer="tiny", image_px=32), DOCUMENTS, PICTURES),
}
"""Entry of MODELS, and a backbone -> a configuration that needs no file beside the code, queries, documents."""


def test_every_architecture_has_a_case():
    assert {name.partition("/")[0] for name in CASES} == MODELS.keys()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    torch.manual_seed(1)
    config, queries, documents = CASES[request.param]
    model = MODELS[request.param.partition("/")[0]].from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, queries, documents


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture(params=["query", "document"])
def side(case, request):
    return request.param, case[1 if request.param == "query" else 2]


def encode(model, contents, role):
    """Embeddings of contents through the processor, without gradient."""
    with torch.no_grad():
        inputs = model.processor(contents, role)
        return model.encode_query(inputs) if role == "query" else model.encode_document(inputs)


@pytest.fixture
def both(case):
    model, queries, documents = case
    return model, encode(model, queries, "query"), encode(model, documents, "document")


def close(left, right):
    return torch.allclose(left, right, atol=1e-5)


def test_permuting_rows_permutes_outputs(model, side):
    role, contents = side
    order = torch.arange(len(contents) - 1, -1, -1)
    whole = encode(model, contents, role)
    turned = encode(model, [contents[i] for i in order], role)
    assert close(turned.vectors, whole.vectors[order])
    assert whole.mask is None or torch.equal(turned.mask, whole.mask[order])


def test_chunks_joined_are_the_whole(model, side):
    role, contents = side
    whole = encode(model, contents, role)
    parts = Embeddings.cat([encode(model, [content], role) for content in contents])
    assert close(parts.vectors, whole.vectors)
    assert whole.mask is None or torch.equal(parts.mask, whole.mask)


def test_splitting_inputs_splits_outputs(model, side):
    role, contents = side
    inputs = model.processor(contents, role)
    encoder = model.encode_query if role == "query" else model.encode_document
    with torch.no_grad():
        parts = Embeddings.cat([encoder(part) for part in inputs.split(2)])
        assert close(parts.vectors, encoder(inputs).vectors)


def test_vectors_have_unit_length_where_they_count_and_none_elsewhere(model, side):
    role, contents = side
    found = encode(model, contents, role)
    lengths = found.vectors.norm(dim=-1)
    expected = torch.ones_like(lengths) if found.mask is None else found.mask.float()
    assert torch.allclose(lengths, expected, atol=1e-5)


def test_masked_tokens_never_influence_a_score(both):
    model, queries, documents = both
    if documents.mask is None:
        assert queries.mask is None  # one vector a row: no tokens to mask on either side
        return
    noise = torch.randn_like(documents.vectors) * 50
    loud = torch.where(documents.mask.unsqueeze(2), documents.vectors, noise)
    assert torch.equal(
        model.score(queries, Embeddings(loud, documents.mask)),
        model.score(queries, Embeddings(documents.vectors, documents.mask)),
    )


def test_a_document_scores_the_same_beside_others(case):
    model, queries, documents = case
    queries = encode(model, queries, "query")
    alone = model.score(queries, encode(model, documents[2:], "document"))
    together = model.score(queries, encode(model, documents, "document"))
    assert torch.allclose(together[:, 2:], alone, atol=1e-4)


def test_score_equals_a_slow_loop(both):
    model, queries, documents = both
    scores = model.score(queries, documents)
    for i, query in enumerate(queries.vectors):
        for j, document in enumerate(documents.vectors):
            if documents.mask is None:
                expected = float(query @ document)
            else:
                kept = [token for token, keep in zip(document, documents.mask[j]) if keep]
                expected = sum(max(float(q @ d) for d in kept) for q in query)
            assert float(scores[i, j]) == pytest.approx(expected, abs=1e-4)


def test_scores_stay_float32_under_bf16_autocast(case):
    model, queries, documents = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        queries, documents = encode(model, queries, "query"), encode(model, documents, "document")
        scores = model.score(queries, documents)
    assert queries.vectors.dtype == scores.dtype == torch.float32
    assert torch.isfinite(scores).all()


def test_state_dict_goes_round(model, side):
    role, contents = side
    torch.manual_seed(2)
    other = type(model)(model.config).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(encode(other, contents, role).vectors, encode(model, contents, role).vectors)


def test_no_tensor_is_in_the_state_dict_twice(model):
    places = [value.data_ptr() for value in model.state_dict().values() if value.numel()]
    assert len(places) == len(set(places))


def test_saved_and_loaded_is_the_same_model(model, side, tmp_path):
    role, contents = side
    model.save(tmp_path)
    opened = mmret.models.load(tmp_path)
    assert not opened.training
    assert torch.equal(encode(opened, contents, role).vectors, encode(model, contents, role).vectors)


def test_the_processor_pickles(model, side):
    role, contents = side
    ours, theirs = model.processor(contents, role), pickle.loads(pickle.dumps(model.processor))(contents, role)
    assert ours.dense.keys() == theirs.dense.keys()
    assert all(torch.equal(value, theirs.dense[name]) for name, value in ours.dense.items())


def test_a_skeleton_counts_the_same_parameters_without_weights(model):
    skeleton = type(model).skeleton(model.config)
    ours = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert {name: parameter.shape for name, parameter in skeleton.named_parameters()} == ours
    assert all(parameter.device.type == "meta" for parameter in skeleton.parameters())
