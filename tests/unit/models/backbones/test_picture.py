import numpy as np
import pytest
import torch
from PIL import Image

from mmret.models.backbones import PictureSettings, black, pixels
from tests.unit.models.toys import picture

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
except ImportError:  # older releases have one class, and it uses Pillow
    from transformers import CLIPImageProcessor as CLIPImageProcessorPil


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (33, 33), (20, 17), (224, 31)])
def test_pixels_equal_the_published_preprocessing_bit_for_bit(size):
    image = picture(4, size).decode()
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = theirs(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(pixels(image, PictureSettings(32)), expected)


def test_black_is_a_black_picture_of_any_size():
    settings = PictureSettings(16)
    assert torch.equal(black(settings), pixels(Image.new("RGB", (336, 336)), settings))


def test_squash_keeps_the_edges_that_crop_cuts_off():
    image = Image.fromarray(np.repeat(np.array([[255] + [0] * 14 + [255]], np.uint8), 4, 0)).convert("RGB")
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    assert pixels(image, PictureSettings(4, **plain)).max() == 0
    assert pixels(image, PictureSettings(4, **plain, fit="squash")).max() > 0.1


def test_mean_and_std_are_per_channel():
    image = Image.new("RGB", (4, 4), (51, 102, 153))
    made = pixels(image, PictureSettings(2, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    assert torch.allclose(made[:, 0, 0], torch.tensor([0.2, 0.2, 0.15]), atol=1e-6)
