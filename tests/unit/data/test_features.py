import os
import pickle

import pytest
import torch

from mmret.data.features import FeatureReader, FeatureWriter, fingerprint


def keys(count):
    return [bytes([i]) * 16 for i in range(count)]


def fill(root, features, name="tower", dtype="float32", max_gb=1.0):
    writer = FeatureWriter(root, name, dtype, max_gb)
    stored = [writer.add(key, value) for key, value in zip(keys(len(features)), features)]
    writer.close()
    return stored


def test_features_come_back_by_key_whatever_their_length(tmp_path):
    features = [torch.randn(length, 3) for length in (1, 4, 2)]
    fill(tmp_path, features)
    reader = FeatureReader(tmp_path / "tower")
    for key, value in zip(keys(3), features):
        assert torch.equal(reader.get(key), value)
    assert b"\xff" * 16 not in reader
    with pytest.raises(KeyError):
        reader.get(b"\xff" * 16)


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_is_read_as_float32(tmp_path, dtype, error):
    feature = torch.randn(5, 7)
    fill(tmp_path, [feature], dtype=dtype)
    read = FeatureReader(tmp_path / "tower").get(keys(1)[0])
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, feature, atol=error, rtol=error)


def test_what_was_not_closed_never_existed(tmp_path):
    writer = FeatureWriter(tmp_path, "tower", "float32", 1.0)
    writer.add(keys(1)[0], torch.zeros(1, 1))
    assert len(FeatureReader(tmp_path / "tower")) == 0
    writer.close()
    assert len(FeatureReader(tmp_path / "tower")) == 1


def test_the_bound_holds_and_says_so(tmp_path):
    stored = fill(tmp_path, [torch.zeros(1, 100)] * 4, max_gb=1000 / 1e9)  # 400 bytes each
    assert stored == [True, True, False, False]


def test_the_tower_unused_for_longest_makes_room(tmp_path):
    fill(tmp_path, [torch.zeros(1, 100)], name="old")
    fill(tmp_path, [torch.zeros(1, 100)], name="new")
    os.utime(tmp_path / "old", (1, 1))
    assert fill(tmp_path, [torch.zeros(1, 100)], name="third", max_gb=4000 / 1e9) == [True]
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "third").exists()


def test_reader_pickles_for_data_workers(tmp_path):
    feature = torch.randn(2, 2)
    fill(tmp_path, [feature])
    reader = FeatureReader(tmp_path / "tower")
    assert len(reader) == 1
    assert torch.equal(pickle.loads(pickle.dumps(reader)).get(keys(1)[0]), feature)


def test_fingerprint_changes_with_any_weight_and_setting():
    state = {"w": torch.zeros(3)}
    other = {"w": torch.tensor([0.0, 0.0, 1e-30])}
    assert len({fingerprint(state), fingerprint(other), fingerprint(state, "224 px")}) == 3
    assert fingerprint(state) == fingerprint({"w": torch.zeros(3)})
