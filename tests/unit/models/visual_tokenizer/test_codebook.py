import json

import pytest
import torch
from torch import nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones import VisionSpec
from mmret.models.visual_tokenizer import (
    Codebook,
    CodebookConfig,
    collect_features,
    fit_codebook,
    load_visual_tokenizer,
    visual_tokenizer_facts,
)
from tests.unit.models.visual_tokenizer.toys import Colours, write_codebook


def colours(centroids, window=2, mean=(0.0,) * 3, std=(1.0,) * 3):
    spec = VisionSpec("toy", {}, 8, mean, std)
    return Codebook(CodebookConfig("toy", spec, window), Colours(), nn.functional.normalize(centroids, dim=-1)).frozen()


def patched(*rows, side=4):
    """A picture of plain patches: rows of colours."""
    picture = torch.tensor(rows, dtype=torch.float32).permute(2, 0, 1)
    return picture.repeat_interleave(side, 1).repeat_interleave(side, 2)[None]


RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
AXES = torch.eye(3)


def test_a_token_is_the_nearest_centroid_by_cosine():
    """Dark green is green: length does not count. (0.6, 0.7, 0) is nearer to green by angle."""
    picture = patched([RED, (0.0, 0.1, 0.0)], [(0.6, 0.7, 0.0), BLUE])
    assert colours(AXES)(picture, 2).tolist() == [[0, 1, 1, 2]]


def test_tokens_stand_row_by_row_from_the_top_left():
    assert colours(AXES)(patched([RED, GREEN], [BLUE, RED]), 2).tolist() == [[0, 1, 2, 0]]


def test_the_tower_sees_its_own_normalisation_and_size():
    """With a mean of 0.5 red, what has no red points away from red: green becomes (-2, 1, 0)."""
    tokenizer = colours(torch.cat([AXES, -AXES]), mean=(0.5, 0.0, 0.0), std=(0.25, 1.0, 1.0))
    assert tokenizer(patched([(0.0, 0.1, 0.0), RED], [GREEN, BLUE]), 2).tolist() == [[3, 0, 3, 3]]
    large = patched([RED, RED], [RED, RED], side=16)
    assert colours(AXES)(large, 2).tolist() == [[0, 0, 0, 0]]


def test_a_coarse_feature_map_is_resampled_to_the_patches():
    """2 x 2 features, 4 x 4 patches: corners keep theirs."""
    tokens = colours(AXES, window=4)(patched([RED, GREEN], [BLUE, RED]), 4).view(4, 4)
    assert [tokens[0, 0], tokens[0, 3], tokens[3, 0], tokens[3, 3]] == [0, 1, 2, 0]
    assert tokens.unique().tolist() == [0, 1, 2]


def test_a_folder_opens_with_the_same_tokens(tmp_path):
    folder = write_codebook(tmp_path / "codebook")
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(4))
    one, two = load_visual_tokenizer(folder), load_visual_tokenizer(folder)
    assert (one.facts.num_tokens, one.facts.window) == (6, 4)
    assert one.facts == visual_tokenizer_facts(folder)
    assert torch.equal(one(pixels, 4), two(pixels, 4))
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_what_is_no_codebook_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no visual tokenizer"):
        load_visual_tokenizer(tmp_path)
    folder = write_codebook(tmp_path / "codebook")
    settings = json.loads((folder / "config.json").read_text())
    settings["config"]["num_tokens"] = 7
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"centroids \(6, \d+\), expected \(7, \d+\)"):
        load_visual_tokenizer(folder)
    (folder / "codebook.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no codebook\.safetensors"):
        load_visual_tokenizer(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="does not parse"):
        load_visual_tokenizer(folder)


def blobs(count, seed=0):
    """Pictures whose patches are one of three colours, a little off."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(3, (count, 2, 2), generator=generator)
    shown = AXES[kinds].permute(0, 3, 1, 2) + 0.05 * torch.rand(count, 3, 2, 2, generator=generator)
    return shown.repeat_interleave(4, 2).repeat_interleave(4, 3), kinds.flatten(1)


def test_fitted_centroids_are_the_clusters_and_usage_says_how_they_are_used():
    pictures, kinds = blobs(60)
    config = CodebookConfig("toy", VisionSpec("toy", {}, 8, (0.0,) * 3, (1.0,) * 3), 2)
    features = collect_features(config, Colours(), pictures.split(16), per_picture=4, seed=0)
    assert features.shape == (240, 3)
    codebook, usage = fit_codebook(config, Colours(), features, 3, range(10), seed=0)
    tokens = codebook.frozen()(pictures, 2)
    names = [kinds[tokens == number].unique().tolist() for number in range(3)]
    assert sorted(names) == [[0], [1], [2]]
    shares = torch.bincount(kinds.flatten()).double() / kinds.numel()
    assert usage.perplexity == pytest.approx(float((-(shares * shares.log()).sum()).exp()))
    assert (usage.vectors, usage.dead) == (240, 0)
    assert 0.99 < usage.similarity <= 1
    again, _ = fit_codebook(config, Colours(), features, 3, range(10), seed=0)
    assert torch.equal(again.centroids, codebook.centroids)


def test_per_picture_takes_that_many_different_patches():
    pictures, _ = blobs(5)
    config = CodebookConfig("toy", VisionSpec("toy", {}, 8, (0.0,) * 3, (1.0,) * 3), 2)
    some = collect_features(config, Colours(), [pictures], per_picture=3, seed=0)
    assert len(some) == 15 and len(some.unique(dim=0)) == 15


def test_too_few_patches_and_no_pictures_say_so():
    config = CodebookConfig("toy", VisionSpec("toy", {}, 8), 2)
    with pytest.raises(ConfigError, match="8 tokens from 5 patches"):
        fit_codebook(config, Colours(), torch.rand(5, 3), 8, range(1), seed=0)
    with pytest.raises(ConfigError, match="no pictures"):
        collect_features(config, Colours(), [], 1, seed=0)
