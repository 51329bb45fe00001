"""What `mmret check` says, on a tiny PreFLMR whose numbers can be counted by hand."""

import json

import pytest

from mmret.cli import main
from tests.builders import build_toy_source

RECIPE = """\
name: small
model:
  {name: preflmr, text: tiny, vision: tiny, dim: 16, prefix_tokens: 4,
   query_tokens: 24, document_tokens: 48, mapping_heads: 2}
stages:
  - name: mapping
    steps: 10
    data:
      batch_size: 16
      documents_per_query: 2
      sources: {toy/toy.yaml: 1}
    objectives: {hard_negative: {}}
    optimizer: {lr: 1e-3}
    lr_scale: {'model\\.document_text_linear': 1, '.*': 0}
"""


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """checked(*arguments) -> (exit code, JSON answer or None, what people read), for RECIPE over 64 toy rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    build_toy_source(tmp_path / "toy", num=64)
    (tmp_path / "small.yaml").write_text(RECIPE)

    def run(*arguments):
        code = main(["check", "small.yaml", *arguments, "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def test_counts_of_a_stage_are_those_done_by_hand(checked):
    code, answer, _ = checked()
    assert code == 0
    (stage,) = answer["stages"]
    # The projection [dim 16, text width 32] has no bias.
    assert stage["trained"] == 16 * 32
    modules = {module["name"]: module for module in stage["modules"]}
    assert modules["model.document_text_linear"] == {"name": "model.document_text_linear", "total": 512, "trained": 512}
    # Vision width 32 -> 4 * 16 / 2 -> 4 * 16, with biases.
    assert modules["model.prefix"]["total"] == (32 * 32 + 32) + (32 * 64 + 64)
    assert stage["parameters"] == sum(module["total"] for module in stage["modules"])
    groups = {group["name"]: (group["scale"], group["total"]) for group in stage["lr_scale"]}
    assert groups == {"model\\.document_text_linear": (1.0, 512), ".*": (0.0, stage["parameters"] - 512)}


def test_sources_say_samples_and_epochs(checked):
    _, answer, _ = checked("stages[0].data.sources={toy/toy.yaml: {weight: 3, max_samples: 40}}")
    (source,) = answer["stages"][0]["sources"]
    assert {key: source[key] for key in ("share", "samples", "rows", "epochs", "shards")} == {
        "share": 1.0,
        "samples": 160,
        "rows": 40,
        "epochs": 4.0,
        "shards": 1,
    }
    assert answer["missing"] == []


def test_a_rank_has_its_rows_and_all_columns(checked):
    _, answer, _ = checked("trainer.devices=2", "trainer.num_nodes=2", "trainer.accumulate=2")
    stage = answer["stages"][0]
    assert (stage["ranks"], stage["rows_per_rank_and_pass"], stage["score_matrix"]) == (4, 2, [2, 2 * 4 * 2])


def test_memory_is_the_stated_formula(checked):
    _, answer, _ = checked()
    stage = answer["stages"][0]
    memory, total, trained = stage["memory"], stage["parameters"], stage["trained"]
    assert memory["weights"] == 4 * total
    assert memory["gradients"] == 4 * trained
    assert memory["optimizer"] == 8 * trained
    assert memory["scores"] == 12 * 16 * 32
    assert memory["total"] == sum(memory[key] for key in ("weights", "gradients", "optimizer", "scores", "activations"))
    assert answer["memory_formula"].startswith("memory of one rank, an estimate")


def test_frozen_towers_keep_no_activations(checked):
    _, some, _ = checked()
    _, most, _ = checked("stages[0].lr_scale={'.*': 1}")
    _, chunks, _ = checked("stages[0].lr_scale={'.*': 1}", "stages[0].grad_cache={chunk_size: 2}")
    kept = [answer["stages"][0]["memory"]["activations"] for answer in (some, most, chunks)]
    assert 0 < kept[0] < kept[1] / 4
    assert kept[2] < kept[1] / 4


def test_a_pattern_that_matches_nothing_is_a_problem_at_its_line(checked):
    code, _, err = checked("stages[0].lr_scale.prefx=1")
    assert code == 2
    assert "override stages[0].lr_scale.prefx=1  stages[0].lr_scale.prefx  lr_scale pattern 'prefx' matches no" in err
    assert "prefix'?" in err


def test_sizes_that_do_not_fit_are_a_problem_at_their_key(checked):
    code, _, err = checked("model.query_tokens=600")
    assert code == 2
    assert err.startswith("override model.query_tokens=600  model.query_tokens  model.query_tokens is 600, but")


def test_what_is_not_here_is_told_and_is_no_error(checked, tmp_path):
    (tmp_path / "toy" / "train-000000.tar").unlink()
    (tmp_path / "toy" / "passages.arrow").unlink()
    (tmp_path / "toy" / "heldout.manifest.json").unlink()
    code, answer, _ = checked(
        "model.text=google-bert/bert-base-uncased",
        "stages[0].init_from=runs/none",
        "evaluation.benchmarks=[toy/benchmark.yaml/heldout]",
    )
    assert code == 0
    assert answer["missing"] == [
        "data toy/toy.yaml: 1 of 1 shards, the first toy/train-000000.tar",
        "data toy/toy.yaml: toy/passages.arrow (table)",
        "stage mapping: init_from runs/none: no such folder",
        "weights model.text: 'google-bert/bert-base-uncased' is not here; a run would fetch it from the model hub",
        "benchmark toy/benchmark.yaml/heldout: toy/heldout.manifest.json (manifest)",
        "benchmark toy/benchmark.yaml/heldout: toy/passages.arrow (table)",
    ]
    stage = answer["stages"][0]
    assert stage["parameters"] > 100e6  # BERT-base's size is known without its files
    assert stage["memory"]["activations"] > 0  # nor does it take the vocabulary


@pytest.mark.parametrize(
    "model",
    [
        "{name: preflmr, text: tiny, vision: tiny, dim: 16, prefix_tokens: 4, query_tokens: 24, document_tokens: 48}",
        "{name: vlmo, size: tiny, image_px: 32, patch_px: 8, max_text_tokens: 20, vl_layers: 0, contrastive: main}",
    ],
)
def test_activations_are_the_same_with_a_tokenizer_that_is_not_here(checked, model):
    kept = []
    for tokenizer in ("tiny", "google-bert/bert-base-uncased"):
        code, answer, err = checked(
            f"model={model}",
            f"model.tokenizer={tokenizer}",
            "model.vocabulary=30522" if "vlmo" in model else "model.dim=16",
            "stages[0].lr_scale={.*: 1}",
        )
        assert code == 0, err
        kept.append(answer["stages"][0]["memory"]["activations"])
    assert kept[0] == kept[1] > 0


def test_a_tag_that_a_library_does_not_have_is_a_problem_at_its_key(checked):
    code, _, err = checked("model.vision=timm:test_vit.r160_in2k")
    assert code == 2
    assert err.startswith("override model.vision=timm:test_vit.r160_in2k  model.vision  model.vision: timm has no weig")
    assert "it has r160_in1k." in err and "Did you mean timm:test_vit.r160_in1k?" in err
    code, _, err = checked("model.vision=open_clip:ViT-bigG-14/laion2b")
    assert code == 2 and "one of the tags laion2b_s39b_b160k, metaclip_fullcc; got 'laion2b'" in err


def test_parts_of_a_composed_backbone_and_weight_paths_are_looked_for(checked):
    parts = "{vision: open_clip:ViT-bigG-14/weights/none.pt, language: nobody/unheard-of}"
    code, answer, _ = checked(
        "model={name: vlm2vec, backbone: composed, composed: " + parts + "}", "stages[0].lr_scale={.*: 1}"
    )
    assert code == 0
    assert answer["missing"] == [
        "weights model.composed.vision: 'weights/none.pt' is not here; a run would fetch it from the model hub",
        "weights model.composed.language: 'nobody/unheard-of' is not here; a run would fetch it from the model hub",
    ]


def test_an_unknown_size_is_told_and_is_no_error(checked):
    code, answer, _ = checked("model.text=nobody/unheard-of")
    assert code == 0
    assert "nobody/unheard-of" in answer["stages"][0]["unknown"]
    assert answer["stages"][0]["parameters"] is None


def test_people_read_the_same_numbers(tmp_path, checked, capsys):
    assert main(["check", "small.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ("stage mapping: 10 steps of 16 queries, 1 rank", "score matrix 16 x 32", "toy/toy.yaml", "512"):
        assert part in captured.err
