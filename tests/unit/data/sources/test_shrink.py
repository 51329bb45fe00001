"""`max_px`: the shorter side, only of larger pictures, in their format; of all sources that write pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from mmret.data.sources import SOURCES
from mmret.data.sources.image_folder import read_image
from mmret.data.sources.karpathy import KarpathyConfig
from mmret.data.sources.shrink import shrink
from mmret.errors import ConfigError, SampleError
from tests.unit.data.sources.pictures import picture


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_shorter_side_is_scaled_to_max_px_and_the_format_stays(kind):
    data = picture(3, (90, 60), kind)
    small = opened(shrink(data, 20, "x"))
    assert (small.size, small.format) == ((30, 20), kind)
    assert shrink(data, 60, "x") is data and shrink(data, 61, "x") is data


def test_the_pixels_are_those_of_a_good_filter():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    small = np.asarray(opened(shrink(buffer.getvalue(), 10, "x")), np.int32)
    wanted = np.asarray(Image.fromarray(pixels).resize((15, 10), Image.Resampling.LANCZOS), np.int32)
    assert abs(small - wanted).max() <= 12  # reducing first, by whole factors, changes little


def test_exif_and_colour_profile_stay_so_that_a_reader_turns_both_alike():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture(1, (40, 20), "JPEG", exif=exif.tobytes(), icc_profile=b"profile")
    small = opened(shrink(data, 10, "x"))
    assert small.size == (20, 10) and small.getexif()[0x0112] == 6 and small.info["icc_profile"] == b"profile"


@pytest.mark.parametrize("mode, kind", [("P", "GIF"), ("CMYK", "JPEG"), ("I;16", "PNG"), ("1", "BMP")])
def test_palettes_cmyk_and_16_bits_become_what_training_sees(mode, kind):
    buffer = io.BytesIO()
    Image.new(mode, (40, 20)).save(buffer, kind)
    small = opened(shrink(buffer.getvalue(), 10, "x"))
    assert (small.size, small.mode, small.format) == ((20, 10), "RGB", "JPEG" if kind == "JPEG" else "PNG")


def test_transparency_is_kept_by_formats_that_have_it():
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 20), (9, 9, 9, 0)).save(buffer, "PNG")
    assert opened(shrink(buffer.getvalue(), 10, "x")).mode == "RGBA"


def test_what_is_no_picture_or_half_a_picture_is_told():
    with pytest.raises(SampleError, match="x: 7 bytes do not decode as an image"):
        shrink(b"nothing", 10, "x")
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    with pytest.raises(SampleError, match="do not decode"):
        shrink(buffer.getvalue()[:2000], 10, "x")


def test_a_file_is_copied_unless_it_is_larger(tmp_path):
    file = tmp_path / "named.jpg"
    file.write_bytes(picture(2, (90, 60)))
    assert read_image(file, max_px=60) == ("png", file.read_bytes())
    suffix, data = read_image(file, max_px=30)
    assert (suffix, opened(data).size) == ("png", (45, 30))


def test_all_sources_that_write_pictures_take_it():
    without = {name for name, source in SOURCES.items() if not hasattr(source.Config, "max_px")}
    assert without == {"text"}
    with pytest.raises(ConfigError, match=r"karpathy: max_side \(the longer side\) and max_px .* exclude each other"):
        KarpathyConfig("a", "b", max_side=9, max_px=9)
    with pytest.raises(ConfigError, match="karpathy: max_px must be at least 1, got 0"):
        KarpathyConfig("a", "b", max_px=0)
