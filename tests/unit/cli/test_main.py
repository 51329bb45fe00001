"""Verbs, exit codes, and messages instead of tracebacks."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmret.cli import main
from mmret.errors import CheckpointError, ConfigError, EnvironmentProblem, SampleError
from tests.fake_tables import TINY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def trained(monkeypatch):
    """What `run_recipe` was called with; it trains nothing."""
    calls = []

    def run_recipe(recipe, fresh=False):
        calls.append((recipe, fresh))
        return Path(recipe.out)

    import mmret.training.stages

    monkeypatch.setattr(mmret.training.stages, "run_recipe", run_recipe)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_NTASKS", "LT_CLI_USED"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_unknown_verb_names_the_nearest(capsys):
    assert main(["rnu", "recipe.yaml"]) == 2
    assert "unknown verb 'rnu'; known: run, check, show" in (err := capsys.readouterr().err)
    assert "Did you mean 'run'?" in err and "Traceback" not in err


def test_a_recipe_without_a_verb_names_run(capsys):
    assert main(["my.yaml"]) == 2
    assert "Did you mean 'mmret run my.yaml'?" in capsys.readouterr().err


def test_help_lists_every_verb_on_stderr(capsys):
    assert main(["--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(f"  {verb} " in captured.err for verb in ("run", "check", "show", "evaluate", "report", "ls", "cp"))
    assert main([]) == 2
    assert main(["run", "--help"]) == 0


def test_run_takes_overrides_before_and_after_options(trained, write):
    assert main(["run", write(TINY), "seed=3", "--fresh", "stages.mapping.steps=5"]) == 0
    ((recipe, fresh),) = trained
    assert (recipe.seed, recipe.stages[0].steps, fresh) == (3, 5, True)


def test_lightning_run_is_mmret_run(trained, write):
    from mmret.cli.lightning import main as lightning

    assert lightning(["run", write(TINY), "trainer.devices=2"]) == 0
    ((recipe, fresh),) = trained
    assert (recipe.trainer.devices, fresh) == (2, False)


def test_lightnings_other_verbs_go_to_the_sdk_or_say_so(monkeypatch, capsys):
    from mmret.cli import lightning

    monkeypatch.setattr(lightning, "sdk_command", lambda: None)
    assert lightning.main(["login"]) == EnvironmentProblem.exit_code
    assert "`lightning login` belongs to lightning-sdk" in capsys.readouterr().err
    assert lightning.main(["run", "model", "x.py"]) == EnvironmentProblem.exit_code
    assert "fabric run" in capsys.readouterr().err

    seen = []

    class Command:
        def load(self):
            return lambda: seen.append(list(sys.argv))

    monkeypatch.setattr(lightning, "sdk_command", Command)
    monkeypatch.setattr(sys, "argv", ["lightning", "login"])
    assert lightning.main(["login"]) == 0
    assert seen == [["lightning", "login"]]


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError, 2), (EnvironmentProblem, 3), (SampleError, 4), (CheckpointError, 5)]
)
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(error, code, trained, write, monkeypatch, capsys):
    import mmret.training.stages

    def fail(recipe, fresh=False):
        raise error("shard-0:17 is broken [not markup]")

    monkeypatch.setattr(mmret.training.stages, "run_recipe", fail)
    assert main(["run", write(TINY)]) == code
    assert capsys.readouterr().err == "shard-0:17 is broken [not markup]\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/proc/x"), "/proc/x: Permission denied. Make room, get"),
        (OSError(errno.EROFS, "Read-only file system", "runs/x/metrics.csv"), "runs/x/metrics.csv: Read-only"),
    ],
)
def test_a_folder_that_cannot_be_written_is_a_message_whoever_writes(error, said, trained, write, monkeypatch, capsys):
    import mmret.training.stages

    def fail(recipe, fresh=False):
        raise error

    monkeypatch.setattr(mmret.training.stages, "run_recipe", fail)
    assert main(["run", write(TINY)]) == 3
    assert said in capsys.readouterr().err
    error.errno = errno.EBADF  # nothing that room or rights would help: a fault, to be seen whole
    with pytest.raises(OSError):
        main(["run", write(TINY)])


def test_ctrl_c_says_how_to_go_on(trained, write, monkeypatch, capsys):
    import mmret.training.stages

    def stop(recipe, fresh=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(mmret.training.stages, "run_recipe", stop)
    assert main(["run", write(TINY)]) == 130
    assert "goes on where this one stopped" in capsys.readouterr().err


def test_a_process_group_that_does_not_fit_trains_nothing(trained, write, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", write(TINY)]) == 3
    assert trained == []
    assert "the launcher started 2 processes" in capsys.readouterr().err


def test_a_broken_recipe_prints_all_problems_and_trains_nothing(trained, write, capsys):
    assert main(["run", write(TINY.replace("dim: 32", "dims: 32")), "sed=1"]) == 2
    assert trained == []
    err = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in err] == ["model.dims", "sed"]


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--trainer.devices=2", "Settings of a recipe are written without dashes: trainer.devices=2"),
        ("--frehs", "unknown option --frehs. Did you mean '--fresh'?"),
    ],
)
def test_unknown_options_are_refused_with_a_hint(argument, hint, trained, write, capsys):
    assert main(["run", write(TINY), argument]) == 2
    assert trained == []
    assert hint in capsys.readouterr().err


class TestShow:
    def test_prints_yaml_that_is_the_same_recipe(self, write, capsys):
        assert main(["show", write(TINY), "seed=5"]) == 0
        shown = capsys.readouterr().out
        assert main(["show", write(shown, "shown.yaml")]) == 0
        assert capsys.readouterr().out == shown
        assert "seed: 5" in shown

    def test_origins_stand_beside_the_values_and_leave_it_a_recipe(self, write, capsys):
        write("seed: 1\n", "_base.yaml")
        assert main(["show", write("extends: _base.yaml\n" + TINY), "trainer.devices=2", "--origins"]) == 0
        shown = capsys.readouterr().out
        lines = {line.partition(":")[0].strip(): line.rpartition("# ")[2] for line in shown.splitlines()}
        assert lines["seed"] == "_base.yaml:1"
        assert lines["dim"] == "recipe.yaml:5"
        assert lines["devices"] == "override"
        assert lines["num_nodes"] == "default"
        assert main(["show", write(shown, "shown.yaml")]) == 0

    def test_json_has_recipe_origins_and_fingerprint(self, write, capsys):
        assert main(["show", write(TINY), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["recipe"]["model"]["dim"] == 32
        assert found["origins"]["model.dim"] == "recipe.yaml:4"
        assert len(found["fingerprint"]) == 24


class TestLs:
    def test_lists_each_kind(self, write, capsys):
        write("# A small one.\n" + TINY, "recipes/tiny/late.yaml")
        write(TINY, "recipes/tiny/_base.yaml")
        for kind, names in {
            "recipes": ["tiny/late"],
            "models": ["late", "fusion"],
            "objectives": ["itc", "match"],
            "data": ["demo/emoji", "demo/flags"],
            "benchmarks": ["demo/flags"],
        }.items():
            assert main(["ls", kind]) == 0
            assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names
        assert main(["ls", "recipes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"recipes": {"tiny/late": "A small one."}}

    def test_unknown_kind_is_refused(self, workplace, capsys):
        assert main(["ls", "recips"]) == 2
        assert "invalid choice: 'recips'" in capsys.readouterr().err


class TestCp:
    def test_copies_so_that_the_copy_loads(self, write, capsys):
        write(TINY, "recipes/late/_base.yaml")
        text = write("# Mine.\nextends: _base.yaml\nseed: 3\n", "recipes/late/small.yaml")
        assert main(["cp", "late/small", "my/own.yaml"]) == 0
        assert Path("my/own.yaml").read_text() == "# Mine.\nextends: late/_base\nseed: 3\n"
        assert main(["show", "my/own.yaml"]) == 0
        assert Path(text).exists()

    def test_never_writes_over_a_file(self, write, capsys):
        write(TINY, "recipes/late.yaml")
        assert main(["cp", "late", write("mine", "own.yaml")]) == 2
        assert Path("own.yaml").read_text() == "mine"
        assert "own.yaml exists" in capsys.readouterr().err

    def test_puts_it_into_a_folder(self, write, workplace):
        write(TINY, "recipes/late.yaml")
        (workplace / "mine").mkdir()
        assert main(["cp", "late", "mine"]) == 0
        assert Path("mine/late.yaml").read_text() == TINY

    def test_unknown_name_names_the_nearest(self, write, capsys):
        write(TINY, "recipes/late.yaml")
        assert main(["cp", "lat", "own.yaml"]) == 2
        assert "Did you mean 'late'?" in capsys.readouterr().err


class TestEvaluate:
    def test_needs_a_benchmark(self, workplace, capsys):
        assert main(["evaluate", "some/model"]) == 2
        assert "name a benchmark" in capsys.readouterr().err

    def test_of_a_run_takes_the_last_finished_stage_and_its_benchmarks(self, write):
        from mmret.recipe.find_model import find_model

        joint = TINY[TINY.index("  - name: mapping") :].replace("name: mapping", "name: joint")
        write(TINY + joint + "evaluation: {benchmarks: [demo/flags]}\n", "runs/tiny/recipe.yaml")
        assert main(["evaluate", "runs/tiny"]) == 2  # nothing is finished
        write("{}", "runs/tiny/mapping/stage.json")
        folder, recipe = find_model("runs/tiny")
        assert folder == "runs/tiny/mapping/model"
        assert recipe is not None and recipe.evaluation.benchmarks == ["demo/flags"]
        assert find_model("runs/tiny/mapping") == ("runs/tiny/mapping", None)


def test_report_needs_a_run(workplace, capsys):
    assert main(["report", "runs/none"]) == 2
    assert "runs/none: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["-m", "mmret"], [str(ROOT / "mmret" / "__main__.py")]])
def test_it_starts_as_a_module_and_as_a_file(command, tmp_path):
    # As a file, mmret/types.py must not hide the standard library's `types`.
    done = subprocess.run(
        [sys.executable, *command, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr.split()[0]) == (0, "mmret")


def test_the_command_line_starts_without_torch():
    # Seconds of every `mmret --help`; and what torch reads from the environment, `run` sets first.
    program = "import sys, mmret.cli.main; print(*{'torch', 'transformers', 'pyarrow', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
