"""From a checkpoint to files that were compared with it: the one path that all formats take."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolo.core.device import pick_device
from yolo.core.errors import UsageError
from yolo.core.image_size import check_image_size
from yolo.core.models.network import Network
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.weights.bundle import ModelBundle
from yolo.core.weights.load import load_bundle
from yolo.export.backends.base import Backend, ExportError, ExportOptions, ExportRequest, flag
from yolo.export.calibration import CalibrationImages, choose_images, parity_samples
from yolo.export.graph.deploy import DeployModule
from yolo.export.graph.dynamic import DynamicDeployModule
from yolo.export.manifest import build_manifest, manifest_bytes, manifest_path, sha256
from yolo.export.metadata import ANCHOR_BOX_OUTPUT, OUTPUT, Metadata
from yolo.export.parity import ParityReport, Tolerances
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import ParitySample
from yolo.export.targets import check_target, find_target, put_in_place, require_different, require_source
from yolo.export.verify import check_parity, tolerances_for


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export left behind.

    Attributes:
        path: the exported file or folder.
        manifest_path: the record beside it.
        manifest: its content.
        parity: the comparison with the checkpoint, which passed; None where none was wanted.
        bundle_path: the folder with what is needed to use the file elsewhere, if it was wanted.
    """

    path: Path
    manifest_path: Path
    manifest: dict[str, Any]
    parity: ParityReport | None
    bundle_path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One format, as far as it is known before any work."""

    spec: ExportBackendSpec
    backend: Backend
    options: ExportOptions
    target: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class _Subject:
    """What is exported, whatever the format."""

    source: Path
    model: ModelBundle
    network: Network
    image_size: tuple[int, int]
    calibration: CalibrationImages | None


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
    """Export a trained model to one format; see :func:`export_models`."""
    return export_models(
        checkpoint,
        formats=[format],
        output=output,
        image_size=image_size,
        options=options,
        architecture=architecture,
        tolerances=tolerances,
    )[0]


def export_models(
    checkpoint: str | os.PathLike[str],
    *,
    formats: Sequence[str],
    output: str | os.PathLike[str] | None = None,
    image_size: int | str | Sequence[int] | None = None,
    options: ExportOptions | None = None,
    architecture: str | Path | None = None,
    tolerances: Tolerances | None = None,
    on_start: Callable[[str, Path], None] | None = None,
    on_done: Callable[[ExportResult], None] | None = None,
) -> list[ExportResult]:
    """Export a trained model, compare each file with the checkpoint, and only then put it in its place.

    Everything that can be known to be wrong beforehand is told before any work, for all formats. If one fails, those
    before it are there.

    Args:
        checkpoint: a ``.ckpt`` of ours, or plain weights (``.pt``, ``.pth``, ``.safetensors``).
        formats: names of backends; ``yolo plugins --hook yolo_export_backends`` lists them.
        output: the file, or a folder to put it in; default: beside the checkpoint, with the format's suffix. A folder
            where there are several formats.
        image_size: side, (width, height) or text such as ``"640x384"``; default: the checkpoint's, else 640.
        options: what is asked of the files. Of several formats each gets those that it knows; one that no format knows
            is refused.
        architecture: for plain weights, the network they belong to: a published name or a YAML file.
        tolerances: of the comparison; default: by the size of the network and the precision of the file.
        on_start: told the name and the target of each format before it is made.
        on_done: told the result of each format before the next one is made.

    Returns:
        One result per format, in their order.

    Raises:
        UsageError: unknown format, option or size, or options that do not go together.
        MissingRequirementError: the format's extra is not installed; the message says how to.
        WeightsError: a checkpoint that cannot be used.
        ParityError: a file predicts something else; it is not left behind.
        ExportError: the conversion fails, the memory is too small, or the file cannot be written.
    """
    options = options or ExportOptions()
    source = Path(checkpoint)
    require_source(source)
    model = load_bundle(source, model=architecture)
    jobs = _plan(source, list(dict.fromkeys(formats)), output, options)
    device = torch.device("cpu") if options.device == "auto" else pick_device(options.device)
    network = model.build(name=str(source))
    size = check_image_size(model.image_size if image_size is None else image_size, stride=max(network.strides))
    if options.activation is not None:
        from yolo.export.graph.activation import with_hard_swish

        network = with_hard_swish(network)
    calibration = None
    if options.calibration_images is not None:
        calibration = choose_images(
            options.calibration_images, count=options.num_calibration, seed=options.calibration_seed
        )
    subject = _Subject(source=source, model=model, network=network, image_size=size, calibration=calibration)
    results = []
    for job in jobs:
        if on_start is not None:
            on_start(job.spec.name, job.target)
        with _memory_errors(size):
            results.append(_export(job, subject, tolerances, device))
        if on_done is not None:
            on_done(results[-1])
    return results


def _plan(
    source: Path, formats: Sequence[str], output: str | os.PathLike[str] | None, options: ExportOptions
) -> list[_Job]:
    """Look at everything that needs no checkpoint, and find every mistake there."""
    if not formats:
        raise UsageError("--format names no format")
    options.check()
    backends = registry("export_backends")
    jobs = []
    for name in formats:
        spec = backends.get(name)
        assert isinstance(spec, ExportBackendSpec)
        backend: Backend = backends.load(name)()
        if len(formats) == 1:
            options.require(backend.options, format=name)
        chosen = options.only(backend.options)
        check = getattr(backend, "check", None)
        if check is not None:
            check(chosen)
        target = find_target(source, output, spec, alone=len(formats) == 1)
        check_target(target)
        if options.bundle:
            from yolo.export.bundle.write import bundle_path, require_bundle

            require_bundle(name, bundle_path(target))
        jobs.append(_Job(spec=spec, backend=backend, options=chosen, target=target))
    for option in options.asked():
        if all(option not in job.options.asked() for job in jobs):
            raise UsageError(f"{flag(option)} means nothing for the formats {', '.join(formats)}; leave it out")
    require_different([job.target for job in jobs])
    return jobs


def _export(job: _Job, subject: _Subject, tolerances: Tolerances | None, device: torch.device) -> ExportResult:
    metadata = _describe(job, subject)
    target = job.target
    kind = DynamicDeployModule if job.options.dynamic_size else DeployModule
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            request = ExportRequest(
                module=kind(subject.network, subject.image_size),
                path=scratch / target.name,
                options=job.options,
                metadata=metadata,
                model=subject.model,
                calibration=subject.calibration,
            )
            facts = dict(job.backend.write(request))
            if job.options.activation is not None:
                facts["activation"] = job.options.activation
            parity = None
            if job.options.verify:
                allowed = tolerances or tolerances_for(subject.network, facts.get("precision", "float32"))
                parity = _verify(job, subject, request, allowed, device)
            manifest = build_manifest(
                backend=job.spec.name,
                checkpoint=subject.source,
                written=request.path,
                name=target.name,
                metadata=metadata,
                facts=facts,
                parity=parity,
                calibration=None if subject.calibration is None else subject.calibration.to_dict(),
            )
            record = manifest_path(request.path)
            record.write_bytes(manifest_bytes(manifest))  # before the file is in its place: the disk may be full
            put_in_place(request.path, target)
            put_in_place(record, manifest_path(target))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
    bundle = _write_bundle(job, metadata, manifest) if job.options.bundle else None
    return ExportResult(
        path=target, manifest_path=manifest_path(target), manifest=manifest, parity=parity, bundle_path=bundle
    )


def _describe(job: _Job, subject: _Subject) -> Metadata:
    network = subject.network
    output = OUTPUT if network.plan.maps(network.plan.main)[1] is None else ANCHOR_BOX_OUTPUT
    if job.options.nms:
        from yolo.export.graph.nms import describe_nms

        output = {**output, "nms": describe_nms()}
    return Metadata(
        class_names=subject.model.class_names,
        image_size=subject.image_size,
        strides=network.strides,
        architecture=network.spec.name,
        checkpoint_sha256=sha256(subject.source),
        output=output,
    )


def _verify(
    job: _Job, subject: _Subject, request: ExportRequest, tolerances: Tolerances, device: torch.device
) -> ParityReport:
    runtime: Runtime = registry("export_backends").load_runtime(job.spec.name)(request.path)
    try:
        samples, source = _samples(subject, any_size=getattr(runtime, "dynamic_size", False))
        network = subject.network.to(device)
        try:
            report = check_parity(network, runtime, samples, tolerances, source=source)
        finally:
            subject.network.cpu()
        where = None
        find = getattr(job.backend, "find_divergence", None)
        if not report.passed and find is not None:
            worst = report.worst()[0].sample  # which may say more than the sample's own name
            suspects = [sample for sample in samples if worst.startswith(sample.name)]
            where = find(request, max(suspects, key=lambda sample: len(sample.name)).image)
        report.require(str(job.target), where=where)
    finally:
        close = getattr(runtime, "close", None)
        if close is not None:
            close()
    return report


def _samples(subject: _Subject, *, any_size: bool) -> tuple[list[ParitySample], str]:
    """Inputs for the comparison; where a file takes any size, of a second size too."""
    settings = subject.model.extra.get("data")
    known = settings if isinstance(settings, dict) else None

    def of_size(size: tuple[int, int]) -> tuple[list[ParitySample], str]:
        return parity_samples(size, calibration=subject.calibration, settings=known)

    samples, source = of_size(subject.image_size)
    if any_size:
        (width, height), step = subject.image_size, max(subject.network.strides)
        other = (width + step, max(step, height - step))
        more, _ = of_size(other)
        samples += [ParitySample(f"{sample.name} at {other[0]}x{other[1]}", sample.image) for sample in more[:3]]
    return samples, source


def _write_bundle(job: _Job, metadata: Metadata, manifest: dict[str, Any]) -> Path:
    from yolo.export.bundle.write import bundle_path, write_bundle

    runtime: Runtime = registry("export_backends").load_runtime(job.spec.name)(job.target)
    return write_bundle(
        bundle_path(job.target), model_path=job.target, manifest=manifest, metadata=metadata, runtime=runtime
    )


@contextmanager
def _memory_errors(size: tuple[int, int]) -> Iterator[None]:
    """Say in one line what to do when the memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in text for sign in ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")
        )
        if not short:
            raise
        raise ExportError(
            f"the memory does not suffice to export at {size[0]}x{size[1]}: take a smaller --size, fewer "
            "--num-calibration pictures, or a machine with more memory"
        ) from error
