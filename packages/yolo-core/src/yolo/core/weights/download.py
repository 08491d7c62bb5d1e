"""Published weights by name: fetched once into a cache folder, checked every time. This module imports no torch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from yolo.core.errors import UsageError, YoloError
from yolo.core.fetch import FetchError, Patience, Progress, discard, fetch, process_lock
from yolo.core.home import yolo_home
from yolo.core.plugins.suggest import unknown_name
from yolo.core.weights.mirror import MIRROR, mirrored
from yolo.core.weights.published import Published, catalogue, published
from yolo.core.weights.trust import record, record_path, recorded, sha256_of, why_not_weights

__all__ = ["DownloadError", "fetch_weights", "weights_path"]

_log = logging.getLogger("yolo.core")
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)


class DownloadError(YoloError):
    """Published weights that cannot be had; the message says what to do by hand."""


def weights_path(name: str) -> Path:
    """Where the published weights of a network are, or will be, kept; put the file there to do without a connection.

    Raises:
        UsageError: there is no such published network.
    """
    return _path(_entry(name))


def fetch_weights(
    name: str,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Return the file of a network's published weights, fetching it first where it is not there.

    A dropped transfer goes on where it ended, in this call or a later one. The file appears complete or not at all; two
    processes may ask at once, and one of them fetches. Its length and SHA-256 are checked; where the SHA-256 is not
    known beforehand, that of the first file is recorded beside it, in ``<file>.sha256``, and expected from then on; so
    it is for a file that was put there by hand. The licence of the weights is logged.

    Args:
        name: a published name, ``"v9-c"``.
        mirror: base address that stands in for everything before the file's name; default ``$YOLO_WEIGHTS_MIRROR``.
        progress: called with the bytes that are there and all bytes (``None`` if unknown); the numbers never fall.
        timeout: seconds without data after which a connection is given up.
        attempts: failed connections in a row after which all is given up.

    Raises:
        UsageError: no such name, or the mirror is no http(s) address.
        DownloadError: it cannot be fetched, kept or trusted; the message names the address and the file's place.
    """
    if not timeout > 0 or attempts < 1:
        raise UsageError(f"timeout={timeout}, attempts={attempts}: more than 0 seconds and at least 1 are needed")
    entry = _entry(name)
    path = _path(entry)
    if _is_there(path):
        _log.info("%s", entry.licence_line)
        return _checked(entry, path)
    url = mirrored(entry.file, mirror) or entry.url
    if url is None:
        raise DownloadError(
            f"no address is known for the published weights of {name!r}; if you have them, {_by_hand(path)}"
        )
    _log.info("%s", entry.licence_line)
    with _folder(path, wait=timeout * (attempts + 1), pause=timeout / 300):
        if _is_there(path):  # another process was faster
            return _checked(entry, path)
        _log.info("Fetching %s to %s", url, path)
        part = _part(path)
        try:
            fetch(url, part, patience=Patience(timeout, attempts), progress=progress)
        except FetchError as error:
            raise DownloadError(f"cannot fetch {url}: {error}; {_by_hand(path)}") from error
        return _accepted(entry, url, part, path)


def _checked(entry: Published, path: Path) -> Path:
    """Trust a file that lies in the cache."""
    try:
        wrong = why_not_weights(path)
        if wrong:
            raise DownloadError(f"{str(path)!r} is no file of weights: {wrong}; delete it, then it is fetched again")
        digest, expected = sha256_of(path), _expected(entry, path)
    except OSError as error:
        raise DownloadError(f"{str(path)!r} cannot be read ({error.strerror or error})") from error
    if expected not in (None, digest):
        raise DownloadError(
            f"{str(path)!r} is not the file that it was: its SHA-256 is {digest}, {expected} is expected"
            f"{_origin(entry, path)}; delete it, then it is fetched again"
        )
    if expected is None:
        _remember(path, digest)
    return path


def _accepted(entry: Published, url: str, part: Path, path: Path) -> Path:
    """Trust a file that was just fetched, and give it its name."""
    try:
        wrong = why_not_weights(part)
        digest, expected = sha256_of(part), _expected(entry, path)
        if wrong:
            discard(part)
            raise DownloadError(f"{url} is no file of weights: {wrong}; it was deleted; {_by_hand(path)}")
        if expected not in (None, digest):
            discard(part)
            raise DownloadError(
                f"{url} has another content than expected, and was deleted: its SHA-256 is {digest}, {expected} is "
                f"expected{_origin(entry, path)}; {_by_hand(path)}"
            )
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        discard(part)
    except OSError as error:
        _cannot_write(path, error)
    if expected is None:
        _remember(path, digest)
    return path


def _expected(entry: Published, path: Path) -> str | None:
    if entry.sha256:
        return entry.sha256
    try:
        return recorded(path)
    except ValueError as error:
        raise DownloadError(f"{error}; delete it, then that of the next file is recorded") from None


def _origin(entry: Published, path: Path) -> str:
    if entry.sha256:
        return " of the published file"
    return f" since the first one (if the new one is right, delete {str(record_path(path))!r})"


def _remember(path: Path, digest: str) -> None:
    try:
        record(path, digest)
    except OSError as error:  # a cache that others prepared may be read-only
        _log.debug("The SHA-256 of %s was not recorded: %s", path, error)


@contextmanager
def _folder(path: Path, *, wait: float, pause: float) -> Iterator[None]:
    """Make the folder of a file, and let nobody else fetch that file meanwhile."""
    part = _part(path)
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(f".{path.name}.lock")
            stack.enter_context(process_lock(lock, wait=wait, sign_of_life=lambda: _size(part), pause=pause))
        except TimeoutError as error:
            raise DownloadError(
                f"another process has been fetching {str(path)!r} for {wait:.0f} s without getting on; end it, or "
                f"{_by_hand(path)}"
            ) from error
        except OSError as error:
            _cannot_write(path, error)
        yield


def _cannot_write(path: Path, error: OSError) -> NoReturn:
    raise DownloadError(
        f"cannot write into {str(path.parent)!r} ({error.strerror or error}); set YOLO_HOME to a folder that can be "
        f"written, or put {path.name!r} into that one by hand"
    ) from error


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder on the way may not be entered; what comes next says so
        return False


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return -1


def _entry(name: str) -> Published:
    entry = published(name)
    if entry is None:
        known = [each.name for each in catalogue()]
        raise UsageError(f"{unknown_name('published network', name, known)} Give a file of weights instead.")
    return entry


def _path(entry: Published) -> Path:
    if not _FILE_NAME.fullmatch(entry.file):
        raise DownloadError(f"{entry.file!r} is refused as the file name of the weights of {entry.name!r}")
    return yolo_home() / "weights" / entry.file


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _by_hand(path: Path) -> str:
    return f"put the file at {str(path)!r}, or set {MIRROR} to an address that has it"
