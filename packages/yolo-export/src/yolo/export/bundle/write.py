"""Writing a bundle: built beside its place, then renamed, so that there is never half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import UsageError
from yolo.core.weights.published import catalogue
from yolo.export.backends.base import ExportError
from yolo.export.bundle.golden import Golden, make_golden
from yolo.export.bundle.readme import readme
from yolo.export.bundle.spec import SCHEMA, Thresholds, build_spec
from yolo.export.manifest import manifest_bytes, sha256
from yolo.export.metadata import Metadata
from yolo.export.runtimes.base import Runtime
from yolo.export.targets import put_in_place

RUNNERS: dict[str, tuple[str, ...]] = {
    "onnx": (
        "python/detector.py",
        "python/command.py",
        "python/onnx_inference.py",
        "javascript/detector.mjs",
        "javascript/picture.mjs",
        "javascript/onnx_inference.mjs",
        "javascript/browser.html",
        "javascript/package.json",
        "cpp/detector.hpp",
        "cpp/json.hpp",
        "cpp/files.hpp",
        "cpp/onnx_inference.cpp",
        "cpp/CMakeLists.txt",
        "csharp/Detector.cs",
        "csharp/Files.cs",
        "csharp/OnnxInference.cs",
        "csharp/OnnxInference.csproj",
    ),
    "tflite": ("python/detector.py", "python/command.py", "python/tflite_inference.py"),
}
"""The programs that are shipped with each format; other formats have no bundle."""

_REQUIREMENTS = {
    "onnx": ("numpy>=1.24", "onnxruntime>=1.17", "opencv-python-headless>=4.8"),
    "tflite": ("ai-edge-litert>=1.2", "numpy>=1.24", "opencv-python-headless>=4.8"),
}


def bundle_path(model: Path) -> Path:
    """Where the bundle of a file is: the folder ``best.onnx.bundle`` beside ``best.onnx``."""
    return model.with_name(f"{model.name}.bundle")


def require_bundle(format: str, folder: Path | None = None) -> None:
    """Refuse formats for which there are no programs, and a place where something else is.

    Args:
        format: name of the backend.
        folder: that :func:`write_bundle` is going to make; it may hold an older bundle.

    Raises:
        UsageError: names the formats that have programs, or the folder.
    """
    if format not in RUNNERS:
        known = " or ".join(RUNNERS)
        raise UsageError(f"--bundle: there is none for the format '{format}'; take {known}, or leave it out")
    if folder is not None and (folder.is_symlink() or (folder.exists() and not _is_replaceable(folder))):
        raise UsageError(f"--bundle would replace {str(folder)!r}, which is no bundle; move it away")


def write_bundle(
    folder: str | os.PathLike[str],
    *,
    model_path: Path,
    manifest: Mapping[str, Any],
    metadata: Metadata,
    runtime: Runtime,
    picture: NDArray[np.uint8] | None = None,
    thresholds: Thresholds | None = None,
) -> Path:
    """Write everything that a program needs to run a model without this software, and to prove that it runs it rightly.

    Args:
        folder: to make; an older bundle of that name is replaced, anything else there is refused.
        model_path: the exported file.
        manifest: of the export.
        metadata: what the file says about itself.
        runtime: the file, loaded; it computes the golden output.
        picture: of the golden files, uint8 ``[H, W, 3]`` RGB; default: one that is drawn.
        thresholds: of the suppression; default: those of ``yolo predict``.

    Returns:
        The folder.

    Raises:
        UsageError: a format without programs, or a folder that is no bundle is in the way.
        ExportError: the folder cannot be written.
    """
    format, target = manifest["format"], Path(folder)
    require_bundle(format, target)
    thresholds = thresholds or Thresholds()
    golden = make_golden(runtime, thresholds=thresholds, picture=picture)
    spec = build_spec(
        model_name=model_path.name,
        manifest=manifest,
        metadata=metadata,
        golden=golden,
        thresholds=thresholds,
        licences={"code": "MIT", "weights": weights_licence(metadata.checkpoint_sha256)},
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            made = scratch / target.name
            made.mkdir()
            shutil.copyfile(model_path, made / model_path.name)
            _write_texts(made, spec, manifest)
            _write_golden(made, golden)
            _write_hashes(made)
            put_in_place(made, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"cannot write the bundle {str(target)!r}: {error.strerror or error}") from error
    return target


def weights_licence(checkpoint_sha256: str) -> str:
    """Return the licence of published weights, or ``unknown`` for any other checkpoint."""
    known = {entry.sha256: entry.licence for entry in catalogue() if entry.sha256}
    return known.get(checkpoint_sha256) or "unknown"


def _is_replaceable(folder: Path) -> bool:
    """Whether a path is an empty folder or a bundle."""
    if not folder.is_dir():
        return False
    return not any(folder.iterdir()) or ((folder / "spec.json").is_file() and (folder / "SHA256SUMS").is_file())


def _write_texts(folder: Path, spec: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    format = spec["model"]["format"]
    here = files(__package__)
    _write(folder / "spec.json", _json(spec))
    _write(folder / SCHEMA, here.joinpath(SCHEMA).read_bytes())
    _write(folder / "manifest.json", manifest_bytes(manifest))
    _write(folder / "README.md", readme(spec).encode())
    _write(folder / "LICENSE", here.joinpath("runners", "LICENSE").read_bytes())
    _write(folder / "python" / "requirements.txt", "".join(f"{line}\n" for line in _REQUIREMENTS[format]).encode())
    if format == "onnx":  # the scripts of onnxruntime-node fetch large libraries for graphics cards, and fail offline
        _write(folder / "javascript" / ".npmrc", b"ignore-scripts=true\n")
    for name in RUNNERS[format]:
        _write(folder / name, _resource(here, f"runners/{name}").read_bytes())


def _write_golden(folder: Path, golden: Golden) -> None:
    picture = np.ascontiguousarray(golden.picture)
    height, width = picture.shape[:2]
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    _write(folder / "golden" / "picture.png", png.tobytes())
    _write(folder / "golden" / "picture.ppm", f"P6\n{width} {height}\n255\n".encode() + picture.tobytes())
    _write(folder / "golden" / "input.f32", golden.input.astype("<f4").tobytes())
    _write(folder / "golden" / "output.f32", golden.output.astype("<f4").tobytes())
    _write(folder / "golden" / "detections.json", _json(golden.detections))


def _write_hashes(folder: Path) -> None:
    """``SHA256SUMS`` as ``sha256sum --check`` reads it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    _write(folder / "SHA256SUMS", "".join(f"{sha256(folder / name)}  {name}\n" for name in names).encode())


def _resource(package: Traversable, name: str) -> Traversable:
    for part in name.split("/"):
        package = package.joinpath(part)
    return package


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
