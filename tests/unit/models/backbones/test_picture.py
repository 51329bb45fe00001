import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.errors import SampleError
from mmret.models.backbones import PictureSettings, black, pixels, resized
from mmret.types import EncodedImage
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


def jpeg(seed, size, mode="RGB", **options):
    """A smooth picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize(
    "size, mode, options",
    [((640, 480), "RGB", {}), ((301, 417), "RGB", {"progressive": True, "subsampling": 0}), ((90, 224), "L", {})],
)
def test_a_jpeg_is_decoded_alike_and_scaled_to_within_a_tenth_of_a_grey_level(size, mode, options, fit):
    image = EncodedImage(jpeg(0, size, mode, **options))
    assert np.array_equal(image.decode_jpeg().permute(1, 2, 0), np.asarray(image.decode()))
    settings = PictureSettings(64, fit=fit)
    mine, pillow = resized(image, settings).int(), resized(image.decode(), settings).int()
    assert mine.shape == pillow.shape == (3, 64, 64)
    assert (mine - pillow).abs().max() <= 2 and (mine - pillow).abs().float().mean() < 0.1


@pytest.mark.parametrize("data", [jpeg(0, (40, 40), "CMYK"), picture(4).data, jpeg(0, (40, 40)) + b"more"])
def test_what_torchvision_reads_otherwise_is_left_to_pillow(data):
    image = EncodedImage(data)
    expected = resized(image.decode(), PictureSettings(32)).int()
    assert (resized(image, PictureSettings(32)).int() - expected).abs().max() <= (
        0 if image.decode_jpeg() is None else 1
    )


@pytest.mark.parametrize("cut", [100, 700])
def test_a_cut_jpeg_is_a_broken_sample(cut):
    with pytest.raises(SampleError, match=f"there: {cut} bytes do not decode as an image"):
        resized(EncodedImage(jpeg(0, (64, 64))[:cut], "there"), PictureSettings(32))


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize(
    "size, decoded", [((640, 480), (320, 240)), ((1200, 1100), (150, 138)), ((255, 255), (255, 255))]
)
def test_scaled_decoding_keeps_twice_what_is_wanted_and_stays_near(size, decoded, fit):
    image, full = EncodedImage(jpeg(2, size)), PictureSettings(64, fit=fit)
    found = image.decode_jpeg(128)
    assert (found.shape[2], found.shape[1]) == decoded
    ours, theirs = resized(image, PictureSettings(64, fit=fit, decode="scaled")), resized(image, full)
    assert (ours.float() - theirs.float()).abs().mean() < (1.5 if decoded != size else 1e-9)


def test_a_cut_jpeg_is_broken_when_decoded_scaled_as_well():
    data = jpeg(2, (640, 480))
    with pytest.raises(SampleError, match="do not decode"):
        resized(EncodedImage(data[: len(data) // 2]), PictureSettings(64, decode="scaled"))
