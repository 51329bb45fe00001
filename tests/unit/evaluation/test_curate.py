"""Filters with a model: scores and vectors computed again by hand, duplicates against all pairs."""

import json

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from mmret.data.curate import FILTERS, Setup
from mmret.errors import ConfigError
from mmret.evaluation.curate import FILTERS as WITH_MODELS
from mmret.evaluation.curate import open_embedder
from mmret.evaluation.curate.embedder import model_identity
from mmret.types import Content, EncodedImage
from tests.fake_tables import TINY
from tests.unit.data.curate.rows import captioned, picture, run, source
from tests.unit.evaluation.toy import WordRetriever

KNOWN = {**FILTERS, **WITH_MODELS}


class TextPairs(WordRetriever):
    """Late interaction over words; pictures are not looked at."""


def asked(pairs):
    """Samples whose query is a text."""
    samples = captioned([answer for _, answer in pairs])
    for sample, (question, _) in zip(samples, pairs):
        sample.json["query"] = {"text": question}
        sample.members.clear()
    return samples


@pytest.fixture
def model(monkeypatch):
    found = TextPairs().eval()
    monkeypatch.setattr("mmret.evaluation.curate.embedder.load", lambda name: found)
    return found


PAIRS = [("red ball", "red ball"), ("red ball", "red car"), ("green tree", "blue car"), ("old house", "old house here")]


@pytest.fixture
def spec(tmp_path):
    path = source(tmp_path / "data", asked(PAIRS), max_samples=3)
    path.write_text(path.read_text().replace("query.images", "query.text"))
    return path


def test_score_is_the_models_own(tmp_path, spec, model):
    found = run(tmp_path, spec, {"score": {"model": "toy", "threshold": 1.5}}, known=KNOWN)
    inputs = [model.processor([Content(text)], None) for pair in PAIRS for text in pair]
    by_hand = [
        float(model.score(model.encode_query(q), model.encode_document(d))) for q, d in zip(inputs[::2], inputs[1::2])
    ]
    measured = dict(found.steps[0].kept) | {index: value for index, value, _ in found.steps[0].dropped}
    assert [measured[at] for at in range(4)] == pytest.approx(by_hand)
    assert by_hand[0] == pytest.approx(2)
    assert found.kept.tolist() == [at for at in range(4) if by_hand[at] >= 1.5] == [0, 3]


def test_the_top_fraction_by_score_needs_no_new_pass(tmp_path, spec, model):
    run(tmp_path, spec, {"score": {"model": "toy", "threshold": 1.5}}, known=KNOWN)
    encoded = model.num_documents
    found = run(tmp_path, spec, {"score": {"model": "toy", "fraction": 0.75}}, known=KNOWN)
    assert found.kept.tolist() == [0, 1, 3]
    assert found.steps[0].facts["least score that stays"] == pytest.approx(found.steps[0].kept[1][1])
    assert model.num_documents == encoded == 4


def test_every_positive_has_to_fit(tmp_path, model):
    samples = asked(PAIRS[:1] * 2)
    samples[1].json["positives"].append({"text": "something else"})
    path = source(tmp_path / "data", samples)
    path.write_text(path.read_text().replace("query.images", "query.text"))
    found = run(tmp_path, path, {"score": {"model": "toy", "threshold": 1.5}}, known=KNOWN)
    assert found.kept.tolist() == [0]


def judge(name, vectors, seed=0, **settings):
    cls = WITH_MODELS[name]
    values = pa.array([row.tolist() for row in vectors], pa.list_(pa.float32()))
    return cls(cls.Config(model="toy", **settings), Setup(None, seed, "cpu")).judge(values, np.arange(len(vectors)))


@pytest.mark.parametrize("block", [3, 1024])
def test_duplicate_embeddings_are_those_of_all_pairs(monkeypatch, block):
    monkeypatch.setattr("mmret.evaluation.curate.duplicate_embeddings.BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 6, generator=generator)
    vectors = normalize(centres[torch.arange(60) % 8] + 0.3 * torch.randn(60, 6, generator=generator), dim=-1)
    verdict = judge("duplicate_embeddings", vectors, min_similarity=0.95)
    kept = []
    for at in range(60):
        if all(float(vectors[at] @ vectors[other]) < 0.95 for other in kept):
            kept.append(at)
    assert np.flatnonzero(verdict.keep).tolist() == kept
    for at in np.flatnonzero(~verdict.keep):
        assert verdict.like[at] in kept
        assert float(vectors[at] @ vectors[verdict.like[at]]) == pytest.approx(verdict.values[at], abs=1e-6)


def test_equal_vectors_are_duplicates_at_cosine_one():
    vectors = normalize(torch.randn(1, 50, generator=torch.Generator().manual_seed(1)), dim=-1).repeat(3, 1)
    assert judge("duplicate_embeddings", vectors, min_similarity=1.0).keep.tolist() == [True, False, False]


def test_clusters_keep_a_few_of_each():
    directions = torch.eye(4)
    vectors = normalize(directions[torch.tensor([0] * 9 + [1] * 5 + [2] * 2)] + 0.01, dim=-1)
    verdict = judge("clusters", vectors, clusters=3, per_cluster=3)
    kept = np.flatnonzero(verdict.keep)
    assert [int(((kept >= low) & (kept < high)).sum()) for low, high in ((0, 9), (9, 14), (14, 16))] == [3, 3, 2]
    assert verdict.facts == {"clusters": 3, "largest": 9, "fuller than per_cluster": 2}
    assert judge("clusters", vectors, clusters=3, per_cluster=3).keep.tolist() == verdict.keep.tolist()
    assert judge("clusters", vectors, 1, clusters=3, per_cluster=3).keep.tolist() != verdict.keep.tolist()


def test_vectors_are_measured_once_for_both_filters(tmp_path, spec, model):
    pair = (
        {"duplicate_embeddings": {"model": "toy", "min_similarity": 0.999}},
        {"clusters": {"model": "toy", "clusters": 1, "per_cluster": 2}},
    )
    found = run(tmp_path, spec, *pair, known=KNOWN)
    assert found.measured == {"0.duplicate_embeddings": 2, "1.clusters": 0}
    assert [step.after for step in found.steps] == [3, 2]  # "red ball" is asked twice


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of two one-layer towers, random."""
    folder = tmp_path_factory.mktemp("clip")
    towers = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    colours = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": towers, "preprocess_cfg": colours}))
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**{k: v for k, v in towers.items()})
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder, model.eval()


def test_an_open_clip_model_scores_pairs(tmp_path, clip):
    folder, model = clip
    captions, pictures = ["a dog", "a tree by the sea", "night"], [picture(at) for at in range(3)]
    spec = source(tmp_path / "data", captioned(captions, pictures))
    name = f"open_clip:local-dir:{folder}"
    found = run(tmp_path, spec, {"score": {"model": name, "threshold": -1}}, known=KNOWN)
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with torch.no_grad():
        pixels = torch.stack([transform(EncodedImage(data).decode()) for data in pictures])
        vision = model.encode_image(pixels, normalize=True)
        text = model.encode_text(open_clip.tokenize(captions), normalize=True)
    assert [value for _, value in found.steps[0].kept] == pytest.approx((vision * text).sum(-1).tolist(), abs=1e-5)


def test_a_runs_folder_means_the_model_of_its_last_finished_stage(write, monkeypatch):
    opened = []
    monkeypatch.setattr("mmret.evaluation.curate.embedder.load", lambda name: opened.append(name) or TextPairs())
    write(TINY, "runs/tiny/recipe.yaml")
    with pytest.raises(ConfigError, match="no stage of this run is finished"):
        open_embedder("runs/tiny", "cpu")
    write("{}", "runs/tiny/mapping/stage.json")
    open_embedder("runs/tiny", "cpu")
    before = model_identity("runs/tiny")
    write("other weights", "runs/tiny/mapping/model/model.safetensors")
    assert opened == ["runs/tiny/mapping/model"] and model_identity("runs/tiny") != before


def test_open_clip_refuses_what_it_cannot_read(clip):
    folder, _ = clip
    embedder = open_embedder(f"open_clip:local-dir:{folder}", "cpu")
    with pytest.raises(ConfigError, match="read a text or a picture, but a sample's content has both"):
        embedder.embed([Content("a", (EncodedImage(picture()),))], "query")
    with pytest.raises(ConfigError, match="open_clip:nothing cannot be opened"):
        open_embedder("open_clip:nothing", "cpu")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"score": {"model": "m"}}, "want either threshold or fraction"),
        ({"score": {"model": "m", "fraction": 2}}, "fraction is above 0"),
        ({"clusters": {"model": "m", "clusters": 0, "per_cluster": 1}}, "clusters must be at least 1"),
        ({"duplicate_embeddings": {"model": "m", "min_similarity": 0.9, "of": "both"}}, "known: query, positives"),
    ],
)
def test_settings_that_cannot_be(tmp_path, spec, entry, said):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, spec, entry, known=KNOWN)
