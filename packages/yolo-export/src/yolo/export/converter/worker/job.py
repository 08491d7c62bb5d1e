"""From the first line of the input to the last answer, in a process that keeps to itself."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from .conversion import convert
from .errors import RefusalError, one_line
from .serving import serve


def main() -> None:
    """Do what the first line says."""
    answers, log = _take_streams()
    _allow_no_network()
    job = json.loads(sys.stdin.buffer.readline())
    pictures = _read_pictures(job.get("calibration", [0]))

    def tell(**answer: Any) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        if job["task"] == "run":
            serve(Path(job["saved_model"]), answers, tell)
        else:
            threading.Thread(target=_end_with_parent, daemon=True).start()
            tell(done=convert(job, pictures, lambda text: tell(step=text)))
    except RefusalError as error:
        tell(error=str(error))
    except ModuleNotFoundError as error:
        tell(error=f"{sys.executable} has no module {error.name!r}; install 'yolo-export[tflite]' there (Python 3.11)")
    except BaseException as error:  # SystemExit too: onnx2tf ends the process where it gives up
        import traceback

        traceback.print_exc(file=log)
        tell(error=f"{type(error).__name__}: {one_line(error)}")
    answers.flush()
    log.flush()
    os._exit(0)  # TensorFlow's threads may hang at an ordinary end


def _take_streams() -> tuple[BinaryIO, Any]:
    """Keep standard output for answers; what is printed by others goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers, sys.stderr


def _allow_no_network() -> None:
    """Make every attempt of a library to reach the network an error."""

    def refuse(event: str, arguments: Any) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            raise RefusalError("the converter tried to reach the network, which it never needs")

    sys.addaudithook(refuse)


def _read_pictures(shape: list[int]) -> Any:
    """The pictures to calibrate with, uint8, which follow the first line."""
    import numpy as np

    size = int(np.prod(shape))
    data = sys.stdin.buffer.read(size)
    if len(data) < size:  # whoever sent them is gone
        os._exit(1)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
