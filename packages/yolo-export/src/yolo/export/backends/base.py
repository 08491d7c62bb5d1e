"""What an export backend is: it writes one deployable network to one file. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from yolo.core.errors import UsageError, YoloError

if TYPE_CHECKING:
    from yolo.export.graph.deploy import DeployModule
    from yolo.export.metadata import Metadata


class ExportError(YoloError):
    """An export that cannot be done; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a user may ask of a file. The default of every option means "not asked for".

    A backend lists in :attr:`Backend.options` those that mean something for its format.

    Attributes:
        opset: version of the ONNX operator set; ``None``: the backend's own choice.
        simplify: fold constants and merge nodes of the finished graph.
        dynamic_batch: any number of images per call, instead of one.
    """

    opset: int | None = None
    simplify: bool = False
    dynamic_batch: bool = False

    def asked(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def require(self, known: frozenset[str], *, format: str) -> None:
        """Refuse options that a backend does not have.

        Raises:
            UsageError: names the first option and the format.
        """
        for name in self.asked():
            if name not in known:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} means nothing for the format '{format}'; leave it out")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One file to write.

    Attributes:
        module: the network with its decoding, float32 on the CPU, in evaluation mode.
        path: the file to write, in a folder that exists and may be used for temporary files.
        options: what was asked for.
        metadata: names, size and preprocessing, to be stored inside the file where its format allows it.
    """

    module: DeployModule
    path: Path
    options: ExportOptions
    metadata: Metadata


class Backend(Protocol):
    """A file format; the ``target`` of an :class:`~yolo.core.plugins.ExportBackendSpec`, made without arguments.

    The exporter hands it a fused network, and compares the file with the checkpoint before anybody sees it, so that a
    backend neither verifies nor writes atomically.

    Attributes:
        options: names of the fields of :class:`ExportOptions` that it honours.
    """

    options: ClassVar[frozenset[str]]

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Write ``request.path``.

        Returns:
            Facts about the file for its manifest, plain data: versions of the tools, settings read back.

        Raises:
            YoloError: an option's value that it cannot serve, or a converter that fails.
        """
