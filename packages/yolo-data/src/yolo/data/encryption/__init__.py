"""Encrypted images: keys, the ``.enc`` containers, and whole folders."""

from __future__ import annotations

from yolo.data.encryption.container import EncryptionError, decrypt, encrypt
from yolo.data.encryption.keys import VARIABLE, Key, find_key, parse_key

__all__ = ["VARIABLE", "EncryptionError", "Key", "decrypt", "encrypt", "find_key", "parse_key"]
