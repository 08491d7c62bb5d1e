"""Reading files of weights without running anything that they hold.

Safetensors and torch's restricted unpickler (see :mod:`yolo.core.weights.foreign`) only; what goes wrong becomes one
line that names the file, says what it really is, and what to do.
"""

from __future__ import annotations

import difflib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from yolo.core.errors import YoloError
from yolo.core.weights.foreign import Inert, load_inert
from yolo.core.weights.plain import as_plain
from yolo.core.weights.refusal import refusal

#: Suffixes of files that may hold weights.
WEIGHT_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
_ZIP = b"PK\x03\x04"
_GIT_LFS = b"version https://git-lfs"


class WeightsError(YoloError):
    """A file of weights that cannot be used; the message names it."""


class WeightsWarning(UserWarning):
    """Weights that were loaded, but look wrong."""


def read_weight_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary that a file of weights holds, on the CPU, as plain data and tensors.

    Tensors of a ``.ckpt`` / ``.pt`` file are mapped from the disk, so that parts that are not used cost nothing: copy
    what you keep. Objects of the code that wrote a published file are :class:`yolo.core.weights.foreign.Inert`.

    Raises:
        WeightsError: not there, a folder, not a file of weights, cut off, or with objects that are not plain data.
    """
    file = Path(path)
    _require_file(file)
    try:
        content = _load_safetensors(file) if is_safetensors(file) else _load_torch(file)
    except OSError as error:
        raise WeightsError(f"{str(file)!r} cannot be read: {error.strerror or error}") from error
    if isinstance(content, Inert):  # a module that was saved by itself
        content = {"model": content}
    if not isinstance(content, dict):
        raise WeightsError(f"{str(file)!r} holds {_kind(content)}, not weights by name; save a state dict instead")
    if not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{str(file)!r} holds a dictionary whose keys are not names, so it is no file of weights")
    return content


def _require_file(file: Path) -> None:
    if file.is_dir():
        inside = sorted(p for p in file.rglob("*") if p.suffix.lower() in WEIGHT_SUFFIXES)[:3]
        hint = f"; it holds {', '.join(repr(str(p)) for p in inside)}" if inside else ""
        raise WeightsError(f"{str(file)!r} is a folder, not a file of weights{hint}")
    if file.is_file():
        return
    parent = file.parent
    if not parent.is_dir():
        raise WeightsError(f"{str(file)!r} does not exist; there is no folder {str(parent)!r}")
    others = sorted(p.name for p in parent.iterdir() if p.suffix.lower() in WEIGHT_SUFFIXES)
    near = difflib.get_close_matches(file.name, others, n=3) or others[:3]
    hint = f"; in that folder there is {', '.join(map(repr, near))}" if near else ""
    raise WeightsError(f"{str(file)!r} does not exist{hint}")


def is_safetensors(file: Path) -> bool:
    """By content, else by suffix: 8 bytes of length, then a JSON object."""
    with file.open("rb") as stream:
        head = stream.read(9)
    return head[:4] != _ZIP and (file.suffix.lower() == ".safetensors" or head[8:] == b"{")


def _load_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsError(
            f"{str(file)!r} is not a complete safetensors file ({error}); fetch or copy it again"
        ) from error


def safetensors_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a safetensors file of ours says about its network: a model bundle without tensors; {} when it says nothing.

    Raises:
        WeightsError: the entry is not what we write.
    """
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("yolo", "{}")
    try:
        described = as_plain(json.loads(text), file_size=0)
    except (ValueError, RecursionError):
        described = None
    if not isinstance(described, dict):
        raise WeightsError(f"{str(path)!r}: the metadata entry 'yolo' is damaged; convert the model again")
    return described


@contextmanager
def untrusted(name: str) -> Iterator[None]:
    """Turn whatever odd values from a file make the code stumble over into one clear error.

    Raises:
        WeightsError: in place of anything that is no error of ours; ``name`` is the file's.
    """
    try:
        yield
    except (YoloError, OSError):
        raise
    except Exception as error:  # the values come from a file, and may be anything
        text = (str(error).splitlines() or [""])[0][:200]
        raise WeightsError(f"{name!r} is damaged, or no model of ours ({type(error).__name__}: {text})") from error


def _load_torch(file: Path) -> Any:
    with file.open("rb") as stream:
        head = stream.read(64)
    _require_torch_file(file, head)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # what follows from it is said below
            content = load_inert(file)
    except pickle.UnpicklingError as error:
        raise WeightsError(refusal(file, str(error))) from error
    except OSError:
        raise
    except Exception as error:  # what damage makes torch fail with has no end: struct.error, AssertionError, ...
        text = (str(error).splitlines() or ["the data ends too early"])[0]
        raise WeightsError(f"{str(file)!r} is damaged or cut off ({text}); fetch or copy it again") from error
    try:
        return as_plain(content, file_size=file.stat().st_size)
    except ValueError as error:
        raise WeightsError(f"{str(file)!r} is refused: {error}") from error


def _require_torch_file(file: Path, head: bytes) -> None:
    """Tell apart what torch.load would answer with a riddle."""
    name = repr(str(file))
    if not head:
        raise WeightsError(f"{name} is empty; fetch or copy it again")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(
            f"{name} is a web page saved under this name, not weights; open it to see why, fetch it again"
        )
    if head.startswith(_GIT_LFS):
        raise WeightsError(f"{name} is a Git LFS pointer, not the file itself; run 'git lfs pull'")
    if head.startswith(_ZIP):
        if not zipfile.is_zipfile(file):
            raise WeightsError(f"{name} is cut off: its end is missing; fetch or copy it again")
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            unpacked = sum(member.file_size for member in archive.infolist())
        if any(member.endswith("/constants.pkl") for member in members):
            raise WeightsError(f"{name} is a TorchScript program, not weights; use the checkpoint it was made from")
        if unpacked > file.stat().st_size:
            raise WeightsError(f"{name} is packed: it unpacks to {unpacked} bytes, and torch stores its files unpacked")
        if not any(member.endswith("data.pkl") for member in members):
            raise WeightsError(f"{name} is a zip archive without a checkpoint in it (it holds {members[:3]})")
    elif not head.startswith(b"\x80"):
        raise WeightsError(f"{name} is not a checkpoint: it begins with {head[:12]!r}")


def _kind(value: object) -> str:
    return {"list": "a list", "Tensor": "a single tensor"}.get(type(value).__name__, f"a {type(value).__name__}")
