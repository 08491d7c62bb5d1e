"""The few parts of the tar format that a cache's archive needs, read strictly.

:mod:`tarfile` understands everything that was ever put into a tar file: links, devices, sparse files, extended headers
of any length. Here a member is a regular file with a header of one block, or the archive is refused: so there is
nothing to be careful with, and memory stays constant whatever an archive claims. Layout: POSIX.1-1988 ustar, with the
base-256 numbers of GNU tar for files of 8 GiB and more.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from yolo.data.cache.manifest import ArchiveError

#: Everything in a tar file is padded to this many bytes.
BLOCK = 512
#: Bytes handled at a time.
CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_LONGEST_TAIL = 1 << 16
_TYPES = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
}


class Reader(Protocol):
    """What :class:`Source` reads from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes."""


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: its name, and bytes."""

    name: str
    size: int


def header(name: str, size: int) -> bytes:
    """Return the block that comes before a file's content; it tells nothing of this machine or its user.

    Args:
        name: at most 100 bytes.
        size: bytes.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return the zeros that come after a file's content."""
    return bytes(-size % BLOCK)


#: The two blocks of zeros that end an archive.
END = bytes(2 * BLOCK)


class Source:
    """The bytes of an archive one after the other, gzipped or not.

    Args:
        path: of the archive.

    Raises:
        ArchiveError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._file = path.open("rb")
            start = self._file.peek(2)[:2]
        except OSError as error:
            raise ArchiveError(f"{self.where} cannot be read: {error.strerror}") from error
        self._reader: Reader = gzip.GzipFile(fileobj=self._file, mode="rb") if start == _GZIP else self._file

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ArchiveError: there are fewer, or the compressed stream is damaged.
        """
        data = self._some(size)
        while len(data) < size:
            more = self._some(size - len(data))
            if not more:
                raise ArchiveError(f"{self.where} ends too early: it was not transferred as a whole")
            data += more
        return data

    def member(self) -> Member:
        """Read the header of the next member.

        Raises:
            ArchiveError: there is none, or it is no regular file.
        """
        block = self._some(BLOCK)
        if len(block) < BLOCK:
            raise ArchiveError(f"{self.where} ends too early, or is no tar archive at all")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise ArchiveError(f"{self.where} is no tar archive, or a damaged one") from None
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
            what = _TYPES.get(info.type, "something special")
            raise UnexpectedMemberError(self.where, info.name, what)
        return Member(info.name, info.size)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next ``size`` bytes, a member's content, in pieces, and read over the padding."""
        left = size
        while left:
            data = self.read(min(CHUNK, left))
            left -= len(data)
            yield data
        if any(self.read(-size % BLOCK)):
            raise ArchiveError(f"{self.where}: there is something behind the content of a member")

    def end(self) -> None:
        """Read the end of the archive.

        Raises:
            ArchiveError: there is something else.
        """
        tail, length = self.read(len(END)), 0
        while tail:
            if any(tail):
                raise ArchiveError(f"{self.where} holds more than the two files of a cache")
            length += len(tail)
            if length > _LONGEST_TAIL:
                raise ArchiveError(f"{self.where}: there are more than {_LONGEST_TAIL:,} bytes behind its members")
            tail = self._some(CHUNK)

    def _some(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except EOFError:
            raise ArchiveError(f"{self.where} ends too early: it was not transferred as a whole") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveError(f"{self.where} is damaged: {error}") from None
        except OSError as error:
            raise ArchiveError(f"{self.where} cannot be read: {error.strerror or error}") from error


class UnexpectedMemberError(ArchiveError):
    """An archive holds something that an archive of a cache does not hold."""

    def __init__(self, where: str, name: str, what: str) -> None:
        self.name = name
        super().__init__(f"{where}: it holds {what}, {name[:200]!r}, and an archive of a cache does not; refused")
