"""Encryption keys: where they come from, and how they stay secret.

A key is 32 bytes, written as 64 hexadecimal characters. It comes from the configuration or from the environment
variable ``YOLO_ENCRYPTION_KEY``; the configuration wins. No text of this package shows it, and it is never pickled: a
loader that travels to a worker takes the key's id along and finds the key again there, because

* a forked worker inherits the keys that this process knows,
* any other worker inherits the environment. A key that a loader was given by the configuration is put there, under
  ``YOLO_ENCRYPTION_KEY_<id>``: every program that this process starts inherits it, as it would ``YOLO_ENCRYPTION_KEY``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from typing import Any, NoReturn

import yaml

from yolo.core.errors import UsageError

#: Environment variable that holds the key.
VARIABLE = "YOLO_ENCRYPTION_KEY"
#: Bytes of an id.
ID_SIZE = 8
_DIGITS = 64
_MAKE_ONE = 'make one with: python -c "import os; print(os.urandom(32).hex())"'

_ANYWHERE = re.compile(rf"[0-9a-fA-F]{{{_DIGITS}}}")
_KEY = re.compile(rf"\s*[0-9a-fA-F]{{{_DIGITS}}}\s*")


class Key:
    """A secret key of 32 bytes for AES-256.

    It compares by its id, prints as its id, and refuses to be pickled.

    Args:
        secret: the 32 bytes.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _DIGITS // 2:
            raise ValueError(f"a key has {_DIGITS // 2} bytes, not {len(secret)}")
        self._secret = secret
        #: 16 hexadecimal characters that tell keys apart: the beginning of a hash, from which the key cannot be found.
        self.id: str = hashlib.sha256(b"yolo encryption key id\0" + secret).digest()[:ID_SIZE].hex()

    def reveal(self) -> bytes:
        """The 32 bytes, for a cipher."""
        return self._secret

    def __repr__(self) -> str:
        return f"Key(id={self.id})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an encryption key is never pickled; keep its id, and find it with find_key")


_known: dict[str, Key] = {}


def parse_key(text: str, *, source: str) -> Key:
    """Read a key.

    Args:
        text: 64 hexadecimal characters; white space around them is ignored.
        source: where it was found, for messages: ``data.encryption_key``, or the name of the variable.

    Raises:
        UsageError: it is no key. The message says what is wrong, and shows nothing of the text.
    """
    if not isinstance(text, str):
        raise UsageError(f"{source} is a {type(text).__name__}: write the key as {_DIGITS} characters in quotes")
    digits = text.strip()
    if not digits:
        raise UsageError(f"{source} is empty: a key has {_DIGITS} hexadecimal characters; {_MAKE_ONE}")
    wrong = [position for position, digit in enumerate(digits, start=1) if digit not in "0123456789abcdefABCDEF"]
    if wrong:
        found = f"{len(wrong)} of its {len(digits)} characters are not (the first is number {wrong[0]})"
        raise UsageError(f"{source}: a key has {_DIGITS} hexadecimal characters (0-9, a-f), but {found}")
    if len(digits) != _DIGITS:
        raise UsageError(f"{source}: a key has {_DIGITS} hexadecimal characters (32 bytes), not {len(digits)}")
    key = Key(bytes.fromhex(digits))
    _known[key.id] = key
    return key


def find_key(key_id: str | None = None) -> Key:
    """Return the key with an id, or, without one, that of the environment.

    Raises:
        UsageError: there is none; the message says how to set it.
    """
    if key_id is not None:
        if key_id in _known:
            return _known[key_id]
        handed_on = os.environ.get(_variable_of(key_id))
        if handed_on is not None:
            return parse_key(handed_on, source=_variable_of(key_id))
    text = os.environ.get(VARIABLE)
    if text is None:
        if key_id is not None:
            raise UsageError(f"{_not_here(key_id)} (it is not set)")
        raise UsageError(f"encryption needs a key: set {VARIABLE} to {_DIGITS} hexadecimal characters")
    key = parse_key(text, source=VARIABLE)
    if key_id is not None and key.id != key_id:
        raise UsageError(f"{_not_here(key_id)} (it holds {key.id})")
    return key


def hand_on(key: Key) -> None:
    """See to it that processes which are started from now on find a key, however they are started."""
    if os.environ.get(VARIABLE, "").strip().lower() != key.reveal().hex():
        os.environ[_variable_of(key.id)] = key.reveal().hex()


def hide_keys(text: str) -> str:
    """Return a configuration's YAML or JSON text with null in the place of every encryption key.

    What is one, :func:`without_keys` says.
    """
    return yaml.safe_dump(without_keys(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)


def without_keys(value: Any, *, names: Collection[str] = ("encryption_key",)) -> Any:
    """Return settings with None in the place of every encryption key.

    That is every value of ``encryption_key`` and every ``key`` of an ``image_loader``, good or not, and whatever
    :func:`parse_key` would take for a key, wherever it stands.

    Args:
        value: plain data: mappings, lists, and what they hold.
        names: of the entries that hold a key.
    """
    if isinstance(value, dict):
        below = {"image_loader": (*names, "key")}
        return {
            name: None if name in names else without_keys(entry, names=below.get(name, names))
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [without_keys(entry, names=names) for entry in value]
    return None if isinstance(value, (str, int)) and _KEY.fullmatch(str(value)) else value


def mask_keys(message: str) -> str:
    """Return an error message with every key in it covered."""
    return _ANYWHERE.sub("<64 hexadecimal characters>", message)


def _not_here(key_id: str) -> str:
    # A forkserver hands on the environment that it was started with, and a key cannot be sent to it.
    return (
        f"the key with the id {key_id} did not reach this process, which was started before the key was known: "
        f"set {VARIABLE} to it in the environment before starting"
    )


def _variable_of(key_id: str) -> str:
    return f"{VARIABLE}_{key_id.upper()}"
