"""Writing files so that a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write bytes to a temporary file beside ``path`` and rename it; folders are made as needed.

    Args:
        path: the file to make or replace.
        data: its new content.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files that only the owner can read; a result is for everybody the umask allows.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def check_writable(folder: str | Path) -> None:
    """See that files can be made in a folder, or in the nearest one above it if it is still to be made; leave nothing.

    Args:
        folder: that something will be written to.

    Raises:
        OSError: they cannot; ``filename`` is the folder that exists, ``strerror`` the reason.
    """
    wanted = Path(folder).absolute()
    existing = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(existing))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(existing)) from None
