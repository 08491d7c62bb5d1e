"""The record beside an exported file: what it was made from, by what, and how it compares with its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo.core.version import __version__ as core_version
from yolo.export.metadata import Metadata
from yolo.export.verify import ParityReport
from yolo.export.version import __version__

FORMAT = 1


def manifest_path(model: Path) -> Path:
    """Where the manifest of a file is: ``best.onnx.manifest.json`` beside ``best.onnx``."""
    return model.with_name(f"{model.name}.manifest.json")


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_manifest(
    *,
    backend: str,
    checkpoint: Path,
    written: Path,
    name: str,
    metadata: Metadata,
    facts: Mapping[str, Any],
    parity: ParityReport,
) -> dict[str, Any]:
    """Put everything together as plain data, without a time, so that equal exports give equal manifests.

    Args:
        backend: name of the format.
        checkpoint: the source.
        written: the file as it lies on the disk now.
        name: what the file is going to be called.
        metadata: what the file says about itself.
        facts: what the backend says about the file.
        parity: what the gate found.
    """
    described = metadata.to_dict()
    facts = dict(facts)
    versions = {"yolo-export": __version__, "yolo-core": core_version, **facts.pop("versions", {})}
    return {
        "manifest": FORMAT,
        "format": backend,
        "file": {"name": name, "bytes": written.stat().st_size, "sha256": sha256(written)},
        "checkpoint": {"name": checkpoint.name, "sha256": described.pop("checkpoint_sha256")},
        **described,
        "settings": facts,
        "parity": parity.to_dict(),
        "versions": versions,
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest as JSON text."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
