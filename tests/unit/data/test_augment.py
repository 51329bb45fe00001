import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mmret.data import MixtureDataModule
from mmret.data.augment import OPS, RATIOS, AugmentedImage, augment, augment_row, crop_box
from mmret.data.dice import Dice
from mmret.data.draw import Drawn
from mmret.errors import ConfigError, SampleError
from mmret.image import EncodedImage
from mmret.recipe.schema import AugmentConfig, MixtureConfig, SourceConfig
from mmret.types import Content
from tests.builders import ToyProcessor, build_toy_source

STILL = {"crop_scale": (1.0, 1.0), "flip": False, "ops": 0}
"""Nothing happens."""


def noise(size=(40, 30), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def values(image):
    return np.asarray(image).astype(int)


def row(epoch=0, sample=0, count=1):
    images = tuple(EncodedImage.of(noise(seed=i)) for i in range(count))
    documents = (Content("one", images, id="a"), Content("two", images, id="b"))
    return Drawn("toy", "toy:0", Content("q", images), documents, (1, 2), (1,), (0, "toy", epoch, sample))


def test_a_view_is_a_function_of_the_place_and_of_nothing_else():
    config = AugmentConfig()
    states = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    one, again = augment_row(row(count=2), config), augment_row(row(count=2), config)
    assert all(
        np.array_equal(values(a.decode()), values(b.decode())) for a, b in zip(one.query.images, again.query.images)
    )
    for other in (augment_row(row(epoch=1), config), augment_row(row(sample=1), config)):
        assert not np.array_equal(values(other.query.images[0].decode()), values(one.query.images[0].decode()))
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_pictures_of_one_row_get_views_of_their_own():
    same = EncodedImage.of(noise())
    twice = Drawn("toy", "toy:0", Content("q", (same, same)), (Content("d", (same,)),), (1,), (1,), (0, "toy", 0, 0))
    found = augment_row(twice, AugmentConfig())
    views = [values(image.decode()) for content in (found.query, *found.documents) for image in content.images]
    assert len({view.tobytes() for view in views}) == 3


def test_roles_choose_whose_pictures_change_and_numbers_of_documents_stay():
    found = augment_row(row(), AugmentConfig(roles=["document"]))
    assert type(found.query.images[0]) is EncodedImage
    assert all(type(document.images[0]) is AugmentedImage for document in found.documents)
    assert (found.document_numbers, found.positive_numbers) == ((1, 2), (1,))


def test_the_key_of_a_view_is_not_that_of_the_picture():
    picture = EncodedImage.of(noise())
    views = [AugmentedImage(picture.data, config=AugmentConfig(), place=(place,)) for place in range(3)]
    assert len({picture.key, *(view.key for view in views)}) == 4
    assert views[0].key == AugmentedImage(picture.data, config=AugmentConfig(), place=(0,)).key


def test_with_everything_off_the_picture_stays():
    image = noise()
    assert augment(image, AugmentConfig(**STILL), Dice("a"), px=16) is image


def test_half_of_the_pictures_are_mirrored_unless_flip_is_off():
    image = noise()
    for flip, least, most in ((True, 60, 140), (False, 0, 0)):
        views = [augment(image, AugmentConfig(**{**STILL, "flip": flip}), Dice("flip", n)) for n in range(200)]
        mirrored = sum(np.array_equal(values(view), values(ImageOps.mirror(image))) for view in views)
        assert least <= mirrored <= most
        assert mirrored + sum(np.array_equal(values(view), values(image)) for view in views) == 200


def test_crops_keep_the_wanted_share_and_shape_inside_the_picture():
    boxes = [crop_box(400, 300, (0.5, 1.0), Dice("crop", n)) for n in range(500)]
    for top, left, height, width in boxes:
        assert 0 <= top <= 300 - height and 0 <= left <= 400 - width
        assert 0.5 - 0.01 <= height * width / 120_000 <= 1
        assert RATIOS[0] - 0.01 <= width / height <= RATIOS[1] + 0.01
    shares = [height * width / 120_000 for _, _, height, width in boxes]
    assert min(shares) < 0.55 and max(shares) > 0.9
    assert len({(top > 20, left > 20) for top, left, _, _ in boxes}) == 4


def test_a_picture_too_long_for_any_crop_gives_its_centre():
    assert crop_box(1000, 10, (0.5, 1.0), Dice("long")) == (0, 493, 10, 13)


def test_a_crop_is_scaled_to_what_the_model_wants_and_else_keeps_its_size():
    config = AugmentConfig(flip=False, ops=0)
    assert augment(noise(), config, Dice("size"), px=16).size == (16, 16)
    top, left, height, width = crop_box(40, 30, (0.5, 1.0), Dice("size"))
    cropped = augment(noise(), config, Dice("size"))
    assert np.array_equal(values(cropped), values(noise())[top : top + height, left : left + width])


def test_operations_by_hand():
    image, before = noise(), values(noise())
    moved = values(OPS["translate_x"](image, 0.7))
    assert np.array_equal(moved[:, :33], before[:, 7:]) and (moved[:, 33:] == 128).all()
    moved = values(OPS["translate_y"](image, -0.7))
    assert np.array_equal(moved[7:], before[:23]) and (moved[:7] == 128).all()
    sheared = values(OPS["shear_x"](image, 1.0))
    # Pillow samples at centres of pixels: row y is moved by 0.3 (y + 0.5), at y = 29 by 8.85.
    expected = 0.15 * before[29, 8:39] + 0.85 * before[29, 9:40]
    assert np.abs(sheared[29, :31] - expected).max() <= 1
    bright = values(OPS["brightness"](image, -0.7))
    assert np.abs(bright - np.clip(before * 1.36, 0, 255)).max() <= 1
    assert np.array_equal(values(OPS["equalize"](image, 0.7)), values(ImageOps.equalize(image)))
    assert np.array_equal(values(OPS["identity"](image, 0.7)), before)
    turned = values(OPS["rotate"](Image.new("RGB", (41, 41), (200, 0, 0)), 0.7))
    assert tuple(turned[20, 20]) == (200, 0, 0) and tuple(turned[0, 0]) == (128, 128, 128)


def test_operations_are_the_published_ones_drawn_evenly_and_half_applied(monkeypatch):
    names = "identity autocontrast equalize brightness sharpness shear_x shear_y translate_x translate_y rotate"
    assert list(OPS) == names.split()
    used = []

    def spy(name):
        return lambda image, strength: used.append((name, strength)) or image

    monkeypatch.setattr("mmret.data.augment.OPS", {name: spy(name) for name in OPS})
    for number in range(1000):
        augment(noise((4, 4)), AugmentConfig(**{**STILL, "ops": 2}), Dice("ops", number))
    counts = Counter(name for name, _ in used)
    assert 900 < len(used) < 1100 and all(60 < counts[name] < 145 for name in OPS)
    assert {strength for _, strength in used} == {0.7, -0.7}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"crop_scale": (1.0, 0.5)}, r"crop_scale must be from above 0 to at most 1, the smaller first, got"),
        ({"magnitude": 11}, r"magnitude must be between 0 and 10, got 11"),
        ({"roles": ["querry"]}, r"roles must be query, document or both, got"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**settings)


def test_a_picture_that_does_not_decode_says_so():
    with pytest.raises(SampleError, match="3 bytes do not decode"):
        AugmentedImage(b"abc", "x").decode()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return build_toy_source(tmp_path_factory.mktemp("augment"), num=40)


def batches(spec, rank=0, world=1, start=0, augment=True, workers=0):
    """This rank's rows of batches `start` to 4, as colours of pictures."""
    mixture = MixtureConfig(sources={str(spec): SourceConfig()}, batch_size=8, num_workers=workers)
    mixture.augment = AugmentConfig() if augment else None
    data = MixtureDataModule(mixture, ToyProcessor(), frozenset(), 3, 4)
    data.rank, data.world, data.start = rank, world, start
    return [batch.query.dense["bytes"] for batch in data.train_dataloader()]


def test_batches_are_the_same_on_two_ranks_with_workers_and_after_a_stop(spec):
    whole, plain = batches(spec), batches(spec, augment=False)
    assert all(torch.equal(a[:, :24], b[:, :24]) and not torch.equal(a, b) for a, b in zip(whole, plain))
    parts = zip(batches(spec, 0, 2), batches(spec, 1, 2))
    assert all(torch.equal(torch.cat(part), one) for part, one in zip(parts, whole))
    assert all(torch.equal(a, b) for a, b in zip(batches(spec, start=2), whole[2:]))
    assert all(torch.equal(a, b) for a, b in zip(batches(spec, workers=1), whole))
