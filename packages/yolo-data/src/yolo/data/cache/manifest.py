"""What stands at the beginning of a cache's archive: which cache follows, how long it is, and its hash.

An archive is a tar file, gzipped or not, of exactly two regular members, in this order::

    <name>/manifest.json        this, see Manifest
    <name>/cache.lmdb/data.mdb  the cache

where ``<name>`` is the name of the cache's folder. The manifest tells no more than the head of the cache, which is
readable without a key too. Its hash finds mistakes of a transfer; against a person it proves nothing, as whoever can
change the archive can change the manifest. What authenticates is the cache's own encryption.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from yolo.core.errors import YoloError
from yolo.data.cache.settings import VERSION

#: Path of the only file of a cache that travels, below the cache's folder.
DATA = "cache.lmdb/data.mdb"
#: Path of the manifest below the cache's folder.
MANIFEST = "manifest.json"
#: Bytes that a manifest may have.
LONGEST = 1 << 16

_KIND = "yolo cache archive"
_NAME = re.compile(r"\.yolo_cache_(?:orig|[0-9]{1,6}x[0-9]{1,6})_f[0-9][0-9.e-]{0,30}")
_HEX = re.compile(r"[0-9a-f]+")
_SHA256_DIGITS = 64
_ID_DIGITS = 32


class ArchiveError(YoloError):
    """A file that is not an archive of a cache, or not a whole one."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The first member of an archive.

    Attributes:
        cache: name of the cache's folder.
        version: of the cache's layout.
        cache_id: 32 hexadecimal digits.
        encrypted: whether the cache is.
        records: number of images.
        size: bytes of ``data.mdb``.
        sha256: of ``data.mdb``, 64 hexadecimal digits.
    """

    cache: str
    version: str
    cache_id: str
    encrypted: bool
    records: int
    size: int
    sha256: str

    @property
    def member(self) -> str:
        """Name of the manifest in the archive."""
        return f"{self.cache}/{MANIFEST}"

    @property
    def data_member(self) -> str:
        """Name of the cache's file in the archive."""
        return f"{self.cache}/{DATA}"

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        value = asdict(self)
        file = {"path": DATA, "size": value.pop("size"), "sha256": value.pop("sha256")}
        return json.dumps({"kind": _KIND, **value, "files": [file]}, indent=2).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes, *, where: str) -> Manifest:
        """Read what :meth:`to_bytes` wrote.

        Args:
            content: of the member.
            where: name of the archive, for messages.

        Raises:
            ArchiveError: it is something else, or of a cache that this version does not read.
        """
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise ArchiveError(f"{where}: its {MANIFEST} is not JSON; this is no archive of a cache") from None
        if not isinstance(value, dict) or value.get("kind") != _KIND:
            raise ArchiveError(f"{where}: its {MANIFEST} is not that of a cache")
        if value.get("version") != VERSION:
            raise ArchiveError(
                f"{where} holds a cache of version {str(value.get('version'))[:20]!r}, and this is {VERSION}: create "
                "it again with `yolo cache-create`, and export it with `yolo cache-export`"
            )
        files = value.get("files")
        file = files[0] if isinstance(files, list) and len(files) == 1 and isinstance(files[0], dict) else {}
        if file.get("path") != DATA:
            raise ArchiveError(f"{where}: its {MANIFEST} must name one file, {DATA}")
        fields: dict[str, Any] = {
            "cache": _text(value.get("cache"), _NAME, None),
            "version": VERSION,
            "cache_id": _text(value.get("cache_id"), _HEX, _ID_DIGITS),
            "encrypted": value.get("encrypted") if isinstance(value.get("encrypted"), bool) else None,
            "records": _count(value.get("records")),
            "size": _count(file.get("size")),
            "sha256": _text(file.get("sha256"), _HEX, _SHA256_DIGITS),
        }
        for name, read in fields.items():
            if read is None:
                raise ArchiveError(f"{where}: its {MANIFEST} has no usable `{name}`")
        return cls(**fields)


def is_cache_name(name: str) -> bool:
    """Whether a cache's folder may have this name: ``.yolo_cache_640x640_f1.0``, ``.yolo_cache_orig_f0.1``."""
    return _NAME.fullmatch(name) is not None


def _text(value: object, pattern: re.Pattern[str], digits: int | None) -> str | None:
    if not isinstance(value, str) or not pattern.fullmatch(value) or digits not in (None, len(value)):
        return None
    return value


def _count(value: object) -> int | None:
    # 2^63: what a file's size may be
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None
