"""Where an exported file or folder goes, and how it gets there: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from yolo.core.errors import UsageError
from yolo.core.files import check_writable
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.weights.file import WEIGHT_SUFFIXES
from yolo.export.backends.base import ExportError
from yolo.export.manifest import manifest_path


def require_source(source: Path) -> None:
    """Refuse files that are exports already.

    Raises:
        UsageError: names the file.
    """
    owner = None if source.suffix.lower() in WEIGHT_SUFFIXES else _owner(source)
    if owner is not None and source.exists():
        raise UsageError(f"{str(source)!r} is exported already, as {owner}; give the checkpoint that it was made from")


def find_target(source: Path, output: str | os.PathLike[str] | None, spec: ExportBackendSpec, *, alone: bool) -> Path:
    """Return where a format is written.

    Args:
        source: the checkpoint, beside which it goes if nothing else is said.
        output: the file, or a folder to put it in; for a format that is a folder, that folder.
        spec: the format.
        alone: whether it is the only format; of several, ``output`` is the folder that all go to.

    Raises:
        UsageError: the output has another suffix, is the checkpoint, or is a folder that holds something else.
    """
    name = _name(source.stem, spec.suffix)
    if output is None:
        target = source.with_name(name)
    elif not alone:
        target = Path(output) / name
        known = Path(output).is_dir() or _is_folder(output)
        if not known and (Path(output).exists() or Path(output).suffix):
            raise UsageError(f"--output {str(output)!r} must be a folder, as several formats are written")
    else:
        target = _single(name, output, spec)
    _check_free(target, source, folder=spec.suffix.endswith("/"))
    return target


def _single(name: str, output: str | os.PathLike[str], spec: ExportBackendSpec) -> Path:
    target, ending = Path(output), spec.suffix.rstrip("/")
    named = target.name.lower().endswith(ending.lower())
    if spec.suffix.endswith("/"):
        if named:
            return target
        if target.is_dir() or _is_folder(output):
            return target / name
        raise UsageError(f"--output {str(target)!r} must end with {spec.suffix}, or be a folder to put it in")
    if target.is_dir() or _is_folder(output):
        return target / name
    if not named:
        owner = _owner(target)
        hint = "" if owner is None else f"; for such a file add --format {owner}"
        raise UsageError(f"--output {str(target)!r} must end with {ending}, or be a folder{hint}")
    return target


def _owner(path: Path) -> str | None:
    """The format that has such names."""
    specs = (spec for spec in registry("export_backends") if isinstance(spec, ExportBackendSpec))
    return next((spec.name for spec in specs if path.name.lower().endswith(spec.suffix.lower().rstrip("/"))), None)


def _is_folder(output: str | os.PathLike[str]) -> bool:
    return os.fspath(output).endswith(("/", os.sep))


def _name(stem: str, suffix: str) -> str:
    if not suffix.endswith("/"):
        return f"{stem}{suffix}"
    return f"{stem}_{suffix.strip('/_.') or 'export'}"


def _check_free(target: Path, source: Path, *, folder: bool) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"--output {str(target)!r} is the checkpoint itself; give another name")
    if not folder and target.is_dir():
        raise UsageError(f"--output {str(target)!r} is a folder, where a file would be written")
    if folder and target.is_file():
        raise UsageError(f"--output {str(target)!r} is a file, where a folder would be made")
    if folder and target.is_dir() and any(target.iterdir()) and not manifest_path(target).is_file():
        raise UsageError(f"--output {str(target)!r} holds files that are no earlier export; give another folder")


def check_target(target: Path) -> None:
    """See that a target can be written, before any work.

    Raises:
        ExportError: it cannot.
    """
    try:
        check_writable(target.parent)
    except OSError as error:
        raise ExportError(f"cannot write {str(target)!r}: {error.filename}: {error.strerror or error}") from error


def put_in_place(written: Path, target: Path) -> None:
    """Move a finished file or folder to its place; an older one is replaced, and there until then.

    Args:
        written: on the same volume as the target.
        target: where it goes.
    """
    if not written.is_dir():
        written.replace(target)
        return
    if not target.exists():
        written.rename(target)
        return
    old = written.with_name(f"{written.name}.old")
    target.rename(old)
    try:
        written.rename(target)
    except BaseException:  # an interruption too
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def require_different(targets: Sequence[Path]) -> None:
    """Refuse two formats that would be written to one place.

    Raises:
        UsageError: names it.
    """
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"two formats would be written to {str(target)!r}; export them one by one")
