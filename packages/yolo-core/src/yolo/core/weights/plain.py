"""What a file may hold once it is read: tensors that lie in it, and a modest amount of plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo.core.weights.foreign import Inert

_MOST_VALUES = 2_000_000  # a checkpoint of a large network has a few thousand
_MOST_LEVELS = 100
_MOST_BITS = 64
_SPARE = 1 << 20  # bytes: small tensors may be made without lying in the file
_ATOMS = (str, bytes, bool, float, complex, type(None), torch.dtype, torch.device)


def as_plain(content: Any, *, file_size: int) -> Any:
    """Copy the containers of what a file held, so that nothing is left of what it may have done to them.

    Dictionaries of any kind become dictionaries, parameters become tensors; tensors and objects of foreign code
    (:class:`~yolo.core.weights.foreign.Inert`) stay, the latter with plain contents.

    Args:
        content: as read.
        file_size: bytes of the file; tensors cannot have more.

    Raises:
        ValueError: far too much, too deep, too large numbers, or tensors that are no numbers of the file.
    """
    copier = _Copier()
    plain = copier.copy(content, 0)
    stored = sum(copier.storages.values())
    if stored > file_size + _SPARE:
        raise ValueError(f"its tensors have {stored} bytes, the file has {file_size}")
    return plain


class _Copier:
    def __init__(self) -> None:
        self.storages: dict[int, int] = {}
        self._values = 0
        self._inert: set[int] = set()

    def copy(self, value: Any, level: int) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES or level > _MOST_LEVELS:
            raise ValueError("it holds far more, or far more deeply nested, data than a model has")
        for kind, copied in _CONTAINERS:
            if isinstance(value, kind):
                return copied(self, value, level + 1)
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"it holds a whole number of {value.bit_length()} bits")
        return value if isinstance(value, (*_ATOMS, int)) else str(type(value).__name__)

    def _mapping(self, value: dict[Any, Any], level: int) -> dict[Any, Any]:
        # The methods of the class, because the file may have given the object attributes of the same names.
        return {self.copy(key, level): self.copy(entry, level) for key, entry in dict.items(value)}

    def _list(self, value: list[Any], level: int) -> list[Any]:
        return [self.copy(entry, level) for entry in list.__iter__(value)]

    def _tuple(self, value: tuple[Any, ...], level: int) -> tuple[Any, ...]:
        return tuple(self.copy(entry, level) for entry in tuple.__iter__(value))

    def _set(self, value: set[Any], level: int) -> set[Any]:
        return {self.copy(entry, level) for entry in set.__iter__(value)}

    def _foreign(self, value: Inert, level: int) -> Inert:
        if id(value) not in self._inert:  # modules may know each other
            self._inert.add(id(value))
            value.arguments = self.copy(value.arguments, level)
            value.state = self.copy(value.state, level)
        return value

    def _tensor(self, value: Tensor, level: int) -> Tensor:
        tensor = Tensor.detach(value)
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise ValueError("it holds a sparse, quantised or empty tensor; save ordinary ones")
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = max(self.storages.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor


_CONTAINERS: tuple[tuple[type, Callable[[_Copier, Any, int], Any]], ...] = (
    (dict, _Copier._mapping),
    (list, _Copier._list),
    (tuple, _Copier._tuple),
    (set, _Copier._set),
    (Inert, _Copier._foreign),
    (Tensor, _Copier._tensor),
)
