"""How the values of a cache are closed, so that no change of them goes unnoticed.

Every value has a label, which is its key in the database; a value under another label does not open. Two kinds of seal:

* :class:`PlainSeal`: the value, then a CRC-32 over label and value [4 bytes]. It notices accidents.
* :class:`KeySeal`: nonce [12], the value encrypted by AES-256-GCM, tag [16] (NIST SP 800-38D). Associated data: the
  cache's id [16], then the label. It notices accidents and attacks, and hides the value. Nonces are random, so one key
  is good for 2^32 values (SP 800-38D, section 8.3).

The check of a sealed value, its last bytes, tells it from every other value that was ever stored under its label: the
index keeps the check of each record, so that an older record put back is noticed too.
"""

from __future__ import annotations

import os
import struct
import zlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from yolo.data.cache.errors import DamagedRecordError
from yolo.data.encryption.keys import Key, find_key, hand_on

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: What is opened and what comes out.
Bytes = bytes | memoryview

#: Bytes of a cache's id.
CACHE_ID_SIZE = 16
_NONCE, _TAG, _CRC = 12, 16, 4
_KEY_CHECK = b"key check"


def record_label(number: int) -> bytes:
    """Label and database key of a record: ``r``, then the number in 8 bytes, so that records are stored in order."""
    return b"r" + struct.pack(">Q", number)


def index_label(name: str, part: int) -> bytes:
    """Label and database key of a part of the index."""
    return f"index/{name}/{part}".encode()


class Seal(ABC):
    """Closes and opens values. Instances may be used by several threads at once, and pickled.

    Attributes:
        check_size: bytes of a check.
        overhead: bytes that a sealed value is larger than the value.
    """

    check_size: int
    overhead: int

    @abstractmethod
    def close(self, data: Bytes, label: bytes) -> bytes:
        """Return the sealed value."""

    @abstractmethod
    def open(self, stored: Bytes, label: bytes) -> Bytes:
        """Return the value: a view of ``stored`` or new bytes.

        Raises:
            DamagedRecordError: it is not what :meth:`close` gave for this label. The caller knows what to call it.
        """

    def check(self, stored: Bytes) -> bytes:
        """Return the check of a sealed value, ``check_size`` bytes."""
        return bytes(stored[-self.check_size :])


class PlainSeal(Seal):
    """A checksum against accidents."""

    check_size = _CRC
    overhead = _CRC

    def close(self, data: Bytes, label: bytes) -> bytes:
        """Return the value with its checksum."""
        return b"".join((data, _crc(data, label)))

    def open(self, stored: Bytes, label: bytes) -> memoryview:
        """Return a view of the value; raise DamagedRecordError when the checksum is another one."""
        view = memoryview(stored)
        data = view[:-_CRC]
        if len(view) < _CRC or view[-_CRC:] != _crc(data, label):
            raise DamagedRecordError("its checksum is wrong")
        return data


class KeySeal(Seal):
    """Authenticated encryption with a key.

    A pickled seal holds the key's id and no key: a worker finds it as :mod:`yolo.data.encryption.keys` says.

    Args:
        key: of the cache.
        cache_id: 16 bytes.
    """

    check_size = _TAG
    overhead = _NONCE + _TAG

    def __init__(self, key: Key, cache_id: bytes) -> None:
        if len(cache_id) != CACHE_ID_SIZE:
            raise ValueError(f"a cache's id has {CACHE_ID_SIZE} bytes, not {len(cache_id)}")
        self.key_id = key.id
        self.cache_id = cache_id
        self._key = key
        hand_on(key)

    def __reduce__(self) -> tuple[object, ...]:
        return _find, (self.key_id, self.cache_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key_id})"

    @cached_property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key.reveal())

    def close(self, data: Bytes, label: bytes) -> bytes:
        """Return the encrypted value; every call gives other bytes."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, self.cache_id + label)

    def open(self, stored: Bytes, label: bytes) -> bytes:
        """Return the decrypted value; raise DamagedRecordError when it was changed, or closed for another label."""
        from cryptography.exceptions import InvalidTag

        view = memoryview(stored)
        if len(view) < self.overhead:
            raise DamagedRecordError("it is cut")
        try:
            return self._cipher.decrypt(view[:_NONCE], view[_NONCE:], self.cache_id + label)
        except InvalidTag:
            raise DamagedRecordError("it was changed, or belongs to another place") from None

    def key_check(self) -> bytes:
        """Return what tells the right key from a wrong one: a sealed empty value, 28 bytes."""
        return self.close(b"", _KEY_CHECK)

    def opens(self, key_check: bytes) -> bool:
        """Whether this key made a key check."""
        try:
            return self.open(key_check, _KEY_CHECK) == b""
        except DamagedRecordError:
            return False


def _find(key_id: str, cache_id: bytes) -> KeySeal:
    return KeySeal(find_key(key_id), cache_id)


def _crc(data: Bytes, label: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data, zlib.crc32(label)))
