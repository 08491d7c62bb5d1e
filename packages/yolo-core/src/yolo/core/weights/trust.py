"""Whether a file in the cache is the one that it should be: its SHA-256, and what a look at its ends tells."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from yolo.core.files import write_atomically

_RECORD = re.compile(r"\s*([0-9a-fA-F]{64})(\s.*)?", re.DOTALL)
_ZIP, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
_PICKLE, _HEADER = b"\x80", b"{"  # of files before torch 1.6; of safetensors, behind its length
_ZIP_TAIL = 22 + 65535  # a zip archive's last record with the longest comment
_GIT_LFS = b"version https://git-lfs"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_path(path: Path) -> Path:
    """The file beside ``path`` that holds its SHA-256, as ``sha256sum --check`` reads it."""
    return path.with_name(f"{path.name}.sha256")


def recorded(path: Path) -> str | None:
    """The SHA-256 that was recorded for a file, ``None`` when there is no record.

    Raises:
        ValueError: there is one, but it holds something else.
        OSError: it cannot be read.
    """
    try:
        text = record_path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found = _RECORD.fullmatch(text)
    if found is None:
        raise ValueError(f"{str(record_path(path))!r} holds no SHA-256")
    return found[1].lower()


def record(path: Path, digest: str) -> None:
    """Write down the SHA-256 of a file beside it.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(record_path(path), f"{digest}  {path.name}\n".encode())


def why_not_weights(path: Path) -> str | None:
    """Say what a file is, if a look at its beginning and end shows that it is no whole file of weights.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(max(0, size - _ZIP_TAIL))
        tail = file.read() if head.startswith(_ZIP) else b""
    if not head:
        return "it is empty"
    if head.lstrip()[:1] == b"<":
        return "it is a web page"
    if head.startswith(_GIT_LFS):
        return "it is a Git LFS pointer, not the file itself"
    if head.startswith(_ZIP) and _ZIP_END not in tail:
        return "it is cut off, its end is missing"
    if not (head.startswith((_ZIP, _PICKLE)) or head[8:9] == _HEADER):
        return f"it begins with {head[:16]!r}, as no file of weights does"
    return None
