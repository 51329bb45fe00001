"""A signal sets a flag; it ends neither this process nor its children."""

import subprocess
import sys

import pytest


@pytest.fixture
def prints(tmp_path):
    """prints(code) -> what a fresh Python prints that listens first."""

    def run(code):
        text = f"import os, signal, subprocess, sys, time\nfrom mmret import stop\nstop.listen()\n{code}"
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


WAIT = "while stop.requested() is None: time.sleep(0.01)\n"


def test_usr1_asks_to_requeue_and_sigterm_to_leave(prints):
    kill = "os.kill(os.getpid(), signal.{})\n" + WAIT + "print(stop.requested().requeue)"
    assert prints(kill.format("SIGUSR1")) == ["True"]
    assert prints(kill.format("SIGTERM")) == ["False"]


def test_usr1_counts_more_than_the_sigterm_that_a_requeue_brings(prints):
    both = "os.kill(os.getpid(), signal.{}); time.sleep(0.1)\nos.kill(os.getpid(), signal.{}); time.sleep(0.1)\n"
    show = "print(stop.requested().requeue)"
    assert prints(both.format("SIGUSR1", "SIGTERM") + show) == ["True"]
    assert prints(both.format("SIGTERM", "SIGUSR1") + show) == ["True"]


def test_a_started_program_survives_usr1(prints):
    child = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(0.5)'])\n"
    assert prints(child + "time.sleep(0.1); child.send_signal(signal.SIGUSR1)\nprint(child.wait())") == ["0"]


@pytest.mark.parametrize(("parents", "exit_code"), [(True, "0"), (False, "7")])
def test_a_forked_worker_heeds_its_parents_sigterm_but_no_strangers(parents, exit_code, prints):
    kill = "os.kill(pid, signal.SIGTERM)" if parents else "subprocess.run(['sh', '-c', f'kill {pid}'], check=True)"
    code = (
        "pid = os.fork()\nif pid == 0:\n    time.sleep(0.5)\n    os._exit(7)\n"
        f"time.sleep(0.1); {kill}\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert prints(code) == [exit_code]


def test_lightnings_handler_gives_way_again(prints):
    code = "signal.signal(signal.SIGTERM, lambda *_: print('theirs'))\nstop.listen_for_sigterm()\n"
    assert prints(f"{code}os.kill(os.getpid(), signal.SIGTERM)\n{WAIT}print('ours')") == ["ours"]


def test_nothing_changes_where_nobody_listens():
    text = "from mmret import stop; import signal; stop.listen_for_sigterm(); print(signal.getsignal(15).name)"
    assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True).stdout.split() == ["SIG_DFL"]
