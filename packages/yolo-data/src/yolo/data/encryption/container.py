"""The two ``.enc`` containers.

What is written (AES-256-GCM, NIST SP 800-38D), numbers of bytes in brackets::

    magic "YOLOENC\\0" [8]  version 1 [1]  key id [8]  nonce [12]  encrypted content  tag [16]

The 29 bytes before the content are authenticated with it (as GCM's associated data), so that no byte of a file can be
changed without being noticed. The nonce is random: one key is good for 2^32 files (SP 800-38D, section 8.3). The name
of the file is not part of it: renaming is allowed, exchanging two files is not noticed. Sizes and names are visible.

What is also read, because data sets exist in it: a 16-byte initialisation vector, then AES-256-CBC with PKCS7 padding.
It cannot tell a damaged file from a wrong key, and often notices neither.
"""

from __future__ import annotations

import os

from yolo.core.errors import YoloError
from yolo.data.encryption.keys import ID_SIZE, Key

#: Suffix of encrypted files.
SUFFIX = ".enc"
#: First bytes of a file that :func:`encrypt` made.
MAGIC = b"YOLOENC\0"
VERSION = 1
#: Largest content, bytes: the files are handled in memory, and ciphers take less than 2^31 bytes at once.
LARGEST = 1 << 30
_NONCE, _TAG, _BLOCK = 12, 16, 16
_HEADER = len(MAGIC) + 1 + ID_SIZE + _NONCE
OVERHEAD = _HEADER + _TAG


class EncryptionError(YoloError):
    """A file that cannot be decrypted; the message names it and says why."""


class WrongKeyError(EncryptionError):
    """The file was encrypted with another key."""


class DamagedFileError(EncryptionError):
    """The key is right, but the file is not what was written."""


def is_own(data: bytes) -> bool:
    """Whether the content of a file is in the authenticated container."""
    return data[: len(MAGIC)] == MAGIC


def encrypt(content: bytes, key: Key) -> bytes:
    """Put a file's content into the authenticated container; every call gives other bytes.

    Raises:
        ValueError: more than :data:`LARGEST` bytes.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(content) > LARGEST:
        raise ValueError(f"{len(content)} bytes are more than {LARGEST}")
    nonce = os.urandom(_NONCE)
    header = MAGIC + bytes([VERSION]) + bytes.fromhex(key.id) + nonce
    return header + AESGCM(key.reveal()).encrypt(nonce, content, header)


def decrypt(data: bytes, key: Key, *, name: str) -> bytes:
    """Return the content of either container.

    Args:
        data: the whole file.
        key: to use.
        name: of the file, for messages.

    Raises:
        WrongKeyError: the file names another key.
        DamagedFileError: the file was changed or cut, or is no container.
        EncryptionError: a newer version; or the old container does not open, where damage and a wrong key look alike.
    """
    return _open_gcm(data, key, name) if is_own(data) else _open_cbc(data, key, name)


def _open_gcm(data: bytes, key: Key, name: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(data) < OVERHEAD:
        raise DamagedFileError(f"{name!r} is cut: {len(data)} bytes are less than an empty encrypted file has")
    header, version = data[:_HEADER], data[len(MAGIC)]
    if version != VERSION:
        raise EncryptionError(f"{name!r} has version {version} of the encrypted format, this program reads {VERSION}")
    nonce, content, cipher = header[-_NONCE:], memoryview(data)[_HEADER:], AESGCM(key.reveal())
    start = len(MAGIC) + 1
    key_id = header[start:-_NONCE].hex()
    try:
        # With our own id in the header, so that damage in its id is told from another key.
        plain = cipher.decrypt(nonce, content, header[:start] + bytes.fromhex(key.id) + nonce)
    except InvalidTag:
        if key_id != key.id:
            text = f"{name!r} was encrypted with another key: its id is {key_id}, the one given has {key.id}"
            raise WrongKeyError(text) from None
        raise DamagedFileError(f"{name!r} is damaged: the key is the right one, but the content was changed") from None
    if key_id != key.id:
        raise DamagedFileError(f"{name!r} is damaged: the id of the key in its header was changed")
    return plain


def _open_cbc(data: bytes, key: Key, name: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.padding import PKCS7

    if len(data) < 2 * _BLOCK or len(data) % _BLOCK:
        raise DamagedFileError(f"{name!r} is no encrypted file, or cut: {len(data)} bytes are not whole AES blocks")
    decryptor = Cipher(AES(key.reveal()), CBC(data[:_BLOCK])).decryptor()
    padded = decryptor.update(memoryview(data)[_BLOCK:]) + decryptor.finalize()
    unpadder = PKCS7(8 * _BLOCK).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise EncryptionError(
            f"{name!r} cannot be decrypted: the key (id {key.id}) is wrong or the file is damaged; "
            "this older kind of encryption (AES-CBC) cannot tell which"
        ) from None
