"""The head of a cache: what can be read without a key."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from yolo.data.cache.errors import DamagedCacheError, MissingCacheError, missing_key, wrong_key
from yolo.data.cache.readers import database_file, reader, translated
from yolo.data.cache.seal import CACHE_ID_SIZE, KeySeal, PlainSeal, Seal
from yolo.data.cache.settings import VERSION
from yolo.data.encryption.keys import Key

#: Database key of the head.
HEAD = b"head"
#: Version of a cache whose head cannot be read.
UNKNOWN = "unknown"

_FORMAT = "yolo image cache"
_OLD_HEAD = b"__metadata__"
_OLD_VERSION = re.compile(rb"version.{1,24}?([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})", re.DOTALL)
_MOST_RECORDS = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Head:
    """What can be read without a key. It is not authenticated: what must be is in the index as well.

    Attributes:
        version: of the layout; an older one or ``unknown`` for a foreign cache, of which nothing else is known.
        cache_id: 16 random bytes.
        encrypted: whether everything but the head is.
        key_id: of the key, None when it is not encrypted.
        key_check: see :meth:`KeySeal.key_check`, empty when it is not encrypted.
        records: number of pictures.
        complete: false while the cache is being made.
    """

    version: str
    cache_id: bytes
    encrypted: bool
    key_id: str | None
    key_check: bytes
    records: int
    complete: bool

    @staticmethod
    def new(*, key: Key | None, records: int, complete: bool = False) -> Head:
        """Return the head of a new cache with a new id."""
        cache_id = os.urandom(CACHE_ID_SIZE)
        return Head(
            version=VERSION,
            cache_id=cache_id,
            encrypted=key is not None,
            key_id=None if key is None else key.id,
            key_check=b"" if key is None else KeySeal(key, cache_id).key_check(),
            records=records,
            complete=complete,
        )

    def seal(self, key: Key | None, folder: Path) -> Seal:
        """Return the seal of the cache's values.

        Args:
            key: of an encrypted cache.
            folder: of the cache, for messages.

        Raises:
            MissingCacheKeyError: it is encrypted, and there is no key.
            WrongCacheKeyError: it was encrypted with another key.
            DamagedCacheError: the key's id says otherwise than the key.
        """
        if not self.encrypted:
            return PlainSeal()
        if key is None:
            raise missing_key(folder)
        seal = KeySeal(key, self.cache_id)
        opens = seal.opens(self.key_check)
        if opens != (self.key_id == key.id):
            raise DamagedCacheError(
                f"the cache {str(folder)!r} is damaged: its head was changed; import it again, or make it again with "
                "`yolo cache-create`"
            )
        if not opens:
            raise wrong_key(folder, cache_key=self.key_id or "?", given_key=key.id)
        return seal

    def as_json(self) -> bytes:
        """Return what is stored."""
        value = {
            "format": _FORMAT,
            "version": self.version,
            "cache_id": self.cache_id.hex(),
            "encrypted": self.encrypted,
            "key_id": self.key_id,
            "key_check": self.key_check.hex(),
            "records": self.records,
            "complete": self.complete,
        }
        return json.dumps(value).encode()

    @staticmethod
    def from_json(text: bytes) -> Head:
        """Read what :meth:`as_json` gave. Of another version, only the version is read.

        Raises:
            ValueError: it is something else.
        """
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        if not isinstance(value, dict) or value.get("format") != _FORMAT or not isinstance(value.get("version"), str):
            raise ValueError("it is no head of a cache")
        if value["version"] != VERSION:
            return foreign(value["version"][:20])
        encrypted, complete, records = value.get("encrypted"), value.get("complete"), value.get("records")
        if not isinstance(encrypted, bool) or not isinstance(complete, bool) or type(records) is not int:
            raise ValueError("a fact of the head is missing")
        if not 0 <= records < _MOST_RECORDS:
            raise ValueError(f"{records} records are not possible")
        cache_id, key_id = bytes.fromhex(_text(value, "cache_id")), value.get("key_id")
        if len(cache_id) != CACHE_ID_SIZE or (encrypted and not re.fullmatch(r"[0-9a-f]{1,64}", str(key_id))):
            raise ValueError("an id of the head is none")
        return Head(
            version=VERSION,
            cache_id=cache_id,
            encrypted=encrypted,
            key_id=str(key_id) if encrypted else None,
            key_check=bytes.fromhex(_text(value, "key_check")),
            records=records,
            complete=complete,
        )


def foreign(version: str) -> Head:
    """Return the head of a cache that another version made."""
    return Head(version=version, cache_id=b"", encrypted=False, key_id=None, key_check=b"", records=0, complete=False)


def read_head(folder: Path) -> Head | None:
    """Return the head of a cache. No key is needed, and nothing stays open.

    Args:
        folder: of the cache.

    Returns:
        None when there is no cache. For a cache of the old code (4.x and before, of which nothing is unpickled) a head
        with its version, or ``unknown``.

    Raises:
        DamagedCacheError: there is a file, but no database that can be read.
        CacheError: it cannot be opened.
    """
    if not database_file(folder).exists():
        return None
    try:
        with reader(folder) as env, translated(folder), env.begin() as txn:
            text, old = txn.get(HEAD), txn.get(_OLD_HEAD)
    except MissingCacheError:
        return None
    if text is not None:
        try:
            return Head.from_json(text)
        except ValueError:
            return foreign(UNKNOWN)
    found = None if old is None else _OLD_VERSION.search(old)
    return foreign(UNKNOWN if found is None else found[1].decode())


def _text(value: dict[str, object], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise ValueError(f"{name} of the head is missing")
    return found
