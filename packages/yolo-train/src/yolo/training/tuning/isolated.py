"""A function run in a process of its own, watched: what it takes cannot bring down the process that asks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from yolo.core.errors import YoloError

Ending = Literal["done", "memory", "time", "error", "died"]
_LOOK_EVERY = 0.02  # seconds; a thread cannot fill more than about 50 MB in that time
_PATIENCE = 5.0  # seconds that an ended process gets


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes:
        ending: ``done``; stopped for ``memory`` or ``time``; an ``error`` that the function raised; or it ``died``.
        value: what the function returned.
        text: of the error.
        expected: whether the error was one that a user can do something about.
    """

    ending: Ending
    value: Any = None
    text: str = ""
    expected: bool = False


def run_isolated(
    function: Callable[[Any], Any], argument: Any, *, seconds: float, memory: int | None = None
) -> Outcome:
    """Call a function in a fresh process, and end it when it takes too long or too much.

    The process is forked from a server that has the modules loaded but has computed nothing, where the system has
    such a thing, else spawned; it may start processes itself.

    Args:
        function: of a module; it and its argument are pickled.
        argument: its only one.
        seconds: after which it is ended.
        memory: resident bytes above which it is ended; looked at where there is ``/proc``.
    """
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, argument), name="yolo-tune")
    end = time.monotonic() + seconds
    try:
        process.start()
        theirs.close()
        return _waited(process, ours, end, memory)
    finally:
        _end(process)
        ours.close()


def resident_bytes(process: int) -> int | None:
    """Memory that a process holds, bytes; None where the system does not tell."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["yolo.training.tuning.steps"])
    return context


def _waited(process: Any, answers: Connection, end: float, memory: int | None) -> Outcome:
    while time.monotonic() < end:
        if answers.poll(_LOOK_EVERY):
            try:
                outcome: Outcome = answers.recv()
            except EOFError:
                process.join(_PATIENCE)
                return Outcome("died", text=_how(process.exitcode))
            return outcome
        if memory is not None and (resident_bytes(process.pid) or 0) > memory:
            return Outcome("memory")
    return Outcome("time")


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"the process ended with code {code}"


def _end(process: Any) -> None:
    if process.pid is None:
        return
    process.join(0.2)  # after its answer it ends by itself
    if process.is_alive():
        process.kill()
    process.join(_PATIENCE)


def _call(answers: Connection, function: Callable[[Any], Any], argument: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked is interrupted as well, and ends this process
    try:
        outcome = Outcome("done", function(argument))
    except Exception as error:  # whatever it is, the process that asked has to be told
        text = " ".join(str(error).split()) or type(error).__name__
        expected = isinstance(error, YoloError)
        outcome = Outcome("error", text=text if expected else f"{type(error).__name__}: {text}", expected=expected)
    answers.send(outcome)
    answers.close()
