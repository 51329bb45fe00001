"""Jobs one after the other: failures, restarts, what results.json says. The processes are played by a function."""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mmret.bench import plan_jobs, read_bench, resolve_variants, write_results
from mmret.bench.process import ProcessFailed, ProcessStopped, run_process
from mmret.bench.runner import run_jobs
from mmret.bench.sweep import settings_of
from tests.unit.bench.builders import pretend_run, write_bench

PRIMARY = "emoji/unseen_both/recall@1"


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """Jobs of a bench, and a run() that plays `mmret run`; variants in `broken` fail."""

    class Grid:
        broken: set[str] = set()
        ran: list[str] = []
        values = {"a": [1, 1, 1, 0], "b": [0, 0, 0, 0]}

        def __init__(self):
            self.ran, self.said = [], []
            self.read()

        def read(self, sweep=(), **changes):
            self.loaded = read_bench(write_bench(tmp_path, **changes))
            self.jobs = plan_jobs(self.loaded.bench, resolve_variants(self.loaded, settings_of(sweep)))

        def process(self, arguments, log, tell, environ):
            if arguments[:2] != ["mmret", "run"]:
                return
            settings = dict(text.split("=", 1) for text in arguments[3:] if "=" in text)
            folder = next(job.folder for job in self.jobs if str(job.folder) == settings["out"])
            self.ran.append(f"{folder.parent.name}/{folder.name}")
            assert not folder.exists() or not any(folder.iterdir()), "`mmret run` wants it empty"
            name = folder.parent.name
            if name in self.broken:
                raise ProcessFailed("exit code 1: out of memory\nline before\nout of memory")
            values = self.values[name.partition("+")[0]]
            metrics = {PRIMARY: sum(values) / len(values), "emoji/validation/recall@1": float(len(name))}
            pretend_run(folder, metrics, values)

        def run(self):
            return run_jobs(self.jobs, self.said.append, lambda _: None, lambda: None)

        def results(self, validation=()):
            return write_results(self.loaded.bench, self.jobs, PRIMARY, validation)

    grid = Grid()
    monkeypatch.setattr("mmret.bench.runner.run_process", grid.process)
    return grid


def test_one_that_fails_is_reported_and_the_others_finish(grid):
    grid.broken = {"a"}
    ran = grid.run()
    assert grid.ran == ["a/seed-0", "b/seed-0", "a/seed-1", "b/seed-1"]  # seeds outermost
    assert [job.title for job in ran.failed] == ["a seed 0", "a seed 1"] and len(ran.finished) == 2
    entries = {(e["name"], e["seed"]): e for e in grid.results()["variants"]}
    assert entries["a", 0]["status"] == "failed" and entries["a", 0]["error"] == "exit code 1: out of memory"
    assert entries["b", 0]["status"] == "finished" and entries["b", 0]["cost"] == {"parameters": 3}
    assert "[1/4] a seed 0: failed: exit code 1: out of memory" in grid.said


def test_called_again_it_skips_what_is_finished_and_tries_again_what_failed(grid):
    grid.broken = {"a"}
    grid.run()
    grid.broken, grid.ran = set(), []
    ran = grid.run()
    assert grid.ran == ["a/seed-0", "a/seed-1"]
    assert [job.title for job in ran.skipped] == ["b seed 0", "b seed 1"] and not ran.failed
    assert {e["status"] for e in grid.results()["variants"]} == {"finished"}


def test_stopped_in_the_middle_the_rest_is_missing_and_is_run_later(grid, monkeypatch):
    def stop(*_):
        raise ProcessStopped

    done = grid.process
    calls = iter([done, done, stop, stop])  # a run, its cost, then the scheduler
    monkeypatch.setattr("mmret.bench.runner.run_process", lambda *args: next(calls)(*args))
    with pytest.raises(ProcessStopped):
        grid.run()
    assert [e["status"] for e in grid.results()["variants"]] == ["finished", "missing", "missing", "missing"]
    monkeypatch.setattr("mmret.bench.runner.run_process", done)
    assert len(grid.run().finished) == 3


def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(grid):
    grid.run()
    grid.read(budget="{steps: 8}")
    assert not grid.jobs[0].is_finished(["stages[0].steps=6", "stages[1].steps=2"])


def test_results_hold_mean_interval_and_the_test_against_the_best(grid):
    grid.run()
    results = grid.results()
    assert json.loads((grid.jobs[0].folder.parents[1] / "results.json").read_text()) == results
    a, b = results["statistics"]["a"], results["statistics"]["b"]
    assert (a["mean"], a["queries"], a["seeds"], a["best"]) == (0.75, 4, 2, True)
    assert b["mean"] == b["low"] == b["high"] == 0.0
    assert b["p"] == pytest.approx(2 * (1 + round(10_000 / 256)) / 10_001, rel=0.5)  # all four drawn are the miss
    assert b["p_holm"] == b["p"] and b["differs"]


def test_a_sweep_runs_every_setting_and_compares_the_picked_ones_alone(grid):
    grid.read(sweep=["optimizer.lr=1e-3,3e-40"])
    names = ["a+lr-1e-3", "a+lr-3e-40", "b+lr-1e-3", "b+lr-3e-40"]
    assert [job.variant.name for job in grid.jobs[:4]] == names
    assert grid.jobs[0].variant.recipe.stages[1].optimizer.lr == 1e-3
    grid.run()
    results = grid.results(["emoji/validation/recall@1"])  # the longer name scores higher there
    assert results["sweep"]["a"]["picked"] == "a+lr-3e-40"
    assert list(results["statistics"]) == ["a+lr-3e-40", "b+lr-3e-40"]
    assert [e["picked"] for e in results["variants"][:4]] == [False, True, False, True]


def test_a_process_that_fails_says_how_it_ended_and_what_it_said_last(tmp_path):
    with pytest.raises(ProcessFailed, match="exit code 1: ") as caught:
        run_process(["no_such_module_here"], tmp_path / "log", lambda _: None, {})
    assert "No module named no_such_module_here" in str(caught.value)
    assert "No module named" in (tmp_path / "log").read_text()


def test_a_variant_s_environ_reaches_its_processes_and_counts_as_other_data_and_as_another_setting(grid, monkeypatch):
    variants = "{a: {recipe: toy.yaml}, b: {recipe: toy.yaml, environ: {MMRET_MMEB: /plain}}}"
    grid.read(variants=variants)
    assert [job.variant.data_differs for job in grid.jobs[:2]] == [False, True]
    seen = []
    played = grid.process
    monkeypatch.setattr("mmret.bench.runner.run_process", lambda *args: (seen.append(args[3]), played(*args)))
    grid.run()
    assert seen[:4] == [{}, {}, {"MMRET_MMEB": "/plain"}, {"MMRET_MMEB": "/plain"}]  # a run and its cost
    assert [entry["environ"] for entry in grid.results()["variants"][:2]] == [{}, {"MMRET_MMEB": "/plain"}]
    grid.read(variants=variants.replace("/plain", "/elsewhere"))
    assert [job.is_finished([]) for job in grid.jobs[:2]] == [True, False]


def test_a_process_has_the_environ_beside_the_bench_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRET_OURS", "1")
    said = []
    code = "import os; print(os.environ['MMRET_OURS'], os.environ['MMRET_THEIRS'])"
    run_process(["timeit", "-n1", "-r1", code], tmp_path / "log", said.append, {"MMRET_THEIRS": "2"})
    assert said[0] == "1 2"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wants Linux's prctl")
def test_a_killed_bench_leaves_no_run_behind(tmp_path):
    log = tmp_path / "log"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    run = (["timeit", "-n1", "-r1", code], log, lambda _: None, {})
    bench = multiprocessing.get_context("fork").Process(target=run_process, args=run)
    bench.start()

    def wait_for(what):
        deadline = time.monotonic() + 30
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    child = int(log.read_text())
    assert bench.pid is not None
    os.kill(bench.pid, signal.SIGKILL)
    bench.join()
    wait_for(lambda: not _runs(child))


def _runs(pid):
    """False too for one that nobody has asked the exit code of."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
