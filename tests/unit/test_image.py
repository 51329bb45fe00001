"""What a picture in a shard is decoded to, and what is refused. Both ways, torchvision's and Pillow's, must agree."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.errors import SampleError
from mmret.image import EncodedImage
from mmret.models.backbones import PictureSettings, resized


def picture(size, mode="RGB"):
    """A smooth picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def values(data):
    return np.asarray(EncodedImage(data, "there").decode())


def png(rows, depth, colour):
    """A PNG of big-endian rows [H, W, channels]."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


JPEGS = {
    "plain": encoded(picture((61, 40))),
    "grey": encoded(picture((61, 40), "L")),
    "progressive": encoded(picture((61, 40)), progressive=True),
    "progressive grey": encoded(picture((61, 40), "L"), progressive=True),
    "444": encoded(picture((61, 40)), subsampling=0),
    "restarts": encoded(picture((61, 40)), restart_marker_rows=1),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_both_ways_read_the_same_values(kind):
    found = EncodedImage(JPEGS[kind]).decode_jpeg()
    assert found is not None and found.dtype == torch.uint8 and found.shape == (3, 40, 61)
    assert np.array_equal(found.permute(1, 2, 0), values(JPEGS[kind]))
    if "grey" in kind:
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_cmyk_is_read_by_pillow_and_keeps_its_colours():
    data = encoded(Image.new("RGB", (40, 40), (200, 30, 60)).convert("CMYK"), quality=95)
    assert EncodedImage(data).decode_jpeg() is None
    assert np.abs(values(data).astype(int) - (200, 30, 60)).max() <= 3
    assert torch.equal(
        resized(EncodedImage(data), PictureSettings(8)), resized(EncodedImage(data).decode(), PictureSettings(8))
    )


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_turns_a_picture_neither_way(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned, plain = encoded(picture((61, 40)), exif=exif), JPEGS["plain"]
    assert np.array_equal(values(turned), values(plain))
    assert torch.equal(EncodedImage(turned).decode_jpeg(), EncodedImage(plain).decode_jpeg())


@pytest.mark.parametrize("kind", ["plain", "grey", "progressive"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_cut_jpeg_is_a_broken_sample_either_way(kind, share):
    image = EncodedImage(JPEGS[kind][: int(len(JPEGS[kind]) * share)], "there")
    assert image.decode_jpeg() is None
    with pytest.raises(SampleError, match=r"^there: \d+ bytes do not decode as an image"):
        image.decode()
    with pytest.raises(SampleError, match=r"^there: \d+ bytes do not decode as an image"):
        resized(image, PictureSettings(8))


def test_a_jpeg_whose_end_is_zeros_is_broken_though_its_thumbnail_has_an_end():
    thumbnail = encoded(picture((16, 16)))
    exif = b"Exif\0\0" + thumbnail
    header = b"\xff\xd8" + b"\xff" + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    whole = header + JPEGS["plain"][2:]
    assert np.array_equal(values(whole), values(JPEGS["plain"]))
    half = len(JPEGS["plain"]) * 3 // 4
    for data in (whole[: len(header) + half] + bytes(5000), JPEGS["plain"][:half] + bytes(5000)):
        image = EncodedImage(data, "there")
        assert Image.open(io.BytesIO(data)).convert("RGB").size == (61, 40)  # Pillow alone takes it
        assert image.decode_jpeg() is None
        with pytest.raises(SampleError, match=r"there: \d+ bytes do not decode as an image \(its end is missing\)"):
            image.decode()


def test_what_follows_the_end_of_a_jpeg_is_not_read():
    assert np.array_equal(values(JPEGS["plain"] + bytes(100)), values(JPEGS["plain"]))


def test_of_sixteen_bits_the_upper_eight_stay_in_grey_as_in_colour():
    grey = (np.arange(12).reshape(4, 3, 1) * 5000).astype(">u2")
    opaque = np.concatenate([grey, np.full_like(grey, 65535)], 2).astype(">u2")
    expected = np.repeat(grey >> 8, 3, 2)
    assert np.array_equal(values(png(grey, 16, 0)), expected)
    assert np.array_equal(values(png(np.repeat(grey, 3, 2), 16, 2)), expected)
    assert np.array_equal(values(png(opaque, 16, 4)), expected)
    tiff = encoded(Image.fromarray(grey[:, :, 0].astype(np.uint16)), "TIFF")
    assert np.array_equal(values(tiff), expected)
    pgm = b"P5 3 4 65535\n" + grey.tobytes()
    assert np.array_equal(values(pgm), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_picture_whose_white_nobody_knows_is_a_broken_sample(dtype):
    data = encoded(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(SampleError, match="there: a TIFF of 32 bits a channel says nowhere which value is white"):
        values(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_sides_of_one_pixel_make_a_whole_picture(size, fit, format):
    image = EncodedImage(encoded(picture(size), format))
    found = resized(image, PictureSettings(16, fit=fit))
    assert found.shape == (3, 16, 16)
    alike = resized(image.decode(), PictureSettings(16, fit=fit)).int()
    assert (found.int() - alike).abs().max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(2, 1000), (1000, 2)])
def test_of_an_endless_picture_only_the_middle_is_scaled(size, format, monkeypatch):
    made = []
    plain_resize, plain_interpolate = Image.Image.resize, torch.nn.functional.interpolate
    from mmret.models.backbones import picture as module

    def resize(image, to, *rest):
        made.append(to[0] * to[1])
        return plain_resize(image, to, *rest)

    def interpolate(values, to, **rest):
        made.append(to[0] * to[1])
        return plain_interpolate(values, to, **rest)

    image = EncodedImage(encoded(picture(size), format))
    monkeypatch.setattr(module, "LONGEST", 10_000)
    whole = resized(image, PictureSettings(16))
    monkeypatch.undo()
    monkeypatch.setattr(Image.Image, "resize", resize)
    monkeypatch.setattr(module, "interpolate", interpolate)
    assert torch.equal(resized(image, PictureSettings(16)), whole)
    assert made == [16 * 16 * module.LONGEST]


def test_a_picture_that_lies_in_a_shard_decodes_and_pickles_like_its_bytes():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)).save(buffer, "JPEG")
    stored, view = EncodedImage(buffer.getvalue()), EncodedImage(memoryview(buffer.getvalue()))
    assert torch.equal(view.decode_jpeg(), stored.decode_jpeg()) and view.key == stored.key
    assert view.decode().tobytes() == stored.decode().tobytes()
    assert isinstance(pickle.loads(pickle.dumps(view)).data, bytes) and pickle.loads(pickle.dumps(view)) == stored
