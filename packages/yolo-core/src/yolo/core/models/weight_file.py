"""Reading files of weights without running anything that they hold.

``torch.load(weights_only=True)`` and safetensors only; what goes wrong becomes one line that names the file, says what
it really is, and what to do.
"""

from __future__ import annotations

import difflib
import os
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from yolo.core.errors import YoloError

#: Suffixes of files that may hold weights.
WEIGHT_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
_ZIP = b"PK\x03\x04"
_GIT_LFS = b"version https://git-lfs"
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)|instantiate[^\n]*? ([\w]+\.[\w.]+)")


class WeightsError(YoloError):
    """A file of weights that cannot be used; the message names it."""


class WeightsWarning(UserWarning):
    """Weights that were loaded, but look wrong."""


def read_weight_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary that a file of weights holds, on the CPU, as plain data and tensors.

    Tensors of a ``.ckpt`` / ``.pt`` file are mapped from the disk, so that parts that are not used cost nothing: copy
    what you keep.

    Raises:
        WeightsError: not there, a folder, not a file of weights, cut off, or with objects that are not plain data.
    """
    file = Path(path)
    _require_file(file)
    try:
        content = _load_safetensors(file) if _is_safetensors(file) else _load_torch(file)
    except OSError as error:
        raise WeightsError(f"{str(file)!r} cannot be read: {error.strerror or error}") from error
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


def _is_safetensors(file: Path) -> bool:
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


def _load_torch(file: Path) -> Any:
    with file.open("rb") as stream:
        head = stream.read(64)
    _require_torch_file(file, head)
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=head.startswith(_ZIP))
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(file, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        text = (str(error).splitlines() or ["the data ends too early"])[0]
        raise WeightsError(f"{str(file)!r} is damaged or cut off ({text}); fetch or copy it again") from error


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
        if any(member.endswith("/constants.pkl") for member in members):
            raise WeightsError(f"{name} is a TorchScript program, not weights; use the checkpoint it was made from")
        if not any(member.endswith("data.pkl") for member in members):
            raise WeightsError(f"{name} is a zip archive without a checkpoint in it (it holds {members[:3]})")
    elif not head.startswith(b"\x80"):
        raise WeightsError(f"{name} is not a checkpoint: it begins with {head[:12]!r}")


def _refusal(file: Path, message: str) -> str:
    found = _REFUSED.search(message)
    name = next(filter(None, found.groups()), None) if found else _first_object(file)
    if name is None:
        return f"{str(file)!r} is damaged or not a checkpoint: it cannot be read as plain data; fetch or copy it again"
    return (
        f"{str(file)!r} is refused: it wants to create {name!r}, and only tensors and plain data are loaded. Nothing "
        "of it was run. Save its state dict (a dictionary of tensors) as .pt or .safetensors and use that"
    )


def _first_object(file: Path) -> str | None:
    """Name the first class or function that a plain pickle asks for; the file is parsed, never executed."""
    strings: list[str] = []
    try:
        with file.open("rb") as stream:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # not a pickle after all; the caller has a message for that
        return None
    return None


def _kind(value: object) -> str:
    return {"list": "a list", "Tensor": "a single tensor"}.get(type(value).__name__, f"a {type(value).__name__}")
