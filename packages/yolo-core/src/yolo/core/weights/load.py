"""From a name or a file to a network."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.class_width import ClassWidth
from yolo.core.models.network import Network
from yolo.core.models.spec import ModelSpec, load_spec, parse_spec, zoo_names
from yolo.core.weights.bundle import ModelBundle, bundle_in
from yolo.core.weights.coco import assumed_names
from yolo.core.weights.file import WeightsError
from yolo.core.weights.identify import PUBLISHED_ANCHORS, ClassBranch, class_branch, closest_model
from yolo.core.weights.read import Weights, read_content, weights_of
from yolo.core.weights.transfer import closest_text

logger = logging.getLogger(__name__)


def load_model(name_or_path: str | os.PathLike[str], *, model: str | Path | None = None) -> Network:
    """Return a network in evaluation mode: from a file with its weights, or by a published name without any.

    >>> from yolo.core import load_model
    >>> load_model("v9-t").num_classes
    80

    Args:
        name_or_path: a published name (``"v9-c"``: fresh random weights), or a file of weights: a checkpoint of ours,
            a state dict, an official file of YOLOv9, GELAN or YOLOv7, or safetensors (``.ckpt``, ``.pt``, ``.pth``,
            ``.safetensors``). No code in it is run.
        model: for plain weights, the network they belong to: a published name or a YAML file. Default: the published
            network whose names and shapes they have.

    Raises:
        UsageError: an unknown name.
        WeightsError: a file that is not there or not usable, or weights that do not fit.
    """
    if isinstance(name_or_path, str) and name_or_path in zoo_names():
        return build_model(name_or_path).eval()
    return load_bundle(name_or_path, model=model).build(name=str(name_or_path))


def load_bundle(path: str | os.PathLike[str], *, model: str | Path | None = None) -> ModelBundle:
    """Read a file of weights together with all that is known about its network.

    Plain weights carry no image size: it is 640 x 640. Official files carry class names; where a file has none, the
    80 classes of a published network are taken to be COCO's, and others are called by their numbers (then
    ``extra["class_names_known"]`` is false).

    Args:
        path: any file that :func:`load_model` takes.
        model: as for :func:`load_model`; a file that carries its own layer list needs none, and takes no other.

    Raises:
        UsageError: an unknown ``model``, or another than the file's own.
        WeightsError: the file is not there or not usable, or fits no network.
    """
    content = read_content(path)
    stored = bundle_in(content, name=str(path))
    if stored is not None:
        _require_same(stored, model, path)
        return stored
    weights = weights_of(content, name=str(path))
    spec = _named(weights, model, path)
    branch = class_branch(weights.state, anchors=len(spec.anchors[0]) if spec and spec.anchors else PUBLISHED_ANCHORS)
    if branch is None:
        raise WeightsError(f"{str(path)!r} holds no detection head, so these are no weights of a detector of ours")
    if spec is None:
        spec = _recognised(weights, path)
    names = _class_names(weights, branch, path, published=spec.name in zoo_names())
    return ModelBundle(
        architecture=adopt_class_width(spec, branch).to_dict(),
        state_dict=weights.state,
        class_names=names or tuple(str(number) for number in range(branch.num_classes)),
        extra={"class_names_known": names is not None},
    )


def _require_same(stored: ModelBundle, model: str | Path | None, path: str | os.PathLike[str]) -> None:
    own = parse_spec(stored.architecture, str(path)).name
    if model is not None and load_spec(model).name != own:
        raise UsageError(f"{str(path)!r} says itself that it is {own}, not {model}: leave --model out")


def _named(weights: Weights, model: str | Path | None, path: str | os.PathLike[str]) -> ModelSpec | None:
    """The network that the user names, or else the file."""
    if model is None and weights.architecture is not None:
        return parse_spec(weights.architecture, str(path))
    name = model or weights.model
    return None if name is None else load_spec(name)


def _recognised(weights: Weights, path: str | os.PathLike[str]) -> ModelSpec:
    match = closest_model(weights.state)
    if match.share < 1:
        raise WeightsError(
            f"{str(path)!r}: the network cannot be recognised; {closest_text(weights.state)}. "
            "Name it with --model (in Python: model=...)"
        )
    return load_spec(match.name)


def _class_names(
    weights: Weights, branch: ClassBranch, path: str | os.PathLike[str], *, published: bool
) -> tuple[str, ...] | None:
    if weights.class_names is not None and len(weights.class_names) == branch.num_classes:
        return weights.class_names
    names = assumed_names(branch.num_classes) if published else None
    if names is not None:
        logger.info("%s names no classes; its %d are taken to be COCO's", path, len(names))
    return names


def adopt_class_width(spec: ModelSpec, branch: ClassBranch, *, num_classes: int | None = None) -> ModelSpec:
    """Return the network with class branches as wide as those of a file, whatever the number of classes.

    Published tiny weights are narrower than the published code would build them, and with few classes the plain rule
    would shrink the branches, so that nothing of them could be carried over.

    Args:
        spec: the network.
        branch: what the file's head looks like, see :func:`yolo.core.weights.identify.class_branch`.
        num_classes: of the network to build; default: the file's.
    """
    wanted = branch.num_classes if num_classes is None else num_classes
    if not branch.width or spec.class_width.channels(branch.first, wanted) == branch.width:
        return spec
    return spec.with_class_width(ClassWidth.fixed(branch.width))
