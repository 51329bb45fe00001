"""What a later stage or the evaluation would fail on ends the run before its first stage trains."""

import shutil

import pytest

from mmret.errors import CheckpointError, ConfigError, MMRetError, SampleError


@pytest.fixture
def broken(toy_source, tmp_path):
    """The toy source's folder without its shards."""
    folder = tmp_path / "broken"
    shutil.copytree(toy_source.parent, folder)
    for shard in folder.glob("*.tar"):
        shard.unlink()
    return folder


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            ["stages.joint.lr_scale={nosuch: 1, '.*': 0}"],
            ConfigError,
            "stage joint: lr_scale pattern 'nosuch' matches no",
        ),
        (["stages.joint.init_from=gone/model"], CheckpointError, "stage joint: init_from: gone/model is not there"),
        (["stages.joint.data.sources={{broken}/toy.yaml: 1}"], SampleError, "train-000000.tar"),
        (["evaluation.benchmarks=[{broken}/benchmark.yaml]"], SampleError, "heldout-000000.tar"),
    ],
)
def test_it_is_refused_before_anything_trains(settings, error, message, run, broken, tmp_path):
    assert issubclass(error, MMRetError)
    with pytest.raises(error, match=message):
        run(*(text.replace("{broken}", str(broken)) for text in settings))
    assert not list((tmp_path / "run").glob("mapping/*"))


def test_a_start_from_an_earlier_stage_of_the_run_is_still_to_come(run, tmp_path):
    settings = ["stages.mapping.steps=1", "stages.joint.steps=1", "evaluation.benchmarks=[]"]
    run(*settings, f"stages.joint.init_from={tmp_path / 'run' / 'mapping'}")
