"""Whole folders of images into ``.enc`` files, and back.

Nothing is lost: files are written under temporary names and renamed, an existing file is replaced only when that is
asked for, and an original is removed only after its copy was written to the disk, read again and found to hold the same
bytes. A run that was interrupted is simply started again: what is done already is recognised by its content.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yolo.core.decoders.contents import read_whole
from yolo.core.errors import UsageError, YoloError
from yolo.core.files import write_atomically
from yolo.core.images import IMAGE_SUFFIXES, ImageError, decode_image
from yolo.data.encryption.container import LARGEST, OVERHEAD, SUFFIX, EncryptionError, decrypt, encrypt, is_own
from yolo.data.encryption.keys import Key

#: Wraps the files to be gone through, to show how far it is.
Track = Callable[[Sequence["Job"], str], Iterable["Job"]]
Direction = Literal["encrypt", "decrypt"]

_SIGNATURES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r\n\x1a\n", ".png"), (b"BM", ".bmp"), (b"GIF8", ".gif"))
_TIFF = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Job:
    """One file: where it is and what it becomes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
        written: files written.
        kept: files that were there already with the same content.
        removed: originals removed.
        others: files below the folder that were left alone: no images, or not encrypted.
    """

    written: int
    kept: int
    removed: int
    others: int


def convert_folder(
    folder: Path,
    output: Path | None,
    key: Key,
    *,
    direction: Direction,
    force: bool = False,
    remove_originals: bool = False,
    track: Track | None = None,
) -> Outcome:
    """Encrypt the images below a folder, or decrypt its ``.enc`` files.

    Args:
        folder: to go through, sub-folders included; links to folders are not followed.
        output: folder for the results, which keep their places; None: beside the originals.
        key: to use.
        direction: ``encrypt`` or ``decrypt``.
        force: replace existing files that hold something else.
        remove_originals: remove each original after its copy was checked.
        track: shows progress.

    Raises:
        UsageError: there is nothing to do, or files are in the way (nothing was written then).
        EncryptionError: a file cannot be decrypted; those before it are done.
        YoloError: a file cannot be read or written.
    """
    jobs, others = _jobs(folder, output or folder, key, direction)
    for job in jobs:
        _check_link(job.source, remove_originals=remove_originals)
    existing = [job for job in jobs if os.path.lexists(job.target)]
    done = {job.target for job in existing if _same(job, key, direction)}
    blocked = [job.target for job in existing if job.target not in done]
    if blocked and not force:
        more = f" and {len(blocked) - 1} more files are" if len(blocked) > 1 else " is"
        raise UsageError(
            f"{str(blocked[0])!r}{more} in the way, with other content; nothing was written. Choose another --output, "
            "or replace them with --force"
        )
    written = removed = 0
    verb = "Encrypting" if direction == "encrypt" else "Decrypting"
    for job in jobs if track is None else track(jobs, verb):
        if job.target not in done:
            _write(job.target, _converted(_content(job.source), job.source, key, direction))
            written += 1
        if remove_originals:
            _remove(job, key, direction)
            removed += 1
    return Outcome(written, len(done), removed, others)


def _check_link(path: Path, *, remove_originals: bool) -> None:
    """Refuse, before anything is written, a link that leads nowhere, or whose removal would leave the picture."""
    if not path.is_symlink():
        return
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is a link that leads to no file; nothing was written")
    if remove_originals:
        raise UsageError(
            f"{str(path)!r} is a link, and what it leads to would stay; nothing was written. Leave --remove-originals "
            "away, or replace the link by its file"
        )


def _jobs(folder: Path, output: Path, key: Key, direction: Direction) -> tuple[list[Job], int]:
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} does not exist or is not a folder")
    wanted = IMAGE_SUFFIXES if direction == "encrypt" else {SUFFIX}
    sources, others = [], 0
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in wanted and not name.startswith("._"):
                sources.append(path)
            else:
                others += 1
    if not sources:
        what = "images" if direction == "encrypt" else f"{SUFFIX} files"
        raise UsageError(f"there are no {what} in {str(folder)!r}")
    jobs = [Job(path, output / _result(path, key, direction).relative_to(folder)) for path in sources]
    target, count = Counter(job.target for job in jobs).most_common(1)[0]
    if count > 1:
        first, second = [job.source for job in jobs if job.target == target][:2]
        raise UsageError(f"{str(first)!r} and {str(second)!r} would both become {str(target)!r}; nothing was written")
    return jobs, others


def _result(path: Path, key: Key, direction: Direction) -> Path:
    if direction == "encrypt":
        return path.with_name(path.name + SUFFIX)
    plain = path.with_suffix("")
    if plain.suffix.lower() in IMAGE_SUFFIXES:
        return plain
    content = _converted(_content(path), path, key, direction)  # a.enc: its suffix is in its content
    return plain.with_name(plain.name + _suffix_of(content, path))


def _suffix_of(content: bytes, path: Path) -> str:
    for signature, suffix in _SIGNATURES:
        if content.startswith(signature):
            return suffix
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[:4] in _TIFF:
        return ".tif"
    raise EncryptionError(
        f"{str(path)!r} was decrypted, but is no image of a known kind; "
        "is the key the right one? If it is, name the file with its suffix, such as a.jp2.enc"
    )


def _converted(content: bytes, path: Path, key: Key, direction: Direction) -> bytes:
    if direction == "decrypt":
        return _opened(content, path, key)
    if is_own(content):
        raise UsageError(f"{str(path)!r} is encrypted already, though its name does not end in {SUFFIX}")
    return encrypt(content, key)


def _opened(content: bytes, path: Path, key: Key) -> bytes:
    plain = decrypt(content, key, name=str(path))
    if not is_own(content):
        _require_image(plain, path)
    return plain


def _require_image(content: bytes, path: Path) -> None:
    """AES-CBC takes a wrong key for the right one now and then; noise is no picture."""
    try:
        decode_image(content, name=str(path))
    except ImageError as error:
        raise EncryptionError(
            f"{error}; it was decrypted without a check (AES-CBC): is the key the right one? Nothing was written of it"
        ) from error


def _same(job: Job, key: Key, direction: Direction) -> bool:
    """Whether the target holds the source's content already, encrypted with this key."""
    plain, sealed = (job.source, job.target) if direction == "encrypt" else (job.target, job.source)
    if not job.target.is_file():
        return False
    data = _content(sealed)
    if direction == "encrypt" and not is_own(data):
        return False
    try:
        return _opened(data, sealed, key) == _content(plain)
    except EncryptionError:
        if direction == "decrypt":
            raise
        return False


def _content(path: Path) -> bytes:
    try:
        data = read_whole(str(path), LARGEST + OVERHEAD)
    except OSError as error:
        raise YoloError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if data is None or (path.suffix.lower() != SUFFIX and len(data) > LARGEST):
        raise YoloError(f"{str(path)!r} is larger than {LARGEST >> 30} GiB, which the encrypted format does not hold")
    return data


def _write(target: Path, data: bytes) -> None:
    try:
        write_atomically(target, data)
    except OSError as error:
        raise YoloError(f"{str(target)!r} cannot be written: {error.strerror}; the files before it are done") from error


def _remove(job: Job, key: Key, direction: Direction) -> None:
    try:
        for path in (job.target, job.target.parent):
            _to_disk(path)
        if not _same(job, key, direction):
            raise YoloError(f"{str(job.target)!r} does not hold what was written; {str(job.source)!r} is kept")
        job.source.unlink()
    except OSError as error:
        raise YoloError(f"{str(job.source)!r} cannot be removed: {error.strerror}") from error


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse(error: OSError) -> Any:
    raise YoloError(f"{error.filename!r}: the folder cannot be listed: {error.strerror}") from error
