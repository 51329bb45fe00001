"""A captioning model of transformers from a local folder, at toy size."""

import pytest
from PIL import Image

from mmret.errors import ConfigError
from mmret.models.captioner import Captioner
from tests.toy_blip import WORDS, write_blip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp("blip"))


def pictures():
    return [Image.new("RGB", (20, 12), colour) for colour in ("red", "navy", "white")]


def test_each_picture_gets_a_caption_of_the_models_words_and_always_the_same(folder):
    captioner = Captioner(folder, None, 6, "cpu")
    texts = captioner(pictures())
    assert len(texts) == 3
    assert all(set(text.split()) <= set(WORDS[5:]) for text in texts)
    assert any(texts)
    assert [captioner([picture])[0] for picture in pictures()] == texts  # the batch does not matter


def test_a_folder_that_is_not_here_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: no such folder; download the model .* --local-dir FOLDER"):
        Captioner(tmp_path / "nowhere", None, 6, "cpu")


def test_a_folder_without_a_captioning_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="transformers opens no captioning model there"):
        Captioner(tmp_path, None, 6, "cpu")
