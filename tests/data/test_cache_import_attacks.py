"""Archives that are made to hurt are refused, and change nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from yolo.core.errors import YoloError
from yolo.data.cache.archive import export_cache, import_cache
from yolo.data.cache.manifest import ArchiveError
from yolo.data.cache.store import read_head

NAME = ".yolo_cache_96x96_f1.0"
MANIFEST, DATA = f"{NAME}/manifest.json", f"{NAME}/cache.lmdb/data.mdb"
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(scope="module")
def original(made_cache: Callable[..., Path]) -> Path:
    """A complete cache, small."""
    return made_cache("val")


@pytest.fixture(scope="module")
def plain(original: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good archive."""
    return export_cache(original, tmp_path_factory.mktemp("plain") / "a.tar", compression="none").read_bytes()


def contents(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in root.rglob("*")
    }


@contextmanager
def unchanged(place: Path) -> Iterator[None]:
    before = contents(place)
    yield
    assert contents(place) == before


def members(plain: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return [(member, file.read()) for member in tar if (file := tar.extractfile(member))]


def pack(entries: list[Member], kind: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for info, content in entries:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def with_manifest(plain: bytes, data: bytes | None = None, **changes: Any) -> bytes:
    """The good archive with another manifest, whose hash and size fit the data."""
    (first, content), (second, old) = members(plain)
    data = old if data is None else data
    manifest = json.loads(content)
    manifest["files"][0] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for key, value in changes.items():
        (manifest["files"][0] if key in manifest["files"][0] else manifest)[key] = value
    return pack([(first, json.dumps(manifest).encode()), (second, data)])


def renamed(plain: bytes, name: str) -> bytes:
    """The good archive, everywhere under another name."""
    (_, content), (_, data) = members(plain)
    text = json.dumps(json.loads(content) | {"cache": name}).encode()
    return pack([(info(f"{name}/manifest.json"), text), (info(f"{name}/cache.lmdb/data.mdb"), data)])


def longer(plain: bytes) -> bytes:
    """A member that goes on behind what the manifest says."""
    (first, content), (second, data) = members(plain)
    return pack([(first, content), (second, data + bytes(10 << 20))])


def zipped(plain: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for member, content in members(plain):
            file.writestr(member.name, content)
    return stream.getvalue()


def by_hand(plain: bytes, kind: int) -> bytes:
    """As the old code did it, and as ``tar`` does: folders, no manifest, a lock file."""
    (_, _), (_, data) = members(plain)
    folders = [(info(name, tarfile.DIRTYPE), b"") for name in (NAME, f"{NAME}/cache.lmdb")]
    for folder, _content in folders:
        folder.mtime = 1.5
    return pack([*folders, (info(DATA), data), (info(f"{NAME}/cache.lmdb/lock.mdb"), bytes(8192))], kind)


EVIL_NAMES = {
    "traversal": f"../{NAME}",
    "deep traversal": f"{NAME}/../../precious",
    "absolute": f"/tmp/{NAME}",
    "backslashes": f"..\\{NAME}",
    "other": "precious",
    "dots": "..",
    "here": ".",
    "empty": "",
    "hidden": ".ssh",
    "drive": f"C:{NAME}",
    "newline": f"{NAME}\n",
    "control": ".yolo_cache_96x96_f1.0\x1b[2J",
    "long": ".yolo_cache_96x96_f1." + "0" * 40,
}
ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda plain: b"", "ends too early"),
    "text": (lambda plain: b"hello\n" * 1000, "no tar archive"),
    "zip": (zipped, "no tar archive"),
    "zeros": (lambda plain: bytes(1 << 20), "no tar archive"),
    "gzipped zeros": (lambda plain: gzip.compress(bytes(64 << 20)), "no tar archive"),
    "gzipped text": (lambda plain: gzip.compress(b"hello\n" * 1000), "no tar archive"),
    "not gzip": (lambda plain: b"\x1f\x8b" + plain, "damaged"),
    "gzip twice": (lambda plain: gzip.compress(gzip.compress(plain)), "no tar archive|ends too early"),
    "cut tar": (lambda plain: plain[: len(plain) // 2], "ends too early"),
    "cut before the data": (lambda plain: plain[:1024], "ends too early"),
    "cut gzip": (lambda plain: gzip.compress(plain)[:-2000], "ends too early|damaged"),
    "gzip without its checksum": (lambda plain: gzip.compress(plain)[:-4], "ends too early"),
    "gzip with another checksum": (lambda plain: gzip.compress(plain)[:-8] + bytes(8), "damaged"),
    "no end": (lambda plain: plain.rstrip(b"\0") + bytes(-len(plain.rstrip(b"\0")) % 512), "ends too early|hash"),
    "one more member": (lambda plain: pack([*members(plain), (info(f"{NAME}/more"), b"x")]), "more than the two files"),
    "data twice": (lambda plain: pack([*members(plain), members(plain)[1]]), "more than the two files"),
    "manifest twice": (lambda plain: pack([members(plain)[0], *members(plain)]), "another file"),
    "a link behind": (
        lambda plain: pack([*members(plain), (info(f"{NAME}/l", tarfile.SYMTYPE, "/etc/passwd"), b"")]),
        "more than the two files",
    ),
    "zeros behind": (lambda plain: plain + bytes(8 << 20), "behind its members"),
    "gzipped zeros behind": (lambda plain: gzip.compress(plain + bytes(64 << 20)), "behind its members"),
    "a second archive behind": (lambda plain: plain + plain, "more than the two files"),
    "order": (lambda plain: pack(members(plain)[::-1]), "does not begin with the manifest"),
    "no manifest": (lambda plain: pack(members(plain)[1:]), "does not begin with the manifest"),
    "only a manifest": (lambda plain: pack(members(plain)[:1]), "no tar archive"),
    "other archive": (lambda plain: pack([(info("weights.pt"), b"PK")]), "does not begin with the manifest"),
    "old code": (lambda plain: by_hand(plain, tarfile.PAX_FORMAT), "older version.*yolo cache-create"),
    "packed by hand": (lambda plain: by_hand(plain, tarfile.GNU_FORMAT), "older version.*yolo cache-create"),
    "longer than the manifest says": (longer, "the manifest.json says"),
    "manifest too long": (
        lambda plain: pack([(info(MANIFEST), bytes(1 << 20)), members(plain)[1]]),
        "which no manifest has",
    ),
    "manifest no JSON": (lambda plain: pack([(info(MANIFEST), b"\x80"), members(plain)[1]]), "not JSON"),
    "manifest too deep": (lambda plain: pack([(info(MANIFEST), b"[" * 60000), members(plain)[1]]), "not JSON"),
    "manifest of something": (lambda plain: pack([(info(MANIFEST), b"[]"), members(plain)[1]]), "not that of a cache"),
    "wrong hash": (lambda plain: with_manifest(plain, sha256="0" * 64), "another hash"),
    "hash of another form": (lambda plain: with_manifest(plain, sha256="x" * 64), "no usable `sha256`"),
    "negative size": (lambda plain: with_manifest(plain, size=-1), "no usable `size`"),
    "huge size": (lambda plain: with_manifest(plain, size=1 << 50), "the manifest.json says"),
    "another cache's name": (lambda plain: with_manifest(plain, cache=".yolo_cache_64x64_f1.0"), "is that of"),
    "another version": (lambda plain: with_manifest(plain, version="4.0.0"), "version '4.0.0'.*cache-create"),
    "another cache's id": (lambda plain: with_manifest(plain, cache_id="0" * 32), "not that of the cache"),
    "another count": (lambda plain: with_manifest(plain, records=7), "not that of the cache"),
    "two files": (lambda plain: with_manifest(plain, files=[{}, {}]), "must name one file"),
    "no cache in it": (lambda plain: with_manifest(plain, bytes(1 << 16)), "no cache"),
    "half a cache in it": (lambda plain: with_manifest(plain, members(plain)[1][1][:8192]), "no cache"),
    "nothing in it": (lambda plain: with_manifest(plain, b""), "no cache"),
}
for _title, _name in EVIL_NAMES.items():
    ARCHIVES[f"name: {_title}"] = (lambda plain, name=_name: renamed(plain, name), "")  # type: ignore[misc]
for _title, _name in EVIL_NAMES.items():
    ARCHIVES[f"data: {_title}"] = (
        lambda plain, name=_name: pack([members(plain)[0], (info(f"{name}/cache.lmdb/data.mdb"), b"x")]),  # type: ignore[misc]
        "another file",
    )
for _title, _kind in {
    "a hard link": tarfile.LNKTYPE,
    "a symbolic link": tarfile.SYMTYPE,
    "a device": tarfile.CHRTYPE,
    "a disk": tarfile.BLKTYPE,
    "a pipe": tarfile.FIFOTYPE,
    "a folder": tarfile.DIRTYPE,
    "a sparse file": tarfile.GNUTYPE_SPARSE,
    "a long name": tarfile.GNUTYPE_LONGNAME,
    "an extended header": tarfile.XHDTYPE,
    "a global header": tarfile.XGLTYPE,
}.items():
    ARCHIVES[f"data is {_title}"] = (
        lambda plain, kind=_kind: pack([members(plain)[0], (info(DATA, kind, "../../precious"), b"")]),  # type: ignore[misc]
        "it holds",
    )
    ARCHIVES[f"manifest is {_title}"] = (
        lambda plain, kind=_kind: pack([(info(MANIFEST, kind, "../precious"), b""), members(plain)[1]]),  # type: ignore[misc]
        "does not begin with the manifest",
    )


@pytest.mark.parametrize("title", ARCHIVES)
@pytest.mark.parametrize("force", [False, True])
def test_a_hostile_archive_is_refused_and_changes_nothing(
    plain: bytes, original: Path, place: Path, tmp_path: Path, title: str, force: bool
) -> None:
    make, message = ARCHIVES[title]
    (tmp_path / "a.tar").write_bytes(make(plain))
    if force:
        shutil.copytree(original, place / "in" / NAME)
    with unchanged(place), pytest.raises(ArchiveError, match=rf"a\.tar.*({message})") as caught:
        import_cache(tmp_path / "a.tar", place / "in", force=force)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_claim_of_more_than_the_disk_has_is_refused_at_once(plain: bytes, place: Path, tmp_path: Path) -> None:
    size = 1 << 60
    (first, content), (second, _) = members(plain)
    manifest = json.loads(content)
    manifest["files"][0]["size"] = second.size = size
    header = second.tobuf(tarfile.GNU_FORMAT)
    start = pack([(first, json.dumps(manifest).encode())])
    end = 512 + -(-first.size // 512) * 512
    (tmp_path / "a.tar").write_bytes(start[:end] + header + bytes(1 << 20))
    with unchanged(place), pytest.raises(YoloError, match="bytes free"):
        import_cache(tmp_path / "a.tar", place / "in")


def test_a_good_archive_with_long_files_and_zeros_behind_is_taken(plain: bytes, place: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(plain + bytes(10240))
    assert read_head(import_cache(tmp_path / "a.tar", place / "in")) is not None
