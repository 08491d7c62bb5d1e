"""Pickled objects of code that is not here, read as dead data.

The published files of YOLOv7 and YOLOv9 pickle whole modules of their own code. Python's unpickler would import that
code, and call whatever else a file names. Here torch's restricted unpickler (``weights_only``) does the reading, and
each foreign class under a short list of packages is replaced by an :class:`Inert` of the same name, which keeps what
the file gives it and does nothing with it. Nothing is imported; every other name is refused by torch.
"""

from __future__ import annotations

import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Packages whose classes and functions are replaced: those that pickled detectors and their options come from.
FOREIGN_PACKAGES = (
    "models",
    "utils",
    "torch.nn.modules",
    "torch.nn.parallel",
    "numpy",
    "argparse",
    "pathlib",
)
_ZIP = b"PK\x03\x04"
_MAX_CLASSES, _MAX_TENSORS, _MAX_NAME = 1000, 50_000, 500  # far beyond any detector: v9-e has 40, 2000 and 50
_GLOBAL = re.compile(
    rb"c((?:"
    + b"|".join(re.escape(name.encode()) for name in FOREIGN_PACKAGES)
    + rb")(?:\.\w{1,80}){0,9})\n(\w{1,80})\n"  # bounded, or a long name would take for ever
)
_lock = threading.Lock()


class Inert:
    """Stands for an object of a foreign class; ``name`` is the full name of the class.

    Attributes:
        arguments: what it was to be created with.
        state: what it was to be filled with: for a module, its ``__dict__``.
    """

    __slots__ = ("arguments", "state")
    name = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Inert:
        """Keep the arguments."""
        self = object.__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state: Any) -> None:
        """Keep the state; the unpickler calls this."""
        self.state = state

    def __repr__(self) -> str:
        return f"<inert {self.name}>"


def load_inert(file: Path) -> Any:
    """Read a ``.pt`` file on the CPU; objects of :data:`FOREIGN_PACKAGES` come back as :class:`Inert`.

    Tensors of a zip file are mapped from the disk.

    Raises:
        pickle.UnpicklingError: the file names anything else than tensors, plain data, and foreign classes.
        RuntimeError, EOFError, ValueError, ...: the file is damaged.
    """
    names = {f"{module.decode()}.{name.decode()}" for module, name in _GLOBAL.findall(pickled_part(file))}
    if len(names) > _MAX_CLASSES:
        raise ValueError(f"it names {len(names)} classes")
    with _known_to_torch(names) if names else nullcontext():
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip(file))


def module_state(module: Inert) -> dict[str, Tensor]:
    """The tensors of a pickled ``torch.nn.Module`` by name, as its ``state_dict()`` would name them.

    Raises:
        ValueError: modules inside modules without end.
    """
    state: dict[str, Tensor] = {}
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, current = waiting.pop()
        seen += 1
        if seen + len(waiting) + len(state) > _MAX_TENSORS:
            raise ValueError("its modules are nested without end")
        hidden = _part(current, "_non_persistent_buffers_set", set)
        for part in ("_parameters", "_buffers"):
            for key, value in _part(current, part, dict).items():
                if isinstance(value, Tensor) and isinstance(key, str) and key not in hidden:
                    state[_named(prefix + key)] = value
        children = _part(current, "_modules", dict).items()
        inside = [(key, child) for key, child in children if isinstance(key, str) and is_module(child)]
        waiting.extend((_named(f"{prefix}{key}."), child) for key, child in reversed(inside))
    return state


def _named(name: str) -> str:
    if len(name) > _MAX_NAME:
        raise ValueError("its modules are nested without end, or have names without end")
    return name


def is_module(value: object) -> TypeGuard[Inert]:
    """Whether this stands for a ``torch.nn.Module``."""
    return isinstance(value, Inert) and isinstance(value.state, dict) and "_modules" in value.state


def is_zip(file: Path) -> bool:
    """Whether a file has the format of torch since 1.6; before, it was pickles one after the other."""
    with file.open("rb") as stream:
        return stream.read(4) == _ZIP


def pickled_part(file: Path) -> bytes:
    """The bytes of a file that are read as a pickle: its object, without the numbers of tensors.

    Empty where they cannot be found, which is for torch to complain about.
    """
    try:
        if is_zip(file):
            with zipfile.ZipFile(file) as archive:
                return b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        return file.read_bytes()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return b""


def _part(module: Inert, name: str, kind: type[T]) -> T:
    value = module.state.get(name)
    return value if isinstance(value, kind) else kind()


@contextmanager
def _known_to_torch(names: set[str]) -> Iterator[None]:
    """Let torch's unpickler know these names as inert classes, and nothing that a program has allowed it for itself.

    The list is one per process, hence the lock, and hence it is put back as it was.
    """
    inert: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (type(name.rpartition(".")[2], (Inert,), {"__slots__": (), "name": name}), name) for name in names
    ]
    with _lock:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(inert)
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)
