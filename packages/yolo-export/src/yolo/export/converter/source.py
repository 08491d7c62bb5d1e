"""What the converter gets: the network as ONNX, of one size and one image per call."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from yolo.core.plugins import MissingRequirementError
from yolo.export.graph.deploy import DeployModule
from yolo.export.runtimes.distributions import LOGITS, SCORES

#: The operator set that onnx2tf was measured with.
OPSET = 13


@dataclass(frozen=True, kw_only=True)
class Source:
    """An ONNX file to convert.

    Attributes:
        path: the file.
        rewrites: how often each rewrite was applied.
        bins: of the distributions that a raw file puts out; 0 for others.
    """

    path: Path
    rewrites: dict[str, int]
    bins: int = 0


def require_onnx(format: str) -> None:
    """See that a network can be traced here.

    Raises:
        MissingRequirementError: onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingRequirementError(
            f"The export format '{format}' needs onnx, not installed here: pip install 'yolo-export[onnx,litert]'"
        )


def write_source(module: DeployModule, path: Path, *, rewrite: bool, raw: bool = False) -> Source:
    """Trace a network to an ONNX file.

    Args:
        module: the network with its decoding.
        path: of the file.
        rewrite: for XNNPACK, see :mod:`yolo.export.graph.rewrites`.
        raw: put out distributions and scores instead of decoded boxes.

    Raises:
        ExportError: ``raw``, and the network's head has no distributions.
    """
    import onnx

    from yolo.export.graph.rewrites import find_raw, keep_raw, rewrite_for_xnnpack
    from yolo.export.graph.trace import trace_onnx

    model = trace_onnx(module, path, opset=OPSET)
    bins = 0
    if raw:
        found = find_raw(model)
        bins = found.bins
        keep_raw(model, found, classes=module.num_classes, anchors=module.num_anchors, names=(LOGITS, SCORES))
    rewrites = rewrite_for_xnnpack(model) if rewrite else {}
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return Source(path=path, rewrites=rewrites, bins=bins)
