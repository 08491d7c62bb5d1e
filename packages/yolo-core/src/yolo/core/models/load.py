"""From a name or a file to a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from yolo.core.models.build import build_model
from yolo.core.models.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.models.class_width import ClassWidth
from yolo.core.models.identify import ClassBranch, class_branch, closest_model
from yolo.core.models.network import Network
from yolo.core.models.spec import ModelSpec, load_spec, zoo_names
from yolo.core.models.weight_file import WeightsError, read_weight_file
from yolo.core.models.weights import closest_text, state_dict_of


def load_model(name_or_path: str | os.PathLike[str], *, model: str | Path | None = None) -> Network:
    """Return a network in evaluation mode: from a file with its weights, or by a published name without any.

    >>> from yolo.core import load_model
    >>> load_model("v9-t").num_classes
    80

    Args:
        name_or_path: a published name (``"v9-c"``: fresh random weights), or a ``.ckpt``, ``.pt``, ``.pth`` or
            ``.safetensors`` file.
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

    Plain weights carry neither class names nor image size: classes are then called by their numbers, and the size is
    640 x 640.

    Args:
        path: a ``.ckpt``, ``.pt``, ``.pth`` or ``.safetensors`` file.
        model: as for :func:`load_model`.

    Raises:
        UsageError: an unknown ``model``.
        WeightsError: the file is not there or not usable, or fits no network.
    """
    content = read_weight_file(path)
    if isinstance(content.get(BUNDLE_KEY), Mapping):
        return ModelBundle.from_dict(content[BUNDLE_KEY], name=str(path))
    state = state_dict_of(content, name=str(path))
    branch = class_branch(state)
    if branch is None:
        raise WeightsError(f"{str(path)!r} holds no detection head, so these are no weights of a detector of ours")
    if model is None:
        match = closest_model(state)
        if match.share < 1:
            raise WeightsError(
                f"{str(path)!r}: the network cannot be recognised; {closest_text(state)}. "
                "Name it with --model (in Python: model=...)"
            )
        model = match.name
    spec = adopt_class_width(load_spec(model), branch)
    return ModelBundle(
        architecture=spec.to_dict(),
        state_dict=state,
        class_names=tuple(str(number) for number in range(branch.num_classes)),
        extra={"class_names_known": False},
    )


def adopt_class_width(spec: ModelSpec, branch: ClassBranch, *, num_classes: int | None = None) -> ModelSpec:
    """Return the network with class branches as wide as those of a file, whatever the number of classes.

    Published tiny weights are narrower than the published code would build them, and with few classes the plain rule
    would shrink the branches, so that nothing of them could be carried over.

    Args:
        spec: the network.
        branch: what the file's head looks like, see :func:`yolo.core.models.identify.class_branch`.
        num_classes: of the network to build; default: the file's.
    """
    wanted = branch.num_classes if num_classes is None else num_classes
    if spec.class_width.channels(branch.first, wanted) == branch.width:
        return spec
    return spec.with_class_width(ClassWidth.fixed(branch.width))
