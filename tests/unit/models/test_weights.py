import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmret.errors import CheckpointError
from mmret.models.weights import load_strictly, read_weights

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_safetensors_bin_and_split_files_read_the_same(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    save_file(STATE, tmp_path / "one" / "model.safetensors")
    torch.save(STATE, tmp_path / "two" / "pytorch_model.bin")
    for part, key in (("a", "weight"), ("b", "bias")):
        save_file({key: STATE[key]}, tmp_path / "three" / f"{part}.safetensors")
    index = {"weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}
    (tmp_path / "three" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert all(same(read_weights(tmp_path / name), STATE) for name in ("one", "two", "three"))


def test_a_split_checkpoint_with_a_file_missing_says_which(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"weight": "a-of-2.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"a-of-2\.safetensors, which is not there"):
        read_weights(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        read_weights(tmp_path)


class Surprise:
    def __reduce__(self):
        return (pytest.fail, ("code from a weight file was run",))


def test_code_in_a_weight_file_is_never_run(tmp_path):
    torch.save({"weight": Surprise()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="never executed"):
        read_weights(tmp_path)


def test_an_empty_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_weights(tmp_path)


def test_missing_unknown_and_wrong_shapes_come_in_one_error():
    state = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(nn.Linear(3, 2), state, "model.safetensors")
    text = str(caught.value)
    assert "missing: bias (2,)" in text
    assert "unknown: extra (1,)" in text
    assert "weight is (3, 3), expected (2, 3)" in text
