"""A cache as one file, to carry it to another machine: written here, read by :mod:`yolo.data.cache.unpack`.

Of a cache's folder only ``data.mdb`` travels, see :mod:`yolo.data.cache.manifest`. It is read twice, for its hash and
for its content, in pieces of constant size.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Literal

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.exclusive import exclusively
from yolo.data.cache.head import Head, read_head
from yolo.data.cache.manifest import DATA, ArchiveError, Manifest, is_cache_name
from yolo.data.cache.promote import heal, partial_folder
from yolo.data.cache.settings import VERSION
from yolo.data.cache.tar import CHUNK, END, header, padding
from yolo.data.cache.unpack import import_cache

__all__ = ["ArchiveError", "Compression", "Track", "default_target", "export_cache", "import_cache"]

#: Shows progress: takes what is gone through, a text and the total.
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
Compression = Literal["gzip", "none"]

_SUFFIXES: dict[Compression, str] = {"gzip": ".tar.gz", "none": ".tar"}
# What JPEG, LZ4 and AES leave does not shrink: gzip's checksum is wanted here, and its speed.
_LEVEL = 1


def default_target(folder: Path, compression: Compression = "gzip") -> Path:
    """Return where an archive is written when nobody says: ``yolo_cache_640x640_f1.0.tar.gz`` in this folder."""
    return Path(_name(folder).removeprefix(".") + _SUFFIXES[compression])


def export_cache(
    folder: Path,
    target: Path | None = None,
    *,
    compression: Compression = "gzip",
    force: bool = False,
    track: Track | None = None,
) -> Path:
    """Write a cache into one archive, in constant memory. The archive appears only when it is complete.

    Args:
        folder: of the cache, ``.yolo_cache_640x640_f1.0``.
        target: file to write; None for :func:`default_target`.
        compression: ``gzip`` or ``none``.
        force: replace an existing file.
        track: shows progress.

    Returns:
        The path of the archive.

    Raises:
        UsageError: there is no such cache, or the target exists.
        YoloError: the cache is being built, is incomplete or cannot be read, or the archive cannot be written.
    """
    if compression not in _SUFFIXES:
        raise UsageError(f"--compression {compression!r}: choose from {', '.join(_SUFFIXES)}")
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow a link and lose the cache's name
    _name(folder)
    target = target or default_target(folder, compression)
    _check_target(target, folder, force=force)
    # A cache on a read-only disk cannot be locked, nor is anybody building it.
    heal(folder)
    with exclusively(folder) if os.access(folder.parent, os.W_OK) else nullcontext():
        head = _require_complete(folder)
        with _opened(folder / DATA) as data:
            size = os.fstat(data.fileno()).st_size
            digest = hashlib.sha256()
            for piece in _tracked(_pieces(data, size), "Hashing (MiB)", size, track):
                digest.update(piece)
            manifest = Manifest(
                cache=folder.name,
                version=head.version,
                cache_id=head.cache_id.hex(),
                encrypted=head.encrypted,
                records=head.records,
                size=size,
                sha256=digest.hexdigest(),
            )
            data.seek(0)
            _check_target(target, folder, force=force)
            with _written(target, manifest) as file:
                stream = file if compression == "none" else gzip.GzipFile("", "wb", _LEVEL, file, mtime=0)
                _write_members(stream, manifest, _tracked(_pieces(data, size), "Writing (MiB)", size, track))
                if stream is not file:
                    stream.close()
    return target


def _write_members(stream: IO[bytes] | gzip.GzipFile, manifest: Manifest, pieces: Iterable[bytes]) -> None:
    content = manifest.to_bytes()
    stream.write(header(manifest.member, len(content)) + content + padding(len(content)))
    stream.write(header(manifest.data_member, manifest.size))
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        stream.write(piece)
    if digest.hexdigest() != manifest.sha256:
        raise YoloError("the cache changed while it was read: export it again")
    stream.write(padding(manifest.size) + END)


def _require_complete(folder: Path) -> Head:
    head = read_head(folder)
    if head is None and not partial_folder(folder).exists():
        raise UsageError(f"there is no cache in {str(folder)!r}: give the folder that `yolo cache-create` wrote")
    if head is not None and head.version != VERSION:
        raise YoloError(
            f"the cache in {str(folder)!r} is of version {head.version}, and this is {VERSION}: make it again with "
            "`yolo cache-create`"
        )
    if head is None or not head.complete:
        raise YoloError(f"the cache in {str(folder)!r} is not complete: run `yolo cache-create` again, which goes on")
    return head


def _check_target(target: Path, folder: Path, *, force: bool) -> None:
    if target.is_dir():
        raise UsageError(f"--output {str(target)!r} is a folder: give the name of a file")
    if os.path.lexists(target) and not force:
        raise UsageError(f"{str(target)!r} exists already: choose another --output, or replace it with --force")
    if not target.parent.is_dir():
        raise UsageError(f"--output {str(target)!r}: there is no folder {str(target.parent)!r}")
    if target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--output {str(target)!r} lies in the cache itself: choose another")


def _name(folder: Path) -> str:
    name = Path(os.path.abspath(folder)).name  # noqa: PTH100  # as above
    if not is_cache_name(name):
        raise UsageError(
            f"{str(folder)!r} is not the folder of a cache: its name is such as .yolo_cache_640x640_f1.0, "
            "as `yolo cache-create` wrote it"
        )
    return name


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise YoloError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield a file's first ``size`` bytes."""
    left = size
    while left:
        try:
            piece = file.read(min(CHUNK, left))
        except OSError as error:
            raise YoloError(f"the cache cannot be read: {error.strerror}") from error
        if not piece:
            raise YoloError("the cache became shorter while it was read: export it again")
        left -= len(piece)
        yield piece


def _tracked(pieces: Iterable[bytes], text: str, size: int, track: Track | None) -> Iterable[bytes]:
    return pieces if track is None else track(pieces, text, -(-size // CHUNK))


@contextmanager
def _written(target: Path, manifest: Manifest) -> Iterator[IO[bytes]]:
    """Give a file to write that becomes ``target`` when all went well, and disappears otherwise."""
    # Always the same name: what a kill leaves is overwritten by the next try.
    temporary = target.with_name(f".{target.name[:100]}.{manifest.cache_id[:8]}.partial")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = f"the disk is full (the cache has {manifest.size:,} bytes)" if full else error.strerror
        raise YoloError(f"{str(target)!r} cannot be written: {why}; nothing was left behind") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
