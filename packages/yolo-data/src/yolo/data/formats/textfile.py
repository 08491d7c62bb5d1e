"""Reading small text files that somebody else wrote."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from yolo.data.formats.report import DataError, Place

_UTF16 = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_bytes(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """Return the contents of a regular file.

    Raises:
        DataError: naming the file when it is not there, not a file, or larger than ``limit`` bytes.
    """
    try:
        # Not blocking, so that a named pipe cannot stop the run before it is recognised.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                raise _unreadable(path, "this is a folder, not a file")
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "this is not a regular file")
            size = status.st_size
            if size > limit:
                raise _unreadable(path, f"{size / 1e6:,.0f} MB is more than the {limit / 1e6:,.0f} MB allowed")
            data = os.read(handle, size + 1)
            while len(data) < size:  # a read may be short
                part = os.read(handle, size - len(data))
                if not part:
                    break
                data += part
            return data
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise _unreadable(Path(path).absolute(), "no such file") from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error


def decode(data: bytes, path: str | os.PathLike[str]) -> str:
    """Return UTF-8 text without its byte order mark.

    Raises:
        DataError: naming file and line of the first byte that is not UTF-8, or the encoding it has.
    """
    for mark, name in _UTF16.items():
        if data.startswith(mark):
            raise DataError("not-utf8", Place(os.fspath(path), 1), f"the file is in {name}; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(data[: error.start + 1].splitlines())
        text = f"byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise DataError("not-utf8", Place(os.fspath(path), line), text) from None


def _unreadable(path: str | os.PathLike[str], text: str) -> DataError:
    return DataError("unreadable-file", Place(os.fspath(path)), text)
