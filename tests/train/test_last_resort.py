"""A signal ends a process also while its main thread waits in a library, where Python runs no handlers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from yolo.training.callbacks import last_resort

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

# Of the package only this file is read, for all the rest of it would take seconds. A lock that is taken twice waits for
# ever, and takes no notice of signals.
WAITING = """
import ctypes, os, runpy, signal, sys, time
answers = [0.0]
module = runpy.run_path(os.environ["FILE"])
module["last_resort"].__wrapped__.__globals__["PATIENCE"] = 1.0 if sys.argv[2] == "python" else 0.3
signal.signal(signal.SIGTERM, lambda *_: answers.append(time.monotonic()))
with module["last_resort"]([signal.SIGTERM], lambda: answers[-1], lambda: sys.argv[1] == "training", again=1.0):
    if sys.argv[2] == "child":
        child = os.fork()
        if child == 0:
            time.sleep(3)
            os._exit(0)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
    print("waiting", flush=True)
    if sys.argv[2] == "library":
        lock = ctypes.create_string_buffer(64)
        while True:
            ctypes.CDLL(None).pthread_mutex_lock(lock)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        time.sleep(0.05)
    print("went on", len(answers) - 1, flush=True)
"""
# The store waits for a server that nobody starts, as a process does for one on another machine.
TRAINING = """
import types
from torch.distributed import TCPStore
from yolo.training.callbacks import InterruptCallback, last_resort
last_resort.PATIENCE = 0.3
trainer = types.SimpleNamespace(_accelerator_connector=types.SimpleNamespace(cluster_environment=None))
with InterruptCallback().listening(trainer):
    print("waiting", flush=True)
    TCPStore("127.0.0.1", 9, is_master=False)
"""


def start(*arguments: str, script: str = WAITING) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FILE": str(last_resort.__file__)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("script", [WAITING, pytest.param(TRAINING, marks=pytest.mark.slow)])
def test_one_signal_before_the_training(script: str) -> None:
    process = start("before", "library", script=script)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM: ended while it waited for something" in err


def test_the_second_signal_in_a_training() -> None:
    process = start("training", "library")
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_main_thread_that_answers_is_left_alone() -> None:
    process = start("before", "python")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "went on 1\n"), err


def test_a_signal_to_a_child_is_none_to_its_parent() -> None:
    """As of a loader worker: it has the handlers and the pipe of the process that it was forked from."""
    process = start("before", "child")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "went on 0\n"), err
