import pytest
import torch
from msgspec.structs import replace

from mmret.data.collate import collate
from mmret.data.draw import Drawn
from mmret.data.image_masking import mask_blocks
from mmret.errors import ConfigError
from mmret.recipe.schema import ImageMaskingConfig, MixtureConfig
from mmret.types import Batch, Content, Inputs
from tests.unit.models.toys import picture
from tests.unit.models.vlmo.toys import toy_model


def keys(number, seed=0):
    return [(seed, "source", 0, row) for row in range(number)]


def masks(window=14, rows=400, seed=0, **settings):
    return mask_blocks(window, ImageMaskingConfig(**settings), keys(rows, seed))


def test_blocks_hide_up_to_their_share_and_most_of_it():
    """78 of 196, as BEiT: blocks stop where less than the smallest of 16 is open, or nothing fits."""
    counts = masks().sum(1)
    assert counts.max() <= 78
    assert counts.min() > 78 - 2 * 16
    assert counts.float().mean() > 0.87 * 78


@pytest.mark.parametrize(("window", "fraction", "wanted"), [(14, 0.4, 78), (8, 0.25, 16), (2, 0.3, 1), (4, 1.0, 16)])
def test_exact_hides_as_many_in_each_row(window, fraction, wanted):
    assert (masks(window, 50, fraction=fraction, exact=True).sum(1) == wanted).all()


def test_something_is_hidden_however_small_the_window_or_the_share():
    for window in (1, 2, 3):
        assert masks(window, 50, fraction=0.01).sum(1).min() >= 1


def runs(mask):
    """Lengths of neighbouring hidden patches along rows."""
    found = []
    for row in mask.view(14, 14).tolist():
        length = 0
        for hidden in [*row, False]:
            if hidden:
                length += 1
            elif length:
                found.append(length)
                length = 0
    return found


def test_hidden_patches_stand_in_blocks():
    """As many scattered patches would stand in runs of 1 / (1 - 0.36) = 1.6 on average."""
    lengths = [length for mask in masks(rows=100) for length in runs(mask)]
    assert sum(lengths) / len(lengths) > 3


def test_one_block_alone_has_the_size_and_shape_asked_for():
    """The share is the smallest block: areas 20 up to rounding, sides between 0.3 and 1 / 0.3 to one."""
    for mask in masks(fraction=20 / 196, min_patches=20, rows=200).view(-1, 14, 14):
        places = mask.nonzero()
        if (height_width := (places.max(0).values - places.min(0).values + 1)).prod() == len(places):  # no fallback
            height, width = height_width.tolist()
            assert 12 <= height * width <= 20
            assert 0.3 * 0.6 < height / width < 1 / (0.3 * 0.6)


def test_every_place_is_hidden_sometimes():
    share = masks(rows=2000).float().mean(0).view(14, 14)
    assert share.min() > 0.02 and share.max() < 0.8
    torch.testing.assert_close(share, share.flip(0), atol=0.06, rtol=0)
    torch.testing.assert_close(share, share.T, atol=0.06, rtol=0)


def test_a_row_is_masked_by_its_key_alone():
    whole = masks(rows=9)
    assert torch.equal(whole[3:5], mask_blocks(14, ImageMaskingConfig(), keys(9)[3:5]))
    assert not torch.equal(whole, masks(rows=9, seed=1))
    assert len(whole.unique(dim=0)) == 9


def test_a_given_key_has_always_had_this_mask():
    """Made by this code when it was written: a change would silently change every run."""
    mask = mask_blocks(6, ImageMaskingConfig(min_patches=4), [(7, "demo/emoji", 0, 9)])[0].view(6, 6)
    shown = ["".join(".#"[int(hidden)] for hidden in row) for row in mask]
    assert shown == ["...###", "##....", "##....", "##....", "##....", "##...."]


def rows(sides):
    drawn = []
    for number in range(4):
        query, document = (content(number) for content in sides)
        drawn.append(Drawn("toy", f"toy:{number}", query, (document,), (number,), (number,), (0, "toy", 0, number)))
    return drawn


def shown(number):
    return Content(images=(picture(number, (20, 20)),), id=str(number))


def said(number):
    return Content(f"number {number}", id=str(number))


@pytest.mark.parametrize("sides", [(shown, said), (said, shown)])
def test_the_batch_has_a_mask_for_each_rows_picture_whichever_side_it_is_on(sides):
    processor = toy_model().processor
    batch = collate(rows(sides), processor, image_masking=ImageMaskingConfig())
    assert batch.masked_image.shape == (4, 4) and batch.masked_image.dtype == torch.bool
    alone = collate(rows(sides)[2:3], processor, image_masking=ImageMaskingConfig())
    assert torch.equal(alone.masked_image, batch.masked_image[2:3])
    assert collate(rows(sides), processor).masked_image is None


def test_no_pictures_several_pictures_and_no_patches_say_so():
    processor = toy_model().processor
    with pytest.raises(ConfigError, match="neither queries nor documents have any"):
        collate(rows((said, said)), processor, image_masking=ImageMaskingConfig())
    pair = [replace(row, query=Content(images=row.query.images * 2)) for row in rows((shown, said))]
    with pytest.raises(ConfigError, match="one in each row, and here rows have several"):
        collate(pair, processor, image_masking=ImageMaskingConfig())

    def without(contents, role):
        return processor(contents, role)

    with pytest.raises(ConfigError, match="cuts into no patches"):
        collate(rows((shown, said)), without, image_masking=ImageMaskingConfig())


def test_masks_move_with_the_batch():
    batch = Batch(Inputs({"x": torch.zeros(1)}), None, 0, masked_image=torch.ones(1, 4, dtype=torch.bool))
    assert batch.to("meta").masked_image.device.type == "meta"


def test_masking_is_a_setting_of_the_data():
    assert MixtureConfig(sources={}, batch_size=4).image_masking == ImageMaskingConfig(0.4, 16, 0.3, False)
    for wrong in ({"fraction": 0.0}, {"min_patches": 0}, {"min_aspect": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ImageMaskingConfig(**wrong)
