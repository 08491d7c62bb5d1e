"""Why a file of weights was refused, in words: the pickle is parsed for it, never executed."""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolo.core.weights.foreign import FOREIGN_PACKAGES, pickled_part

_NAMED = re.compile(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)|instantiate[^\n]*? ([\w]+\.[\w.]+)")
_TORCHS_OWN = ("torch._utils.", "torch.storage.", "collections.OrderedDict", "torch.nn.parameter.Parameter", "_codecs.")
_PICKLES = 5  # that torch's old format has: a magic number, a version, the system, the object, the names of its numbers


def refusal(file: Path, message: str) -> str:
    """The error for a file that torch's restricted unpickler has refused with ``message``."""
    name = repr(str(file))
    advice = "Nothing of it was run. Save its state dict (a dictionary of tensors) as .pt or .safetensors and use that"
    if "Only persistent_load" in message:
        return f"{name} is refused: it holds whole modules in torch's format from before 1.6. {advice}"
    objects = list(_objects(pickled_part(file)))
    found = _NAMED.search(message)
    named = next(filter(None, found.groups()), None) if found else None
    if named is not None:  # torch leaves the module "builtins" away
        full = next((known for known in objects if known in (named, f"builtins.{named}")), named)
        return f"{name} is refused: it wants to create {full!r}, and only tensors and plain data are loaded. {advice}"
    strange = [known for known in objects if not _expected(known)]
    if strange:
        return f"{name} is refused: it names {strange[0]!r}, and only tensors and plain data are loaded. {advice}"
    if "operand" in message and objects:
        return f"{name} is refused: it is not pickled as torch.save does by default (protocol 2). {advice}"
    if objects and ("but got" in message or "unrecognized function" in message):
        return f"{name} is refused: it wants to change or call what is no plain data. {advice}"
    return f"{name} is damaged or not a checkpoint: it cannot be read as plain data; fetch or copy it again"


def _expected(name: str) -> bool:
    kind = name.rpartition(".")[2]
    own = name.startswith(_TORCHS_OWN) or (name == f"torch.{kind}" and kind.endswith(("Storage", "Size", "Tensor")))
    return own or name.startswith(tuple(f"{package}." for package in FOREIGN_PACKAGES))


def _objects(data: bytes) -> Iterator[str]:
    """Full names of the classes and functions that a pickle asks for, in its order, as far as it can be parsed."""
    stream = io.BytesIO(data)
    try:
        for _ in range(_PICKLES):
            yield from _names(pickletools.genops(stream))
    except Exception:  # cut off, or no pickle after all; what was found so far counts
        return


def _names(operations: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> Iterator[str]:
    memo: dict[int, str | None] = {}
    strings, top = ["", ""], None  # the last two strings, and the last value where it was a string
    for opcode, argument, _ in operations:
        if opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
            memo[len(memo) if argument is None else int(argument)] = top
            continue
        fetched = memo.get(int(argument)) if opcode.name.endswith("GET") else argument
        top = fetched if isinstance(fetched, str) else None
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".").replace("__builtin__.", "builtins.")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings)
        elif top is not None:
            strings = [strings[1], top]
