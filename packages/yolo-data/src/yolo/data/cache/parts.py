"""Named arrays in a database, sealed in parts, with a manifest that keeps the parts together.

Each array is cut into parts of at most 16 MiB, each sealed under its own label, so that no value is large. The
manifest, the last part, is JSON: what the caller adds, and a digest over the checks of all parts in order. A part of an
older generation opens by itself (its label and its cache are the right ones), but the digest tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.seal import Seal, index_label
from yolo.data.cache.writer import Item

_PART = 16 << 20
_MANIFEST = "manifest"


def seal_arrays(seal: Seal, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> Iterator[Item]:
    """Give the database items of arrays, the manifest last. Their types and shapes are the reader's to know.

    Args:
        seal: closes the values.
        arrays: by name.
        description: goes into the manifest, as JSON.
    """
    parts, digest = {}, _Digest()
    for name, array in arrays.items():
        octets = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        parts[name] = -(-len(octets) // _PART)
        for part in range(parts[name]):
            label = index_label(name, part)
            stored = seal.close(octets[part * _PART : (part + 1) * _PART], label)
            digest.add(label, seal.check(stored))
            yield label, stored
    manifest = {"parts": parts, "digest": digest.hex(), "description": description}
    label = index_label(_MANIFEST, 0)
    yield label, seal.close(json.dumps(manifest).encode(), label)


class SealedArrays:
    """Arrays that are opened one by one, within one transaction.

    Args:
        txn: made with ``buffers=True``.
        seal: opens the values.

    Raises:
        DamagedRecordError: there is no sound manifest.
    """

    def __init__(self, txn: lmdb.Transaction, seal: Seal) -> None:
        self._txn = txn
        self._seal = seal
        self._digest = _Digest()
        label = index_label(_MANIFEST, 0)
        text = bytes(seal.open(self._stored(label), label))
        try:
            manifest = json.loads(text)
            self.description: dict[str, Any] = dict(manifest["description"])
            self._parts = {str(name): int(count) for name, count in manifest["parts"].items()}
            self._expected = str(manifest["digest"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedRecordError("its manifest is none") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are, in the order in which they are to be read."""
        return tuple(self._parts)

    def read(self, name: str, dtype: str) -> NDArray[Any]:
        """Open an array.

        Args:
            name: of the array.
            dtype: of its elements.

        Returns:
            One axis, read-only, in memory of its own.

        Raises:
            DamagedRecordError: a part is missing, was changed, or the bytes are no whole number of elements.
        """
        if name not in self._parts:
            raise DamagedRecordError(f"it has no {name}")
        labels = [index_label(name, part) for part in range(min(self._parts[name], 1 << 20))]
        stored = [self._stored(label) for label in labels]
        sizes = [len(value) - self._seal.overhead for value in stored]
        whole = np.empty(max(0, sum(sizes)), np.uint8)
        position = 0
        for label, value, size in zip(labels, stored, sizes, strict=True):
            content = self._seal.open(value, label)
            self._digest.add(label, self._seal.check(value))
            whole[position : position + size] = np.frombuffer(content, np.uint8)
            position += size
        if len(whole) % np.dtype(dtype).itemsize:
            raise DamagedRecordError(f"its {name} is cut")
        whole.setflags(write=False)
        return whole.view(dtype)

    def finish(self) -> None:
        """Compare the digest, when every array was read.

        Raises:
            DamagedRecordError: the parts are sound, but they were not written together.
        """
        if self._digest.hex() != self._expected:
            raise DamagedRecordError("its parts are of different generations")

    def _stored(self, label: bytes) -> memoryview:
        value = self._txn.get(label)
        if value is None:
            raise DamagedRecordError(f"{label.decode()} is missing")
        return memoryview(value)


class _Digest:
    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=32)

    def add(self, label: bytes, check: bytes) -> None:
        self._hash.update(len(label).to_bytes(4, "little") + label + check)

    def hex(self) -> str:
        return self._hash.hexdigest()
