import weakref

import pytest
import torch

from mmret.models.vlmo.position import RelativePositions, image_index, table_rows, text_index, window_of
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


@pytest.mark.parametrize("px, rows", [(224, 1126), (384, 2606), (480, 3878)])
def test_published_tables_have_the_rows_we_count(px, rows):
    assert table_rows(px // 16, 196) == rows
    assert window_of(rows, 196) == px // 16


def test_rows_of_no_square_picture_are_recognised():
    assert window_of(1127, 196) is None
    assert window_of(3, 196) is None


def test_image_index_is_query_minus_key():
    """By hand for 2 x 2 patches: 9 offsets, rows 0..8; [CLS] row 9, column 10, corner 11."""
    expected = [
        [11, 9, 9, 9, 9],
        [10, 4, 3, 1, 0],
        [10, 5, 4, 2, 1],
        [10, 7, 6, 4, 3],
        [10, 8, 7, 5, 4],
    ]
    assert image_index(2).tolist() == expected


def test_text_index_is_key_minus_query():
    """By hand for 2 x 2 patches (rows 0..11, joint 12, 13) and a span of 5: distances -3..3 are rows 14..20."""
    assert text_index(4, 2, 5).tolist() == [[23, 21, 21, 21], [22, 17, 18, 19], [22, 16, 17, 18], [22, 15, 16, 17]]
    assert table_rows(2, 5) == 24


def test_a_shorter_text_has_the_corner_of_a_longer_ones_index():
    assert torch.equal(text_index(3, 4, 20), text_index(9, 4, 20)[:3, :3])


def test_joint_index_has_one_row_for_each_direction_across():
    positions = RelativePositions(2, 5, 1, 1)
    index = positions.index(3, True)
    assert index.shape == (8, 8)
    assert set(index[:3, 3:].flatten().tolist()) == {12}
    assert set(index[3:, :3].flatten().tolist()) == {13}
    assert torch.equal(index[:3, :3], text_index(3, 2, 5))
    assert torch.equal(index[3:, 3:], image_index(2))


def test_a_layers_bias_is_its_own_columns():
    positions = RelativePositions(2, 5, heads=2, layers=3)
    with torch.no_grad():
        positions.table.copy_(torch.arange(24 * 6).view(24, 6).float())
    index = positions.index(3, False)
    bias = positions.bias(1, index)
    assert bias.shape == (1, 2, 3, 3)
    for head in range(2):
        for i in range(3):
            for j in range(3):
                assert bias[0, head, i, j] == index[i, j] * 6 + 2 + head


def watched(model):
    """Storages of the biases that a model hands to attention, and how many were alive when each was made."""
    made, most, own = [], [], model.backbone._bias

    def noted(layer, sequence, dtype):
        bias = own(layer, sequence, dtype)
        made.append(weakref.ref(bias.untyped_storage()))
        most.append(sum(storage() is not None for storage in made))
        return bias

    model.backbone._bias = noted
    return made, most


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_layers_bias_is_alive_at_a_time(attention):
    """Released code gathers all layers' at once: at 480 px 510 MB in base, of which one layer has a twelfth."""
    model = toy_model(depth=6, attention=attention)
    made, most = watched(model)
    with torch.no_grad():
        model.encode_pair(texts(), pictures())
    assert len(made) == 6
    assert max(most) == 1


@pytest.mark.parametrize("settings", [{}, {"attention": "eager"}, {"checkpoint_blocks": True}])
@pytest.mark.parametrize("frozen", [False, True])
def test_no_layers_bias_waits_for_the_backward_pass(settings, frozen):
    """A frozen table makes torch take its fused kernel on the CPU, too, which keeps the bias that it is given."""
    model = toy_model(depth=6, **settings)
    model.backbone.positions.table.requires_grad_(not frozen)
    made, most = watched(model)
    pooled = model.encode_pair(texts(), pictures()).pooled
    assert max(most) == 1
    assert not any(storage() is not None for storage in made)
    pooled.sum().backward()
    assert max(most) == 1
    assert model.backbone.blocks[0].attention["all"].q_bias.grad.abs().sum() > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_a_bias_made_anew_gives_the_gradients_of_a_kept_one(frozen):
    gradients = []
    for keep in (True, False):
        model = toy_model()
        model.backbone.positions.table.requires_grad_(not frozen)
        if keep:
            for block in model.backbone.blocks:
                block.forward = lambda hidden, route, bias, regather, own=block.forward: own(hidden, route, bias, False)
        made, _ = watched(model)
        pooled = model.encode_pair(texts(), pictures()).pooled
        assert any(storage() is not None for storage in made) == (keep and frozen)
        pooled.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert ("backbone.positions.table" in gradients[0]) != frozen
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())
