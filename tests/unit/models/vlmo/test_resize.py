import numpy as np
import pytest
import torch

from mmret.errors import CheckpointError
from mmret.models import VLMo
from mmret.models.vlmo.resize import _geometric_grid, resize_absolute, resize_offsets, resize_table
from mmret.training.handover import hand_over
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def test_grid_reaches_the_wanted_offsets_in_growing_steps():
    grid = _geometric_grid(13, 23)
    assert len(grid) == 27 and grid[13] == 0
    assert grid[-1] == pytest.approx(23, abs=1e-3)
    steps = np.diff(grid[13:])
    assert steps[0] == 1
    assert np.allclose(steps[1:] / steps[:-1], steps[1])


def test_resampled_offsets_keep_a_cubic_and_the_other_rows():
    """A bicubic spline reproduces what is a cubic of the offset exactly, wherever it is sampled."""
    grid = torch.tensor(_geometric_grid(4, 6)).double()

    def cubic(at):
        return (0.1 * at**3 - at)[:, None] * 0.2 + (0.3 * at**2)[None, :] + 1

    table = torch.cat([cubic(grid).reshape(-1, 1), torch.tensor([[7.0], [8.0], [9.0]])]).float()
    resized = resize_offsets(table, 5, 7)
    assert resized.shape == (169 + 3, 1)
    expected = cubic(torch.arange(-6, 7).double()).reshape(-1, 1).float()
    torch.testing.assert_close(resized[:-3], expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(resized[-3:], table[-3:])


def test_the_same_size_is_left_alone():
    table = torch.randn(94, 4)
    assert resize_table(table, 4, 20) is table
    position = torch.randn(1, 17, 4)
    assert resize_absolute(position, 4) is position


def test_absolute_positions_keep_cls_and_interpolate_patches():
    position = torch.randn(1, 17, 4)
    resized = resize_absolute(position, 6)
    assert torch.equal(resized[:, 0], position[:, 0])
    grid = position[:, 1:].view(1, 4, 4, 4).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, (6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[:, 1:].view(1, 6, 6, 4).permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_our_own_checkpoint_opens_at_another_image_size_and_keeps_its_texts(positions, tmp_path):
    model = toy_model(image_px=32, positions=positions)
    model.save(tmp_path)
    larger = VLMo.load(tmp_path, image_px=56).eval()
    torch.testing.assert_close(larger.encode(texts()).vectors, model.encode(texts()).vectors)
    assert larger.encode(pictures(px=56)).vectors.isfinite().all()


def test_a_stage_takes_over_a_smaller_picture_and_a_longer_text():
    before, after = toy_model(max_text_tokens=12, vl_layers=0), toy_model(seed=1, image_px=32)
    report = hand_over(after, before.state_dict(), "language")
    assert "backbone.positions.table" in report.kept
    assert not report.dropped
    torch.testing.assert_close(after.encode_text(texts()), before.encode_text(texts()))


def test_too_few_absolute_positions_for_the_text_are_refused():
    before, after = (toy_model(max_text_tokens=n, positions="absolute") for n in (9, 12))
    with pytest.raises(CheckpointError, match=r"9 text positions, model\.max_text_tokens asks for 12"):
        after.adapt_state(before.state_dict())


def test_a_second_type_starts_as_a_copy_of_the_first():
    state = toy_model(image_types=2).adapt_state(toy_model().state_dict())["backbone.modality.weight"]
    assert state.shape == (3, 16)
    assert torch.equal(state[2], state[1])
