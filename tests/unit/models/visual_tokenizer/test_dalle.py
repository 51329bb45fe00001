import numpy as np
import pytest
import torch

from mmret.errors import CheckpointError, ConfigError
from mmret.models.visual_tokenizer import DalleEncoder, load_visual_tokenizer, visual_tokenizer_facts
from tests.unit.models.visual_tokenizer.toys import dalle, write_dalle


def slow_conv(maps, w, b):
    """Every output pixel as its own sum, zeros beyond the edge."""
    side = w.shape[-1]
    edge = side // 2
    padded = np.pad(maps, ((0, 0), (edge, edge), (edge, edge)))
    out = np.zeros((len(w), *maps.shape[1:]))
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            seen = padded[:, row : row + side, column : column + side]
            out[:, row, column] = [(seen * kernel).sum() for kernel in w] + b
    return out


def slow_pool(maps):
    channels, height, width = maps.shape
    return maps.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def slow_logits(state, pixels, blocks):
    """The encoder written out over its published names: one picture [3, h, w] in [0, 1] -> [K, h / 8, w / 8]."""
    state = {key: value.double().numpy() for key, value in state.items()}

    def conv(name, maps):
        return slow_conv(maps, state[f"{name}.w"], state[f"{name}.b"])

    maps = conv("blocks.input", 0.8 * pixels + 0.1)
    for group in (1, 2, 3, 4):
        for block in range(1, blocks + 1):
            name = f"blocks.group_{group}.block_{block}"
            inner = maps
            for number in (1, 2, 3, 4):
                inner = conv(f"{name}.res_path.conv_{number}", np.maximum(inner, 0))
            shortcut = conv(f"{name}.id_path", maps) if f"{name}.id_path.w" in state else maps
            maps = shortcut + inner / (4 * blocks) ** 2
        if group < 4:
            maps = slow_pool(maps)
    return conv("blocks.output.conv", np.maximum(maps, 0))


@pytest.mark.parametrize("blocks", [1, 2])
def test_encoder_equals_the_one_written_out(blocks):
    encoder = dalle(num_tokens=11, width=4, blocks=blocks)
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    slow = torch.from_numpy(slow_logits(encoder.state_dict(), pixels.double().numpy(), blocks))
    torch.testing.assert_close(encoder.logits(0.8 * pixels[None] + 0.1)[0].double(), slow, rtol=1e-4, atol=1e-4)
    assert torch.equal(encoder(pixels[None], 2), slow.argmax(0).flatten()[None])


def test_names_and_sizes_are_those_of_the_published_state_dict():
    """74 tensors, 53,786,240 numbers: 215 MB in float32, as the published file."""
    with torch.device("meta"):
        state = DalleEncoder().state_dict()
    parts = ["blocks.input", "blocks.output.conv", *(f"blocks.group_{group}.block_1.id_path" for group in (2, 3, 4))]
    for group in (1, 2, 3, 4):
        for block in (1, 2):
            parts += [f"blocks.group_{group}.block_{block}.res_path.conv_{n}" for n in (1, 2, 3, 4)]
    assert state.keys() == {f"{part}.{kind}" for part in parts for kind in "wb"}
    assert sum(value.numel() for value in state.values()) == 53_786_240
    assert state["blocks.input.w"].shape == (256, 3, 7, 7)
    assert state["blocks.group_3.block_1.res_path.conv_1.w"].shape == (256, 512, 3, 3)
    assert state["blocks.group_3.block_1.res_path.conv_4.w"].shape == (1024, 256, 1, 1)
    assert state["blocks.group_3.block_1.id_path.w"].shape == (1024, 512, 1, 1)
    assert state["blocks.output.conv.w"].shape == (8192, 2048, 1, 1)


def test_a_file_opens_with_the_sizes_of_its_tensors(tmp_path):
    path = write_dalle(tmp_path / "encoder.pt", num_tokens=16, width=8, blocks=2)
    facts, opened = visual_tokenizer_facts(path), load_visual_tokenizer(path)
    assert (facts.num_tokens, facts.window) == (16, None) == (opened.facts.num_tokens, opened.facts.window)
    assert not opened.training and not any(p.requires_grad for p in opened.parameters())
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened(pixels, 4), dalle(num_tokens=16, width=8, blocks=2)(pixels, 4))


def test_a_picture_is_read_at_eight_pixels_a_patch():
    """224 px of 14 patches are read as 112, as BEiT does."""
    encoder = dalle()
    large = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)).round()
    large = large.repeat_interleave(4, 2).repeat_interleave(4, 3)
    halved = torch.nn.functional.interpolate(large, (32, 32), mode="bilinear", antialias=True)
    expected = encoder.logits(0.8 * halved + 0.1).argmax(1).flatten(1)
    assert len(expected.unique()) > 4
    assert torch.equal(encoder(large, 4), expected)


def test_tokens_are_float32_work_under_autocast():
    encoder, pixels = dalle(), torch.rand(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(pixels.bfloat16().float(), 4), encoder(pixels.bfloat16().float(), 4))
        inside = encoder(pixels, 4)
    assert torch.equal(inside, encoder(pixels, 4))


def test_missing_and_unknown_entries_are_listed(tmp_path):
    state = dict(dalle().state_dict())
    del state["blocks.group_2.block_1.id_path.b"]
    torch.save(state | {"blocks.output.scale": torch.ones(1)}, tmp_path / "encoder.pt")
    with pytest.raises(CheckpointError) as error:
        load_visual_tokenizer(tmp_path / "encoder.pt")
    assert "missing: blocks.group_2.block_1.id_path.b" in str(error.value)
    assert "unknown: blocks.output.scale" in str(error.value)


def test_the_published_pickle_is_refused_and_how_to_take_its_state_dict_is_said(tmp_path):
    torch.save(dalle(), tmp_path / "encoder.pkl")
    with pytest.raises(CheckpointError, match=r"no state dict.*weights_only=False\)\.state_dict\(\), 'encoder\.pt'\)"):
        load_visual_tokenizer(tmp_path / "encoder.pkl")


def test_another_models_file_and_no_file_say_so(tmp_path):
    torch.save({"cls_token": torch.zeros(1)}, tmp_path / "beit.pt")
    with pytest.raises(CheckpointError, match="no DALL-E encoder"):
        load_visual_tokenizer(tmp_path / "beit.pt")
    with pytest.raises(ConfigError, match="no such file or folder"):
        load_visual_tokenizer("no-tokenizer")
    with pytest.raises(ConfigError, match="no such file or folder"):
        visual_tokenizer_facts(tmp_path / "none.pt")
