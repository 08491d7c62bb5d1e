"""From a checkpoint to a file that was compared with it: the one path that all formats take."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.files import write_atomically
from yolo.core.image_size import check_image_size
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.weights.load import load_bundle
from yolo.export.backends.base import Backend, ExportError, ExportOptions, ExportRequest
from yolo.export.graph.deploy import DeployModule
from yolo.export.manifest import build_manifest, manifest_bytes, manifest_path, sha256
from yolo.export.metadata import ANCHOR_BOX_OUTPUT, OUTPUT, Metadata
from yolo.export.samples import draw_samples
from yolo.export.verify import ParityReport, Tolerances, check_parity, tolerances_for


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export left behind.

    Attributes:
        path: the exported file.
        manifest_path: the record beside it.
        manifest: its content.
        parity: the comparison with the checkpoint, which passed.
    """

    path: Path
    manifest_path: Path
    manifest: dict[str, Any]
    parity: ParityReport


def export_model(
    checkpoint: str | os.PathLike[str],
    *,
    format: str = "onnx",
    output: str | os.PathLike[str] | None = None,
    image_size: int | str | Sequence[int] | None = None,
    options: ExportOptions | None = None,
    architecture: str | Path | None = None,
    tolerances: Tolerances | None = None,
) -> ExportResult:
    """Export a trained model, compare the file with the checkpoint, and only then put it in its place.

    Args:
        checkpoint: a ``.ckpt`` of ours, or plain weights (``.pt``, ``.pth``, ``.safetensors``).
        format: name of a backend; ``yolo plugins --hook yolo_export_backends`` lists them.
        output: the file, or a folder to put it in; default: beside the checkpoint, with the format's suffix.
        image_size: side, (width, height) or text such as ``"640x384"``; default: the checkpoint's, else 640.
        options: what is asked of the file.
        architecture: for plain weights, the network they belong to: a published name or a YAML file.
        tolerances: of the comparison; default: by the size of the network.

    Raises:
        UsageError: unknown format, option or size.
        MissingRequirementError: the format's extra is not installed; the message says how to.
        WeightsError: a checkpoint that cannot be used.
        ParityError: the file predicts something else; nothing is left behind.
        ExportError: the conversion fails, or the file cannot be written.
    """
    options = options or ExportOptions()
    backends = registry("export_backends")
    spec = backends.get(format)
    assert isinstance(spec, ExportBackendSpec)
    backend: Backend = backends.load(format)()
    options.require(backend.options, format=format)
    source = Path(checkpoint)
    target = _target(source, output, spec.suffix)
    bundle = load_bundle(source, model=architecture)
    network = bundle.build(name=str(source))
    size = check_image_size(bundle.image_size if image_size is None else image_size, stride=max(network.strides))
    metadata = Metadata(
        class_names=bundle.class_names,
        image_size=size,
        strides=network.strides,
        architecture=network.spec.name,
        checkpoint_sha256=sha256(source),
        output=OUTPUT if network.plan.maps(network.plan.main)[1] is None else ANCHOR_BOX_OUTPUT,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            written = scratch / target.name
            module = DeployModule(network, size)
            facts = backend.write(ExportRequest(module=module, path=written, options=options, metadata=metadata))
            runtime = backends.load_runtime(format)(written)
            allowed = tolerances or tolerances_for(network)
            parity = check_parity(network, runtime, draw_samples(size), allowed)
            parity.require(str(target))
            manifest = build_manifest(
                backend=format,
                checkpoint=source,
                written=written,
                name=target.name,
                metadata=metadata,
                facts=facts,
                parity=parity,
            )
            written.replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        record = write_atomically(manifest_path(target), manifest_bytes(manifest))
    except OSError as error:
        raise ExportError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
    return ExportResult(path=target, manifest_path=record, manifest=manifest, parity=parity)


def _target(source: Path, output: str | os.PathLike[str] | None, suffix: str) -> Path:
    """Where the file goes: the output, in the output if that is a folder, or beside the checkpoint."""
    if output is None:
        return source.with_suffix(suffix)
    target = Path(output)
    if target.is_dir() or str(os.fspath(output)).endswith(("/", os.sep)):
        return target / f"{source.stem}{suffix}"
    if target.suffix.lower() != suffix:
        raise UsageError(f"--output {str(target)!r} must end with {suffix}, or be a folder")
    return target
