"""Starting the converter, talking to it, and ending it, whatever happens."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError

PROGRAM = Path(__file__).with_name("worker")  # a folder, see its ``__main__.py``
#: Seconds after which a conversion is given up, unless ``$YOLO_CONVERTER_TIMEOUT`` says otherwise.
TIMEOUT = 3600.0
_TIMEOUT_VARIABLE = "YOLO_CONVERTER_TIMEOUT"
_LOG = "converter.log"

_log = logging.getLogger("yolo.export")


class ConverterError(ExportError):
    """The converter failed, was ended, or took too long."""


def convert(
    job: Mapping[str, Any],
    *,
    python: Path,
    folder: Path,
    pictures: Iterable[NDArray[np.uint8]] = (),
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run one conversion in a process of its own.

    Args:
        job: for :mod:`yolo.export.converter.worker`: ``format``, ``onnx`` and ``output``, and more for some formats.
        python: an interpreter with TensorFlow and onnx2tf.
        folder: scratch space; the log of the converter stays there.
        pictures: of the shape ``job["calibration"]``, ``[N, H, W, 3]``, one by one. They go through a pipe: they may be
            pictures that lie encrypted on the disk.
        timeout: seconds; default: :data:`TIMEOUT`.
        progress: gets what is being done, in words; default: the log of this package.

    Returns:
        What the worker says about the result, plain data.

    Raises:
        ConverterError: it failed; one line that says why. An interruption ends the worker too.
    """
    progress = progress or (lambda step: _log.info("Converting: %s", step))
    with _process(python, folder) as process, _limit(process, _seconds(timeout)) as expired:
        _send(process, {"task": "convert", **job}, (np.ascontiguousarray(picture).data for picture in pictures))
        for answer in _answers(process):
            if "step" in answer:
                progress(answer["step"])
            elif "done" in answer:
                facts: dict[str, Any] = answer["done"]
                return facts
            else:
                raise ConverterError(f"the conversion failed: {answer.get('error', answer)}")
        raise ConverterError(_how_it_ended(process, folder, expired=expired.is_set(), timeout=_seconds(timeout)))


class SavedModelProcess:
    """A SavedModel in a converter process that stays for any number of calls; close it, or use it in a ``with``.

    Args:
        saved_model: the folder.
        python: an interpreter with TensorFlow.
        timeout: seconds for the start and for each call.

    Attributes:
        shape: of the input, ``[B or None, H, W, 3]``.

    Raises:
        ConverterError: it does not load.
    """

    def __init__(self, saved_model: Path, *, python: Path, timeout: float = 600.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="yolo-saved-model-")
        self._timeout = timeout
        self._context = _process(python, Path(self._folder.name))
        self._process = self._context.__enter__()
        try:
            ready = self._ask({"task": "run", "saved_model": str(saved_model.absolute())})
            if "ready" not in ready:
                raise ConverterError(f"{str(saved_model)!r} cannot be loaded: {ready.get('error', ready)}")
        except BaseException:  # an interruption too
            self.close()
            raise
        self.shape: list[int | None] = ready["ready"]["shape"]

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run ``[B, H, W, 3]`` images; B is what the model takes.

        Raises:
            ConverterError: it fails, or the process is gone.
        """
        answer = self._ask({"shape": list(images.shape)}, [np.ascontiguousarray(images, np.float32).data])
        if "shape" not in answer:
            raise ConverterError(f"the SavedModel failed: {answer.get('error', answer)}")
        shape = answer["shape"]
        with _limit(self._process, self._timeout):
            assert self._process.stdout is not None
            data = self._process.stdout.read(4 * math.prod(shape))
        if len(data) != 4 * math.prod(shape):
            raise ConverterError(_how_it_ended(self._process, Path(self._folder.name)))
        return np.frombuffer(data, np.float32).reshape(shape)

    def close(self) -> None:
        """End the process."""
        self._context.__exit__(None, None, None)
        self._folder.cleanup()

    def __enter__(self) -> SavedModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            _end(self._process)

    def _ask(self, request: Mapping[str, Any], data: Iterable[memoryview] = ()) -> dict[str, Any]:
        with _limit(self._process, self._timeout) as expired:
            _send(self._process, request, data)
            answer = next(_answers(self._process), None)
        if answer is None:
            folder = Path(self._folder.name)
            raise ConverterError(_how_it_ended(self._process, folder, expired=expired.is_set(), timeout=self._timeout))
        return answer


@contextmanager
def _process(python: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is gone, with all that it started, when the block ends."""
    with (folder / _LOG).open("wb") as log:
        try:
            process = subprocess.Popen(
                [str(python), "-I", str(PROGRAM)],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(python, folder),
                start_new_session=True,  # an interruption at the keyboard is for us, who then end it
            )
        except OSError as error:
            raise ConverterError(f"cannot start the converter with {str(python)!r}: {error.strerror}") from error
        try:
            yield process
        finally:
            _end(process)


def _environment(python: Path, folder: Path) -> dict[str, str]:
    """Ours, with the programs of the interpreter's environment first, and nothing that turns it into another one.

    Temporary files go to the scratch folder: TensorFlow, ended as it is, leaves some behind.
    """
    left_out = ("PYTHON", "VIRTUAL_ENV", "TF_", "KERAS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    kept |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder.absolute()))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**kept, **quiet, "PATH": os.pathsep.join((str(python.parent), os.environ.get("PATH", os.defpath)))}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children, and wait for it."""
    _kill(process)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written can no longer be
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children, unless it was collected already, when its number may be another's."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


@contextmanager
def _limit(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """End the process after some time; the event tells that it happened."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill(process)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _send(process: subprocess.Popen[bytes], request: Mapping[str, Any], data: Iterable[memoryview] = ()) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is gone, and has left an answer or a log
        process.stdin.write(json.dumps(request).encode() + b"\n")
        for part in data:
            process.stdin.write(part)
        process.stdin.flush()


def _answers(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    while line := process.stdout.readline():
        yield json.loads(line)


def _how_it_ended(
    process: subprocess.Popen[bytes], folder: Path, *, expired: bool = False, timeout: float = 0.0
) -> str:
    """Say in a line why a worker ended without an answer."""
    code = process.wait()
    if expired:
        return f"the converter did not finish in {timeout:.0f} seconds; set {_TIMEOUT_VARIABLE} to give it more"
    if code in (-9, 128 + 9):
        return "the converter was killed, most likely because the machine ran out of memory; it needs 1 to 4 GB"
    lines = (folder / _LOG).read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"the converter ended with {code}: {last[:300]}"


def _seconds(timeout: float | None) -> float:
    if timeout is not None:
        return timeout
    text = os.environ.get(_TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text) if text else TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ConverterError(f"{_TIMEOUT_VARIABLE}={text!r} is no number of seconds")
    return seconds
