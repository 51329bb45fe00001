"""VLMo's vision stage by masked image modelling: as a recipe's stage, checked, run, handed over."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from mmret.cli import main
from mmret.data import MixtureDataModule, Sample, write_shards
from mmret.errors import ConfigError
from mmret.models import load
from mmret.models.backbones import VisionSpec
from mmret.models.visual_tokenizer import CodebookConfig, collect_features, fit_codebook
from mmret.objectives import MIM, MIMConfig, Step, load_objectives
from mmret.recipe import load_recipe
from mmret.recipe.schema import ImageMaskingConfig, MixtureConfig, OptimizerConfig, SourceConfig, Stage
from mmret.training.module import RetrievalModule
from mmret.training.stages import run_recipe
from mmret.types import Need
from tests.unit.models.toys import picture
from tests.unit.models.visual_tokenizer.toys import Colours, write_codebook, write_dalle
from tests.unit.models.vlmo.toys import toy_model

RECIPE = """\
name: small
out: {out}
model:
  {{name: vlmo, size: tiny, tokenizer: tiny, image_px: 32, patch_px: 8, relative_text_span: 24, max_text_tokens: 9}}
stages:
  - name: vision
    steps: 3
    model: {{vl_layers: 0, contrastive: none}}
    data: {{batch_size: 8, sources: {{pictures.yaml: 1}}, image_masking: {{min_patches: 2}}}}
    objectives: {{mim: {{tokenizer: {tokenizer}}}}}
    optimizer: {{lr: 1e-3}}
    lr_scale: {{'backbone\\.text\\.|experts\\.text\\.|pooler': 0, '.*': 1}}
  - name: language
    steps: 2
    model: {{vl_layers: 0, contrastive: none, max_text_tokens: 24}}
    data: {{batch_size: 8, sources: {{texts.yaml: 1}}}}
    objectives: {{mlm: {{text_only: true}}}}
    optimizer: {{lr: 1e-3}}
    lr_scale: {{'backbone\\.(text|modality|norm)\\.|experts\\.text\\.|positions\\.table|objectives\\.': 1, '.*': 0}}
trainer: {{accelerator: cpu}}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Pictures without anything that answers them, texts, a tokenizer of 16 tokens, and the recipe."""
    monkeypatch.chdir(tmp_path)
    rows = {
        "pictures": [
            Sample(str(n), {"query": {"images": ["png"]}}, {"png": picture(n, (32, 32)).data}) for n in range(32)
        ],
        "texts": [Sample(str(n), {"query": {"text": f"one two three number {n}"}}) for n in range(32)],
    }
    for name, samples in rows.items():
        write_shards(samples, tmp_path / name, "train")
        (tmp_path / f"{name}.yaml").write_text(f"name: toy/{name}\nshards: {name}/train.manifest.json\n")
    write_dalle(tmp_path / "encoder.pt")
    return tmp_path


def recipe(place, tokenizer="encoder.pt", *overrides):
    (place / "small.yaml").write_text(RECIPE.format(out=place / "run", tokenizer=tokenizer))
    return load_recipe(place / "small.yaml", overrides)


def test_vision_then_language_stage_hand_weights_on_and_the_mask_token_not(place):
    folder = run_recipe(recipe(place))
    record = json.loads((folder / "language" / "stage.json").read_text())
    assert "objectives.mim (3)" in record["handover"]["dropped"]
    vision, language = (load_file(folder / name / "model" / "model.safetensors") for name in ("vision", "language"))
    key = "backbone.blocks.1.experts.image.fc1.weight"
    assert torch.equal(vision[key], language[key])
    assert not torch.equal(vision[key], toy_start(place)[key])
    assert load_file(folder / "vision" / "model" / "objectives.safetensors").keys() == {
        "mim.mask_token",
        "mim.head.weight",
        "mim.head.bias",
    }


def toy_start(place):
    """The vision stage's weights before its first step."""
    one = recipe(place, "encoder.pt", "out=other", "stages.vision.optimizer.lr=1e-20", "stages.vision.steps=1")
    return load_file(run_recipe(one) / "vision" / "model" / "model.safetensors")


def test_the_heads_of_a_finished_stage_open_without_the_tokenizer(place):
    folder = run_recipe(recipe(place)) / "vision" / "model"
    (place / "encoder.pt").unlink()
    heads = load_objectives(folder, load(folder))
    assert heads["mim"].head.weight.shape == (16, 32)


def test_the_tokenizer_is_neither_counted_nor_trained(place):
    model = toy_model(vl_layers=0, contrastive="none")
    stage = Stage(
        name="vision",
        steps=1,
        data=MixtureConfig(sources={"toy": SourceConfig()}, batch_size=4),
        objectives={"mim": MIMConfig(tokenizer="encoder.pt")},
        optimizer=OptimizerConfig(lr=1e-3),
    )
    module = RetrievalModule(model, stage)
    extra = sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in model.parameters())
    assert extra == 16 + 16 * 16 + 16  # mask token, head
    assert module.needs == {Need.MASKED_IMAGE}
    assert not any("blocks.input" in key for key in module.state_dict())


@pytest.fixture
def checked(place, capsys):
    def run(tokenizer, *overrides):
        recipe(place, tokenizer)
        code = main(["check", "small.yaml", "--json", *overrides])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def test_check_counts_the_head_and_not_the_tokenizer(checked):
    code, answer, _ = checked("encoder.pt")
    assert code == 0 and answer["missing"] == []
    modules = {module["name"]: module["total"] for module in answer["stages"][0]["modules"]}
    assert modules["objectives.mim"] == 32 + 32 * 16 + 16


def test_a_missing_tokenizer_is_told_by_the_check_and_stops_the_run(checked, place):
    code, answer, _ = checked("none.pt")
    assert code == 0
    assert [line for line in answer["missing"] if "none.pt" in line] == [
        "stage vision: mim.tokenizer none.pt: no such file or folder; a visual tokenizer is local: the folder that "
        "`mmret codebook` wrote, or the file of a DALL-E encoder's state dict (docs/vision_stage.md), or 'tiny'"
    ]
    assert "none.pt" in answer["stages"][0]["unknown"]
    _, answer, _ = checked("none.pt", "stages.vision.objectives.mim.num_tokens=8192")
    assert answer["stages"][0]["parameters"] > 8192 * 32
    for settings in ("out=one", "out=two stages.vision.objectives.mim.num_tokens=8192"):
        with pytest.raises(ConfigError, match=r"mim\.tokenizer: none\.pt: no such file"):
            run_recipe(recipe(place, "none.pt", *settings.split()))


def test_a_tokenizer_of_other_patches_is_a_problem_at_its_line(checked, place):
    write_codebook(place / "codebook", window=3)
    code, _, err = checked("codebook")
    assert code == 2
    assert "small.yaml:10:24  stages[0].objectives.mim.tokenizer  " in err
    assert "made for pictures of 3 x 3 patches, the model has 4 x 4" in err


@pytest.mark.parametrize("model", ["{name: preflmr, text: tiny, vision: tiny, dim: 16}", "{name: vlm2vec}"])
def test_models_that_hide_no_patches_are_refused(model, checked):
    code, _, err = checked("encoder.pt", f"model={model}", "stages.vision.model={}", "stages.language.model={}")
    assert code == 2
    assert "mim hides patches of pictures, which the model" in err and "(encode_image_masked)" in err


def test_masks_depend_neither_on_ranks_nor_on_workers_nor_on_batches(place):
    processor = toy_model().processor

    def masks(rank=0, world=1, workers=0, batch_size=8):
        mixture = MixtureConfig(
            sources={"pictures.yaml": SourceConfig()}, batch_size=batch_size, num_workers=workers, shuffle_window=0
        )
        data = MixtureDataModule(mixture, processor, frozenset({Need.MASKED_IMAGE}), 3, 32 // batch_size)
        data.rank, data.world = rank, world
        found = {}
        for batch in data.train_dataloader():
            found.update(zip(batch.keys, batch.masked_image.tolist()))
        return found

    alone = masks()
    assert len(alone) == 32
    assert masks(workers=2) == alone
    assert masks(rank=0, world=2) | masks(rank=1, world=2) == alone
    assert masks(batch_size=16) == alone


def test_a_small_model_learns_to_guess_the_tokens_of_emoji():
    """Far below ln K, and below the tokens' own entropy: the rest of the picture helps. The codebook is of colours."""
    steps, window = 80, 4
    mixture = MixtureConfig(
        sources={"demo/emoji": SourceConfig(max_samples=32)},
        batch_size=32,
        image_masking=ImageMaskingConfig(fraction=0.25, min_patches=2),
    )
    model = toy_model(noise=0.0, width=32, depth=2, patch_px=4, vl_layers=0, drop_path=0.0, layer_scale=0.0)
    data = MixtureDataModule(mixture, model.processor, frozenset({Need.MASKED_IMAGE}), 0, steps)
    config = CodebookConfig("toy", VisionSpec("toy", {}, 16, (0.5,) * 3, (0.5,) * 3), window)
    pictures = [data.dataset()[0].query.dense["pixel_values"] * 0.5 + 0.5]
    features = collect_features(config, Colours(), pictures, window**2, seed=0)
    codebook, usage = fit_codebook(config, Colours(), features, 16, range(20), seed=0)
    objective = MIM(MIMConfig(tokenizer="unused"), 32, 16, window)
    objective._opened.append(codebook.frozen())
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
    losses = []
    for batch in data.train_dataloader():
        loss = objective(Step(model, batch)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    last = sum(losses[-10:]) / 10
    assert losses[0] > 0.95 * math.log(16)
    assert last < 0.7 * math.log(16)
    assert last < 0.85 * math.log(usage.perplexity)
