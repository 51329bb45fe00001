"""What launchers say reaches the trainer; what contradicts the recipe, or would run as separate jobs, is refused."""

import pytest

from mmret.errors import ConfigError, EnvironmentProblem
from mmret.launch import load_for_launch, process_count, process_rank
from tests.fake_tables import TINY

FABRIC = {"LT_CLI_USED": "1", "LT_DEVICES": "2", "LT_NUM_NODES": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "2"}


@pytest.fixture
def trainer(write):
    """trainer(environ, trainer section) -> what the recipe says of the trainer then."""

    def load(environ, section="{}", overrides=()):
        return load_for_launch(write(f"{TINY}trainer: {section}\n"), overrides, environ).recipe.trainer

    return load


def test_without_a_launcher_the_recipe_stands(trainer):
    assert trainer({}, "{devices: 4}").devices == 4


def test_fabric_run_reaches_the_trainer_with_its_own_origin(write):
    environ = {**FABRIC, "LT_ACCELERATOR": "cpu", "LT_STRATEGY": "ddp", "LT_PRECISION": "bf16"}
    loaded = load_for_launch(write(TINY), [], environ)
    t = loaded.recipe.trainer
    assert (t.devices, t.num_nodes, t.accelerator, t.strategy, t.precision) == (2, 1, "cpu", "ddp", "bf16-mixed")
    assert loaded.origins()["trainer.devices"] == "fabric run"
    assert loaded.origins()["trainer.num_nodes"] == "default"


@pytest.mark.parametrize(
    ("section", "variables", "message"),
    [
        ("{devices: 4}", {}, r"recipe\.yaml:14:11  trainer\.devices  is 4 here, but fabric run says 2"),
        ("{precision: 16-mixed}", {"LT_PRECISION": "bf16-mixed"}, "16-mixed here, but fabric run says bf16-mixed"),
        ("{strategy: ddp}", {"LT_STRATEGY": "fsdp"}, "ddp here, but fabric run says fsdp"),
        ("{accelerator: gpu}", {"LT_ACCELERATOR": "cpu"}, "gpu here, but fabric run says cpu"),
    ],
)
def test_fabric_run_against_the_recipe_is_an_error(section, variables, message, trainer):
    with pytest.raises(ConfigError, match=message):
        trainer({**FABRIC, **variables}, section)


def test_fabric_run_against_an_override_is_an_error(trainer):
    with pytest.raises(ConfigError, match=r"^override trainer\.devices=4  trainer\.devices  is 4 here, but fabric"):
        trainer(FABRIC, overrides=["trainer.devices=4"])


@pytest.mark.parametrize("section", ["{devices: 2}", "{devices: auto}", "{accelerator: auto}", "{precision: 32-true}"])
def test_fabric_run_agrees_with_the_same_value_and_with_auto(section, trainer):
    assert trainer({**FABRIC, "LT_PRECISION": "32", "LT_ACCELERATOR": "auto"}, section).devices == 2


def test_a_list_of_device_numbers_counts_its_processes(trainer):
    assert trainer({**FABRIC, "LT_DEVICES": "0,1"}).devices == 2


def test_a_list_with_gaps_is_refused_as_the_trainer_would_take_the_first(trainer):
    with pytest.raises(ConfigError, match=r"CUDA_VISIBLE_DEVICES=1,3 fabric run --devices 2$"):
        trainer({**FABRIC, "LT_DEVICES": "1,3"})


def test_a_strategy_that_is_not_ours_is_cited_as_fabric_runs(trainer):
    with pytest.raises(ConfigError, match=r"^fabric run trainer\.strategy=deepspeed  trainer\.strategy  must be"):
        trainer({**FABRIC, "LT_STRATEGY": "deepspeed"})


@pytest.mark.parametrize(("environ", "who"), [(TORCHRUN, "torchrun"), (SRUN, "srun")])
def test_counts_of_torchrun_and_srun_fill_what_the_recipe_leaves_open(environ, who, write):
    loaded = load_for_launch(write(TINY), [], environ)
    assert (loaded.recipe.trainer.devices, loaded.recipe.trainer.num_nodes) == (2, 2)
    assert loaded.origins()["trainer.devices"] == who


@pytest.mark.parametrize(
    ("environ", "section", "message"),
    [
        (TORCHRUN, "{devices: 4, num_nodes: 2}", r"the launcher started 4 processes, but trainer\.devices 4 x .* = 8"),
        (TORCHRUN, "{devices: 1, num_nodes: 1}", "the launcher started 4 processes, but .* = 1"),
        ({"WORLD_SIZE": "2"}, "{}", "the launcher started 2 processes, but .* = 1"),
        ({"WORLD_SIZE": "1"}, "{devices: 2}", "the launcher started 1 process, but .* = 2"),
        ({**SRUN, "SLURM_NTASKS": "1"}, "{devices: 2}", "SLURM started 1 process, .* srun mmret run RECIPE"),
        (SRUN, "{devices: 8, num_nodes: 1}", "SLURM started 4 processes, but .* = 8"),
        ({**SRUN, **TORCHRUN}, "{devices: 2, num_nodes: 2}", "torchrun .* inside srun with 4 tasks"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "{}", "not started by srun"),
    ],
)
def test_a_process_group_of_another_size_is_refused(environ, section, message, trainer):
    with pytest.raises(EnvironmentProblem, match=message):
        trainer(environ, section)


@pytest.mark.parametrize(
    ("environ", "section"),
    [
        (TORCHRUN, "{devices: 2, num_nodes: 2}"),
        (SRUN, "{devices: 2, num_nodes: 2}"),
        ({**SRUN, "SLURM_NTASKS": "1"}, "{}"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"}, "{devices: 2}"),  # started by Lightning itself
        ({"SLURM_NTASKS": "1", **TORCHRUN}, "{devices: 2, num_nodes: 2}"),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, "{}"),
    ],
)
def test_a_fitting_process_group_passes(environ, section, trainer):
    trainer(environ, section)


@pytest.mark.parametrize(
    ("environ", "rank"), [({}, 0), (TORCHRUN, 3), (SRUN, 2), ({"SLURM_PROCID": "1"}, 0), ({"LOCAL_RANK": "1"}, 1)]
)
def test_rank_is_what_the_launcher_says(environ, rank):
    assert process_rank(environ) == rank


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 1),
        (TORCHRUN, 4),
        (SRUN, 4),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "2"}, 2),  # a step smaller than its job
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, 1),  # a batch script
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, 1),
    ],
)
def test_processes_are_counted_where_a_launcher_started_them(environ, count):
    assert process_count(environ) == count
