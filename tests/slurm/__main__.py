"""`make slurm-test`: mmret's promises under SLURM, each proven on a real cluster of two nodes on this machine."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from mmret.cli import main as mmret
from tests.builders import build_toy_source
from tests.slurm.cluster import NODES, Cluster, Job, install, processes, run, until

RECIPE = """\
name: small
seed: 3
model: {name: preflmr, text: tiny, vision: tiny, dim: 16, prefix_tokens: 4, query_tokens: 24, mapping_heads: 2}
stages:
  - name: joint
    steps: 200
    data: {batch_size: 16, documents_per_query: 2, num_workers: 1, sources: {toy/toy.yaml: 1}}
    objectives: {hard_negative: {}}
    optimizer: {lr: 1e-3}
trainer: {accelerator: cpu, checkpoint_every: 35, log_every: 10}
"""
TWO_NODES = ("--nodes=2", "--tasks-per-node=1", "--cpus-per-task=1")
USR1 = 1 << 9
"""Its bit in /proc/PID/status."""


def submit(out, *options, time_limit="20"):
    """`mmret submit`; gives the job and its folder."""
    assert mmret(["submit", "small.yaml", f"out={out}", f"--time={time_limit}", *TWO_NODES, *options]) == 0
    (frozen,) = Path(out, "slurm").glob("2*")
    number = re.search(r'"job": "(\d+)"', (frozen / "submitted.json").read_text())[1]
    return Job(number), frozen


def log_of(job, frozen):
    file = frozen / f"{job.number}.log"
    return file.read_text() if file.exists() else ""


def reached(job, frozen, text, seconds=180):
    until(lambda: text in log_of(job, frozen) or job.ended, seconds, lambda: log_of(job, frozen))
    assert text in log_of(job, frozen), log_of(job, frozen)


def finish(job, frozen, state="COMPLETED", seconds=400):
    until(lambda: job.ended, seconds, lambda: log_of(job, frozen)[-3000:])
    assert job["JobState"] == state, log_of(job, frozen)[-3000:]


def weights(out):
    return load_file(Path(out, "joint/model/model.safetensors"))


def same(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a), f"{one} and {other} differ"


def resumed_at(job, frozen):
    """Steps at which later starts went on."""
    return [int(step) for step in re.findall(r"goes on at step (\d+) of", log_of(job, frozen))]


def tasks(frozen):
    """Processes that train from this frozen folder: those of srun's tasks, without their workers."""
    mine = [
        (pid, environ) for pid, line, environ in processes() if f"{frozen.absolute()}/code/mmret/__main__.py" in line
    ]
    return [pid for pid, environ in mine if "SLURM_PROCID=" in environ and "srun" not in line_of(pid)]


def line_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    except OSError:
        return "srun"


def blocks_usr1(pid):
    try:
        mask = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    except (OSError, TypeError):
        return False
    return bool(int(mask, 16) & USR1)


def two_nodes_train_one_model(cluster):
    job, frozen = submit("calm")
    finish(job, frozen)
    assert job["NumNodes"] == "2" and job["Restarts"] == "0"
    # Nothing with dropout trains: its draws differ between ranks.
    short = ["stages.joint.steps=5", "stages.joint.lr_scale={text_linear: 1, '.*': 0}"]
    job, frozen = submit("together", *short)
    command = [sys.executable, "-m", "mmret", "run", "small.yaml", "out=alone", *short]
    subprocess.run(command, check=True, capture_output=True)
    finish(job, frozen)
    a, b = weights("together"), weights("alone")
    far = max(float((a[name] - b[name]).abs().max()) for name in a)
    assert far < 1e-5
    return f"2 nodes x 1 task; after 5 steps the furthest weight from one process's is {far:.1e}"


def usr1_in_training(cluster):
    job, frozen = submit("usr1")
    reached(job, frozen, "joint: step")
    until(lambda: list(Path("usr1/joint/checkpoints").glob("*.ckpt")), 60)
    job.signal("USR1")
    finish(job, frozen)
    (step,) = resumed_at(job, frozen)
    assert job["Restarts"] == "1" and log_of(job, frozen).count("is requeued") == 1
    same("usr1", "calm")
    return f"requeued once, went on at step {step}; weights equal the uninterrupted run's, bit for bit"


def usr1_in_imports(cluster):
    job, frozen = submit("imports")
    until(lambda: len(tasks(frozen)) == 2 and all(map(blocks_usr1, tasks(frozen))), 120, lambda: log_of(job, frozen))
    assert "stage joint" not in log_of(job, frozen)
    job.signal("USR1")
    finish(job, frozen)
    assert job["Restarts"] == "1" and "stopped at the start of stage joint" in log_of(job, frozen)
    same("imports", "calm")
    return "requeued before anything was learnt; same weights"


def time_limit(cluster):
    job, frozen = submit("limit", "--notice=20", "stages.joint.steps=3000", time_limit="2")
    until(lambda: job["Restarts"] == "1" or job.ended, 240, lambda: log_of(job, frozen)[-3000:])
    assert job["Restarts"] == "1", log_of(job, frozen)[-3000:]
    until(lambda: resumed_at(job, frozen), 120, lambda: log_of(job, frozen)[-3000:])
    (step,) = resumed_at(job, frozen)
    assert f"stage joint, step {step} of 3000; job {job.number} is requeued" in log_of(job, frozen)
    run("scancel", job.number)
    until(lambda: job.ended, 60)
    return f"SLURM's own signal before a limit of 2 minutes: saved and requeued at step {step}"


def preemption(cluster):
    job, frozen = submit("preempted", "--partition=low")
    reached(job, frozen, "joint: step")
    time.sleep(1)
    run(
        "srun", "--partition=high", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--exclusive", "sleep", "2"
    )
    finish(job, frozen)
    assert job["Restarts"] == "1"
    (step,) = resumed_at(job, frozen)
    same("preempted", "calm")
    return f"saved on SIGTERM and requeued by SLURM, went on at step {step}; same weights"


def killed_node(cluster):
    job, frozen = submit("killed")
    reached(job, frozen, "joint: step")
    until(lambda: list(Path("killed/joint/checkpoints").glob("*.ckpt")), 60)
    cluster.kill_node(NODES[1])
    until(lambda: job["Restarts"] == "1" or job.ended, 120, lambda: log_of(job, frozen)[-3000:])
    cluster.start_node(NODES[1])
    finish(job, frozen)
    same("killed", "calm")
    return f"SLURM requeued it, went on at checkpoint {resumed_at(job, frozen)[0]}; same weights"


def cancelled_stays_cancelled(cluster):
    job, frozen = submit("cancelled")
    reached(job, frozen, "joint: step")
    run("scancel", job.number)
    until(lambda: not tasks(frozen), 60)
    time.sleep(10)
    assert job["JobState"] == "CANCELLED" and "is requeued" not in log_of(job, frozen)
    return "scancel: ended, and not requeued"


def wrong_task_count(cluster):
    with contextlib.redirect_stdout(io.StringIO()):
        assert mmret(["submit", "small.yaml", "out=wrong", "--time=20", *TWO_NODES, "--print"]) == 0
    (frozen,) = Path("wrong/slurm").glob("2*")
    script = frozen / "job.sbatch"
    script.write_text(script.read_text().replace("--ntasks-per-node=1", "--ntasks-per-node=2"))
    job = Job(run("sbatch", "--parsable", script).strip())
    finish(job, frozen, "FAILED")
    assert "SLURM started 4 processes, but trainer.devices 1 x trainer.num_nodes 2 = 2" in log_of(job, frozen)
    assert not Path("wrong/joint").exists()
    return "4 tasks for 2 devices: refused before anything is built"


def array_of_variants(cluster):
    names = ("one", "two")
    for name in names:
        Path("variants").mkdir(exist_ok=True)
        Path(f"variants/{name}.yaml").write_text(RECIPE.replace("steps: 200", "steps: 3").replace("small", name))
    options = ["--tasks-per-node=1", "--cpus-per-task=1", "--time=20", "--name=sweep"]
    assert mmret(["submit", "--variants", "variants", *options]) == 0
    until(lambda: all(Path(f"runs/{name}/joint/stage.json").exists() for name in names), 240)
    return "two recipes, one array: both trained"


PROOFS = (
    two_nodes_train_one_model,
    usr1_in_training,
    usr1_in_imports,
    preemption,
    killed_node,
    cancelled_stays_cancelled,
    wrong_task_count,
    array_of_variants,
    time_limit,
)


def main(wanted):
    install()
    environ = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        # Node names of one machine that nobody resolves.
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    os.environ.update(environ)
    folder = Path(tempfile.mkdtemp(prefix="mmret-slurm-"))
    (folder / "cluster").mkdir()
    cluster = Cluster(folder / "cluster")
    os.chdir(folder)
    build_toy_source(folder / "toy", num=64)
    (folder / "small.yaml").write_text(RECIPE)
    failed = []
    try:
        cluster.start()
        print(f"{run('sinfo', '--version').strip()}; {folder}", flush=True)
        for proof in PROOFS:
            if wanted and proof.__name__ not in ("two_nodes_train_one_model", *wanted):
                continue
            start = time.monotonic()
            try:
                told = proof(cluster)
            except Exception as error:  # the others are still worth knowing
                failed.append(proof.__name__)
                told = f"FAILED: {error}"
                subprocess.run(["scancel", "--user=root"], capture_output=True)
            print(f"{proof.__name__} ({time.monotonic() - start:.0f} s): {told}", flush=True)
    finally:
        cluster.stop()
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
