"""The record beside an exported file: what it was made from, by what, and how it compares with its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo.core.version import __version__ as core_version
from yolo.export.metadata import Metadata
from yolo.export.parity import ParityReport
from yolo.export.version import __version__

FORMAT = 1


def manifest_path(model: Path) -> Path:
    """Where the manifest of a file is: ``best.onnx.manifest.json`` beside ``best.onnx``."""
    return model.with_name(f"{model.name}.manifest.json")


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal; of a folder, that of its :func:`listing`."""
    if path.is_dir():
        return hashlib.sha256(listing(path).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(folder: Path) -> str:
    """Hashes and names of all files of a folder, sorted by name, as ``sha256sum`` prints them."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(f"{sha256(folder / name)}  {name}\n" for name in files)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def build_manifest(
    *,
    backend: str,
    checkpoint: Path,
    written: Path,
    name: str,
    metadata: Metadata,
    facts: Mapping[str, Any],
    parity: ParityReport | None,
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put everything together as plain data, without a time, so that equal exports give equal manifests.

    Args:
        backend: name of the format.
        checkpoint: the source.
        written: the file or folder as it lies on the disk now.
        name: what it is going to be called.
        metadata: what the file says about itself.
        facts: what the backend says about the file.
        parity: what the gate found; None where it was not asked.
        calibration: the pictures that were drawn, if some were.
    """
    described = metadata.to_dict()
    facts = dict(facts)
    versions = {"yolo-export": __version__, "yolo-core": core_version, **facts.pop("versions", {})}
    file: dict[str, Any] = {"name": name, "bytes": size_of(written), "sha256": sha256(written)}
    if written.is_dir():
        file["files"] = {line[66:]: line[:64] for line in listing(written).splitlines()}
    return {
        "manifest": FORMAT,
        "format": backend,
        "file": file,
        "checkpoint": {"name": checkpoint.name, "sha256": described.pop("checkpoint_sha256")},
        **described,
        "settings": facts,
        **({} if calibration is None else {"calibration": dict(calibration)}),
        "parity": {"checked": False} if parity is None else parity.to_dict(),
        "versions": versions,
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest as JSON text."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
