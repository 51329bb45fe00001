import json

import pytest

import mmret.models
from mmret.errors import CheckpointError, ConfigError
from mmret.models import PreFLMR
from mmret.models.preflmr import to_published
from tests.unit.models.toys import toy_model


def test_ours_published_and_a_stage_folder_open_by_the_same_call(tmp_path):
    model = toy_model()
    model.save(tmp_path / "ours")
    model.save(tmp_path / "stage" / "model")
    to_published(model, tmp_path / "published")
    for name in ("ours", "stage", "published"):
        opened = mmret.models.load(tmp_path / name)
        assert isinstance(opened, PreFLMR)
        assert not opened.training


def test_overrides_change_settings_and_typos_are_named(tmp_path):
    toy_model().save(tmp_path)
    assert mmret.models.load(tmp_path, query_text_in_score=False).config.query_text_in_score is False
    with pytest.raises(ConfigError, match="Did you mean query_text_in_score"):
        mmret.models.load(tmp_path, query_text_in_scores=False)


def test_an_override_that_changes_sizes_is_refused(tmp_path):
    toy_model().save(tmp_path)
    with pytest.raises(ConfigError, match=r"document_text_linear\.weight \(4, 16\), but the checkpoint has \(8, 16\)"):
        mmret.models.load(tmp_path, dim=4)


@pytest.mark.parametrize(
    "config, message",
    [
        (None, "has no config.json"),
        ("{", "is not JSON"),
        ('{"model_type": "llama"}', "a 'llama' model; known: preflmr"),
        ('{"mmret_model": "preflmr", "config": {"colour": 1}}', "settings this version does not know: colour"),
    ],
)
def test_a_folder_that_is_no_checkpoint_of_ours_says_so(tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        mmret.models.load(tmp_path)


def test_a_hub_id_offline_says_what_to_do():
    with pytest.raises(ConfigError, match=r"hf download LinWeizheDragon/PreFLMR_ViT-L --local-dir"):
        mmret.models.load("LinWeizheDragon/PreFLMR_ViT-L")


def test_config_json_is_readable_and_names_the_version(tmp_path):
    toy_model().save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["mmret_model"] == "preflmr"
    assert settings["mmret_version"] == mmret.__version__
    assert settings["text_backbone"]["hidden_size"] == 16
