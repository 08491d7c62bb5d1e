"""Which interpreter converts: this one, if it has the right versions, else one that is made for it and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from yolo.core.fetch import process_lock
from yolo.core.files import write_atomically
from yolo.core.home import yolo_home
from yolo.export.backends.base import ExportError

#: What is known to work together; onnx2tf pins most of what else is needed.
REQUIREMENTS = ("onnx2tf==1.29.24", "tensorflow==2.19.0", "tf-keras==2.19.0", "setuptools<82")
#: The same as first numbers of versions, for an environment that somebody else made (the extra ``tflite``).
ACCEPTED = {"onnx2tf": (1, 29), "tensorflow": (2, 19), "tf-keras": (2, 19)}
PYTHON = "3.11"
#: Names an interpreter that has the requirements, for machines that are prepared by hand.
VARIABLE = "YOLO_CONVERTER_PYTHON"
_READY = "ready.json"
_PATIENCE = 900.0  # seconds without a sign of life of another process that makes the environment
#: Variables about the user's own packages and projects.
_LEFT_OUT = re.compile(
    "VIRTUAL_ENV|PYTHON(PATH|HOME)|UV_(SYSTEM_)?PYTHON|UV_PROJECT(_ENVIRONMENT)?|UV_WORKING_DIR|"
    "UV_((BUILD_)?CONSTRAINT|OVERRIDE|EXCLUDE|RESOLUTION|PRERELEASE|REQUIRE_HASHES)"
)

_log = logging.getLogger("yolo.export")


class EnvironmentUnavailableError(ExportError):
    """There is no interpreter to convert with; the message says what to do."""


def converter_python(*, progress: Callable[[str], None] | None = None) -> Path:
    """Return an interpreter that has TensorFlow and onnx2tf, making an environment for it on first use.

    ``$YOLO_CONVERTER_PYTHON``, else this interpreter where ``yolo-export[tflite]`` is installed, else the kept one
    under :func:`~yolo.core.home.yolo_home`. Two processes may ask at once: one makes it. One that was left
    half-made is made again.

    Args:
        progress: gets what is being done, in words; default: warnings in the log of this package.

    Raises:
        EnvironmentUnavailableError: there is none and none can be made.
    """
    ready = _find_python()
    if ready is not None:
        return ready
    folder = environment_folder()
    tell = progress or (lambda text: _log.warning("%s", text))  # seen also where nobody listens to notes
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f"{folder.name}.lock")
        with process_lock(lock, wait=_PATIENCE, sign_of_life=lambda: _sign_of_life(folder)):
            if not _is_ready(folder):
                _make(folder, tell)
    except TimeoutError as error:
        raise EnvironmentUnavailableError(
            f"another process has been making {str(folder)!r} for too long; end it, or delete the folder"
        ) from error
    except OSError as error:
        raise EnvironmentUnavailableError(
            f"cannot make the converter's environment {str(folder)!r}: {error.strerror or error}"
        ) from error
    return _python_of(folder)


def require_converter() -> None:
    """See that there is an interpreter to convert with, or that one can be made, as far as that is known beforehand.

    Raises:
        EnvironmentUnavailableError: what is missing, and what to do.
    """
    if _find_python() is None:
        _find_uv()


def _find_python() -> Path | None:
    """The interpreter to convert with, if nothing has to be made for it."""
    given = os.environ.get(VARIABLE)
    if given:
        python = Path(given).expanduser()
        if not python.is_file():
            raise EnvironmentUnavailableError(f"{VARIABLE}={given!r} is no file; it must be a Python interpreter")
        return python.absolute()
    if has_requirements():
        return Path(sys.executable)
    folder = environment_folder()
    return _python_of(folder) if _is_ready(folder) else None


def has_requirements(version: Callable[[str], str] = importlib.metadata.version) -> bool:
    """Whether this interpreter has the versions that a conversion needs."""
    for name, first in ACCEPTED.items():
        try:
            found = version(name).split(".")
        except importlib.metadata.PackageNotFoundError:
            return False
        if tuple(found[: len(first)]) != tuple(map(str, first)):
            return False
    return True


def environment_folder() -> Path:
    """Where the environment is, or will be, kept; another set of requirements has another folder."""
    digest = hashlib.sha256("\n".join((PYTHON, *REQUIREMENTS)).encode()).hexdigest()[:12]
    return yolo_home() / "converter" / f"tflite-{digest}"


def _is_ready(folder: Path) -> bool:
    return (folder / _READY).is_file() and _python_of(folder).is_file()


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _sign_of_life(folder: Path) -> tuple[float, ...]:
    """What changes while packages arrive in the environment."""
    found = []
    for path in (folder, *folder.glob("lib/python*/site-packages")):
        try:
            found.append(path.stat().st_mtime)
        except OSError:
            continue
    return tuple(found)


def _make(folder: Path, tell: Callable[[str], None]) -> None:
    """Fill the folder; the mark that it is complete comes last."""
    uv = _find_uv()
    if folder.exists():
        tell(f"Removing an unfinished environment, {folder}")
        shutil.rmtree(folder)
    tell(f"Making an environment for TensorFlow, once: about 0.7 GB to fetch, 2.5 GB in {folder}")
    try:
        _run([uv, "venv", "--no-project", "--python", PYTHON, str(folder)], folder.parent, tell)
        _run([uv, "pip", "install", "--python", str(_python_of(folder)), *REQUIREMENTS], folder.parent, tell)
    except BaseException:  # an interruption too
        shutil.rmtree(folder, ignore_errors=True)
        raise
    made = {"python": PYTHON, "requirements": list(REQUIREMENTS)}
    write_atomically(folder / _READY, (json.dumps(made, indent=2) + "\n").encode())
    tell("The environment for TensorFlow is ready")


def _find_uv() -> str:
    """The ``uv`` program: on the path, or installed as a package beside this interpreter."""
    beside = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
    found = shutil.which("uv") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise EnvironmentUnavailableError(
            "TensorFlow is not installed here, and uv, which would install it apart, is not there either: "
            "pip install uv (or, with Python 3.11, pip install 'yolo-export[tflite]')"
        )
    return str(Path(found).absolute())


def _run(command: list[str], cwd: Path, tell: Callable[[str], None]) -> None:
    """Run uv, and pass on what it says as it says it; not in the user's folder, whose project may constrain packages.

    Raises:
        EnvironmentUnavailableError: it fails; the message has its reason.
    """
    environment = {name: value for name, value in os.environ.items() if not _LEFT_OUT.fullmatch(name)}
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=cwd,
        env=environment,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                text = line.strip()
                if text:
                    said.append(text)
                if text.split(" ")[0] in ("Downloading", "Resolved", "Prepared", "Installed", "Building"):
                    tell(f"uv: {text}")
        except BaseException:  # an interruption too
            process.kill()
            raise
    if process.returncode:
        raise EnvironmentUnavailableError(_reason(" ".join(said)))


_REASONS: Mapping[str, tuple[str, ...]] = {
    f"Python {PYTHON} is not installed and could not be fetched; install it, or run: uv python install {PYTHON}": (
        "no interpreter found",
        "no download",
        "python-build-standalone",
    ),
    "there is not enough space on the disk": ("no space left",),
    "the package index cannot be reached; is there a network connection?": (
        "dns error",
        "error sending request",
        "failed to fetch",
        "connection refused",
        "tunnel error",
        "client error",
        "network connectivity is disabled",
        "timed out",
        "not found in the cache",
    ),
}


def _reason(text: str) -> str:
    """What uv's words mean for the user."""
    low = text.lower()
    known = next((reason for reason, signs in _REASONS.items() if any(sign in low for sign in signs)), None)
    said = textwrap.shorten(" ".join(text.split())[::-1], 300, placeholder=" ...")[::-1]  # its end says why
    what = "cannot make the converter's environment"
    return f"{what}: {known} (uv: {said})" if known else f"{what}; uv said: {said or 'nothing'}"
