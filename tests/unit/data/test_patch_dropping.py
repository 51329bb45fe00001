import pytest
import torch

from mmret.data import MixtureDataModule
from mmret.data.patch_dropping import drop_patches, kept_patches
from mmret.errors import ConfigError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import Inputs
from tests.builders import ToyProcessor, build_toy_source


@pytest.mark.parametrize("fraction, count", [(0.0, 16), (0.5, 8), (0.75, 4), (0.8, 3), (0.99, 1)])
def test_as_many_patches_stay_as_the_fraction_says(fraction, count):
    kept = kept_patches(16, fraction, [("s", row) for row in range(50)])
    assert kept.shape == (50, count) and kept.dtype == torch.int64
    assert (kept.diff(dim=1) > 0).all() and kept.min() >= 0 and kept.max() < 16


def test_each_patch_is_kept_as_often_as_another_and_keys_alone_decide():
    keys = [("s", row) for row in range(4000)]
    kept = kept_patches(16, 0.75, keys)
    counts = kept.flatten().bincount(minlength=16)
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5
    assert torch.equal(kept_patches(16, 0.75, keys[7:9]), kept[7:9])


def data(spec, processor=None, start=0, rank=0, world=1, **fields):
    config = {"sources": {str(spec): SourceConfig()}, "batch_size": 4, "documents_per_query": 1, "drop_patches": 0.5}
    module = MixtureDataModule(MixtureConfig(**config | fields), processor or Pictures(), frozenset(), 0, 6)
    module.start, module.rank, module.world = start, rank, world
    return [batch.query for batch in module.train_dataloader()]


class Pictures:
    """Blank pictures of 16 patches as queries; documents are nothing."""

    patches = 16

    def __call__(self, contents, role):
        return Inputs({"pixel_values" if role == "query" else "rows": torch.zeros(len(contents), 3, 32, 32)})


def test_the_kept_patches_depend_on_the_samples_place_alone(tmp_path):
    spec = build_toy_source(tmp_path, num=8)
    whole = [inputs.dense["kept_patches"] for inputs in data(spec)]
    assert all(kept.shape == (4, 8) for kept in whole)
    later = [inputs.dense["kept_patches"] for inputs in data(spec, start=4)]
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], later)) and len(later) == 2
    parts = [[inputs.dense["kept_patches"] for inputs in data(spec, rank=rank, world=2)] for rank in (0, 1)]
    assert all(torch.equal(torch.cat(both), one) for both, one in zip(zip(*parts), whole))
    # Six batches of four are three epochs of eight samples: other patches each time.
    assert len({tuple(row) for kept in whole for row in kept.tolist()}) == 24


def test_nothing_is_dropped_unless_asked(tmp_path):
    assert all("kept_patches" not in inputs for inputs in data(build_toy_source(tmp_path, num=8), drop_patches=0.0))


def test_a_model_that_reads_whole_pictures_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"data.drop_patches: the model of ToyProcessor reads whole pictures only"):
        data(build_toy_source(tmp_path, num=8), ToyProcessor())


@pytest.mark.parametrize(
    "dense, message",
    [
        ({"vision_features": torch.zeros(1, 5, 8)}, "outputs come from the feature cache"),
        ({"pixel_values": torch.zeros(1, 2, 3, 8, 8)}, "wants one picture in each row, and here rows have several"),
    ],
)
def test_inputs_without_patches_to_leave_out_say_why(dense, message):
    with pytest.raises(ConfigError, match=message):
        drop_patches(Inputs(dense), 4, 0.5, [("s",)])


def test_rows_without_pictures_pass():
    inputs = Inputs({"input_ids": torch.zeros(1, 3)})
    assert drop_patches(inputs, 4, 0.5, [("s",)]) is inputs


def test_the_share_must_leave_something():
    with pytest.raises(ConfigError, match=r"drop_patches must be at least 0 and below 1, got 1"):
        MixtureConfig(sources={}, batch_size=4, drop_patches=1.0)
