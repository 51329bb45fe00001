"""munged, slurmctld and two slurmd on one machine, their files in one folder; needs root and Debian's packages."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurm-wlm", "slurm-client", "munge")
NODES = ("n1", "n2")
# AuthInfo=cred_expire: a requeued job waits that long, 120 s by default, before it starts again.
# No cgroup.conf: Debian 12's 22.05 looks for a plugin of the name that it gives, even if that is `disabled`.
CONFIG = """\
ClusterName=mmret
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SlurmdParameters=config_overrides
KillWait=10
SlurmdTimeout=10
JobRequeue=1
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName=n[1-2] NodeAddr=127.0.0.1 NodeHostname={host} Port=[17001-17002] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10
"""


def install():
    """Debian's packages, unless they are there."""
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged", "sbatch")):
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES]
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)


class Cluster:
    """Running between `start` and `stop`; SLURM's commands find it through SLURM_CONF, which `start` sets."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.own_munged = False

    def start(self):
        """Both nodes idle, or RuntimeError with the controller's log."""
        for name in ("state", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        config = self.folder / "slurm.conf"
        config.write_text(CONFIG.format(host=socket.gethostname(), folder=self.folder))
        os.environ["SLURM_CONF"] = str(config)
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:
            run("install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge")
            run("runuser", "-u", "munge", "--", "/usr/sbin/munged")
            self.own_munged = True
        run("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        until(lambda: run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], 30, self._log)

    def start_node(self, node):
        run("slurmd", "-N", node)

    def kill_node(self, node):
        """As if its power was cut: slurmd and all that it started, at once."""
        tasks = [pid for pid, _, environ in processes() if f"SLURMD_NODENAME={node} " in environ]
        shepherds = {pid for task in tasks if "slurmstepd" in command_of(pid := parent_of(task))}
        for pid in (self.daemon(f"slurmd.{node}"), *shepherds, *tasks):
            _kill(pid, signal.SIGKILL)

    def daemon(self, name):
        return int((self.folder / f"{name}.pid").read_text())

    def stop(self):
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        time.sleep(2)
        for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld"):
            if (self.folder / f"{name}.pid").exists():
                _kill(self.daemon(name), signal.SIGTERM)
        if self.own_munged:
            _kill(int(Path("/run/munge/munged.pid").read_text()), signal.SIGTERM)

    def _log(self):
        return (self.folder / "slurmctld.log").read_text()[-2000:]


class Job:
    """A submitted job as scontrol tells of it."""

    def __init__(self, number):
        self.number = number

    def __getitem__(self, name):
        return re.search(rf"\b{name}=(\S*)", run("scontrol", "show", "job", self.number))[1]

    def signal(self, name):
        """To all tasks, as --signal does."""
        run("scancel", f"--signal={name}", self.number)

    @property
    def ended(self):
        return self["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


def processes():
    """(pid, command line, environment) of all processes that we may look into."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, environ = ((folder / name).read_bytes().replace(b"\0", b" ") for name in ("cmdline", "environ"))
        except OSError:
            continue
        found.append((int(folder.name), line.decode(errors="replace"), environ.decode(errors="replace")))
    return found


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def until(condition, seconds, why=lambda: ""):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not in {seconds} s. {why()}")
        time.sleep(0.2)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def _kill(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
