"""What an export backend is: it writes one deployable network to a file or a folder. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from yolo.core.errors import UsageError, YoloError

if TYPE_CHECKING:
    from yolo.core.weights.bundle import ModelBundle
    from yolo.export.calibration import CalibrationImages
    from yolo.export.graph.deploy import DeployModule
    from yolo.export.metadata import Metadata

QUANTIZATIONS = ("none", "fp16", "int8")
ACTIVATIONS = ("hard-swish",)
#: Options that the exporter serves itself, for every format.
GENERAL = frozenset(
    {"activation", "calibration_images", "num_calibration", "calibration_seed", "device", "verify", "bundle"}
)
_INSTEAD = {"half": "--quantization fp16 is its name there", "quantization": "--half makes float16 there"}


class ExportError(YoloError):
    """An export that cannot be done; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a user may ask of a file. The default of every option means "not asked for".

    A backend lists in :attr:`Backend.options` those that mean something for its format; those of :data:`GENERAL` serve
    every format.

    Attributes:
        opset: version of the ONNX operator set; ``None``: the backend's own choice.
        simplify: fold constants and merge nodes of the finished graph.
        dynamic_batch: any number of images per call, instead of one.
        dynamic_size: images of any size in multiples of the coarsest stride, instead of one size.
        half: float16 weights and arithmetic, with a float32 input and output.
        nms: a second output with finished detections.
        quantization: ``none``, ``fp16`` (weights), or ``int8`` (weights and arithmetic).
        int8_io: int8 input and outputs too, which needs a decoder outside of the file.
        keep_float: layers that stay float in an int8 file: names or patterns.
        xnnpack_optimize: rewrite the graph, without changing the function, so that XNNPACK takes all of it.
        activation: replace SiLU by ``hard-swish``, which is another function and needs fine-tuning.
        calibration_images: folder of pictures, or configuration of a data set, for int8 and for the comparison.
        num_calibration: pictures that are drawn from there.
        calibration_seed: of the draw.
        device: where PyTorch computes what the file is compared with; ``auto`` is the CPU.
        verify: compare the file with the checkpoint.
        bundle: put what is needed to use the file elsewhere beside it.
    """

    opset: int | None = None
    simplify: bool = False
    dynamic_batch: bool = False
    dynamic_size: bool = False
    half: bool = False
    nms: bool = False
    quantization: str = "none"
    int8_io: bool = False
    keep_float: tuple[str, ...] = ()
    xnnpack_optimize: bool = True
    activation: str | None = None
    calibration_images: str | None = None
    num_calibration: int = 100
    calibration_seed: int = 0
    device: str = "auto"
    verify: bool = True
    bundle: bool = False

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
            if name not in known | GENERAL:
                instead = _INSTEAD.get(name, "leave it out")
                raise UsageError(f"{flag(name)} means nothing for the format '{format}'; {instead}")

    def only(self, known: frozenset[str]) -> ExportOptions:
        """The options without those that a backend does not have."""
        return ExportOptions(**{name: value for name, value in self.asked().items() if name in known | GENERAL})

    def check(self) -> None:
        """Refuse values that do not exist, and options that exclude or need each other.

        Raises:
            UsageError: names the option and what to do.
        """
        if self.quantization not in QUANTIZATIONS:
            raise UsageError(f"--quantization {self.quantization} does not exist; use {', '.join(QUANTIZATIONS)}")
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise UsageError(f"--activation {self.activation} does not exist; use {', '.join(ACTIVATIONS)}")
        if self.num_calibration < 1:
            raise UsageError(f"--num-calibration is {self.num_calibration}: it must be 1 or more")
        if self.calibration_seed < 0:
            raise UsageError(f"--calibration-seed is {self.calibration_seed}: it must be 0 or more")
        if self.quantization != "int8":
            for name in ("int8_io", "keep_float"):
                if name in self.asked():
                    raise UsageError(f"{flag(name)} is for int8 files: add --quantization int8")
        if self.quantization == "int8" and self.calibration_images is None:
            raise UsageError(
                "--quantization int8 needs --calibration-images: a folder of pictures like those that the network "
                "will see, or the configuration of a data set"
            )
        if self.calibration_images is None:
            for name in ("num_calibration", "calibration_seed"):
                if name in self.asked():
                    raise UsageError(f"{flag(name)} needs --calibration-images")
        if self.nms and self.dynamic_batch:
            raise UsageError("--nms makes files for one image per call: leave --dynamic-batch out")


def flag(name: str) -> str:
    """The command-line option that makes a field of :class:`ExportOptions` differ from its default."""
    negative = name in ("verify", "xnnpack_optimize")
    return f"--{'no-' if negative else ''}{name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One file to write.

    Attributes:
        module: the network with its decoding, float32 on the CPU, in evaluation mode.
        path: the file to write, or the folder to make, in a folder that exists and may be used for temporary files.
        options: what was asked for; other fields than the backend's own have their defaults.
        metadata: names, size and preprocessing, to be stored inside the file where its format allows it.
        model: the network that was exported, as data.
        calibration: pictures to calibrate with; there are some where ``options.quantization`` is ``int8``.
    """

    module: DeployModule
    path: Path
    options: ExportOptions
    metadata: Metadata
    model: ModelBundle | None = None
    calibration: CalibrationImages | None = None


class Backend(Protocol):
    """A file format; the ``target`` of an :class:`~yolo.core.plugins.ExportBackendSpec`, made without arguments.

    The exporter hands it a fused network, and compares the file with the checkpoint before anybody sees it, so that a
    backend neither verifies nor writes atomically. It may have two more methods: ``check(options)`` refuses values that
    it cannot serve before any work is done, and ``find_divergence(request, image) -> str | None`` says for a file that
    failed, and a float32 ``[3, H, W]`` image, which layer is the first that is wrong.

    Attributes:
        options: names of the fields of :class:`ExportOptions` that it honours.
    """

    options: ClassVar[frozenset[str]]

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Write ``request.path``.

        Returns:
            Facts about the file for its manifest, plain data: ``versions`` of the tools, settings read back, and
            ``precision`` (``float32``, ``float16`` or ``int8``), by which the comparison is as strict as it can be.

        Raises:
            YoloError: an option's value that it cannot serve, or a converter that fails.
        """
