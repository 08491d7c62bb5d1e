"""From an archive to a cache, whoever wrote the archive.

An archive is taken as it comes off the net. What is not exactly the two members of :mod:`yolo.data.cache.manifest` is
refused, and up to there nothing is written. The cache is unpacked into a folder beside its later place, and takes that
place when its length, its hash and its head were checked. A kill leaves at most that folder, which the next import
removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.errors import CacheError
from yolo.data.cache.exclusive import exclusively
from yolo.data.cache.head import read_head
from yolo.data.cache.manifest import DATA, LONGEST, MANIFEST, ArchiveError, Manifest, is_cache_name
from yolo.data.cache.promote import CacheBusyError, finish, put_in_place
from yolo.data.cache.readers import close_reader
from yolo.data.cache.tar import CHUNK, Source, UnexpectedMemberError

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

_TEMPORARY = ".import"
# What else a disk needs to hold a file: its folders, and room to go on working.
_RESERVE = 16 << 20
_AGAIN = "transfer it again, or export it again with `yolo cache-export`"


def import_cache(archive: Path, output: Path, *, force: bool = False, track: Track | None = None) -> Path:
    """Unpack a cache, in constant memory. The cache appears only when it is complete and was checked.

    Args:
        archive: that ``yolo cache-export`` wrote.
        output: folder to put the cache into; it is made where it is missing.
        force: replace a cache that is there, once the new one was checked.
        track: shows progress.

    Returns:
        The cache's folder, ``<output>/.yolo_cache_640x640_f1.0``.

    Raises:
        ArchiveError: the archive is damaged, incomplete, or something else; nothing was changed.
        UsageError: there is no such file, or the cache is there already.
        YoloError: the cache cannot be written; nothing was left behind.
    """
    if not archive.is_file():
        what = "is no file" if archive.exists() else "does not exist"
        raise UsageError(f"--archive {str(archive)!r} {what}")
    if os.path.lexists(output) and not output.is_dir():
        raise UsageError(f"--output {str(output)!r} is not a folder")
    with Source(archive) as source:
        manifest = _manifest(source)
        folder = output / manifest.cache
        _check_place(folder, manifest, force=force)
        with _folder_made(output), exclusively(folder):
            finish(folder)
            _check_place(folder, manifest, force=force)
            temporary = output / (manifest.cache + _TEMPORARY)
            _remove_leftovers(temporary)
            try:
                _write(source, manifest, temporary, track)
                _check_head(temporary, manifest, source.where)
                put_in_place(temporary, folder)
            except OSError as error:
                raise YoloError(_unwritable(output, manifest, error)) from error
            finally:
                _remove(temporary)
    return folder


def _manifest(source: Source) -> Manifest:
    """Read everything that comes before the cache itself."""
    try:
        first = source.member()
    except UnexpectedMemberError as error:
        raise ArchiveError(_foreign(source.where)) from error
    cache, _, file = first.name.rpartition("/")
    if file != MANIFEST or not is_cache_name(cache):
        raise ArchiveError(_foreign(source.where))
    if first.size > LONGEST:
        raise ArchiveError(f"{source.where}: its {MANIFEST} has {first.size:,} bytes, which no manifest has")
    manifest = Manifest.read(b"".join(source.chunks(first.size)), where=source.where)
    if manifest.cache != cache:
        raise ArchiveError(f"{source.where}: its {MANIFEST} is that of {manifest.cache!r}, and lies in {cache!r}")
    data = source.member()
    if data.name != manifest.data_member:
        raise UnexpectedMemberError(source.where, data.name, "another file")
    if data.size != manifest.size:
        raise ArchiveError(
            f"{source.where}: {data.name} has {data.size:,} bytes, and the {MANIFEST} says {manifest.size:,}: {_AGAIN}"
        )
    return manifest


def _foreign(where: str) -> str:
    return (
        f"{where} does not begin with the {MANIFEST} of a cache: it is something else, or was written by an older "
        "version or by hand. Create the cache again with `yolo cache-create`, and export it with `yolo cache-export`"
    )


def _check_place(folder: Path, manifest: Manifest, *, force: bool) -> None:
    if os.path.lexists(folder):
        if folder.is_symlink() or not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is in the way, and is not a cache's folder: remove it first")
        if not force:
            raise UsageError(f"{str(folder)!r} exists already: choose another --output, or replace it with --force")
    free = _free(folder.parent)
    if free < manifest.size + _RESERVE:
        raise YoloError(
            f"the disk of {str(folder.parent)!r} has {free:,} bytes free, and the cache needs "
            f"{manifest.size + _RESERVE:,}: make room, or choose another --output"
        )


def _free(folder: Path) -> int:
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _write(source: Source, manifest: Manifest, temporary: Path, track: Track | None) -> None:
    path = temporary / DATA
    path.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    pieces: Iterable[bytes] = source.chunks(manifest.size)
    if track is not None:
        pieces = track(pieces, "Unpacking (MiB)", -(-manifest.size // CHUNK))
    with path.open("xb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    source.end()
    if digest.hexdigest() != manifest.sha256:
        raise ArchiveError(f"{source.where} is damaged: the cache in it has another hash than its {MANIFEST}: {_AGAIN}")


def _check_head(temporary: Path, manifest: Manifest, where: str) -> None:
    try:
        head = read_head(temporary)
    except CacheError as error:
        raise ArchiveError(f"{where}: what it holds is no cache: {error}") from error
    finally:
        close_reader(temporary)
    if head is None:
        raise ArchiveError(f"{where}: what it holds is no cache")
    if not head.complete:
        raise ArchiveError(f"{where}: the cache in it is not complete: export it again with `yolo cache-export`")
    found = (head.version, head.cache_id.hex(), head.encrypted, head.records)
    if found != (manifest.version, manifest.cache_id, manifest.encrypted, manifest.records):
        raise ArchiveError(f"{where}: its {MANIFEST} is not that of the cache in it")


def _unwritable(output: Path, manifest: Manifest, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = f"the disk is full (the cache has {manifest.size:,} bytes)" if full else error.strerror
    return f"the cache cannot be written into {str(output)!r}: {why}; nothing was left behind"


@contextmanager
def _folder_made(output: Path) -> Iterator[None]:
    """Make a folder for the block, which stays when it holds something afterwards."""
    missing = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise YoloError(f"--output {str(output)!r} cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _remove_leftovers(own: Path) -> None:
    """Remove what imports left that were killed; one that is still at work holds the lock of its cache."""
    _remove(own)
    for path in own.parent.glob(f".yolo_cache_*{_TEMPORARY}"):
        name = path.name.removesuffix(_TEMPORARY)
        if is_cache_name(name):
            with suppress(CacheBusyError), exclusively(path.with_name(name)):
                _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
