"""Starting a training from a file: from weights, or where another run stopped."""

from __future__ import annotations

import logging

from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.bundle import read_checkpoint
from yolo.core.models.identify import class_branch
from yolo.core.models.load import adopt_class_width
from yolo.core.models.network import Network
from yolo.core.models.spec import ModelSpec
from yolo.core.models.weights import load_weights, read_state_dict

logger = logging.getLogger(__name__)


def start_from(path: str, spec: ModelSpec, *, num_classes: int, image_size: tuple[int, int]) -> Network:
    """Build a network and fill it with the tensors of a weight file that fit.

    Class branches get the width of the file's, so that they can be carried over whatever the number of classes.

    Args:
        path: .ckpt, .pt, .pth or .safetensors.
        spec: the layer list to build.
        num_classes: classes of the data; the last class layers start fresh where the file has another number.
        image_size: width and height, for the biases of fresh class layers.

    Raises:
        WeightsError: the file cannot be read, or belongs to another network.
    """
    state = read_state_dict(path)
    branch = class_branch(state)
    if branch is not None:
        spec = adopt_class_width(spec, branch, num_classes=num_classes)
    network = build_model(spec, num_classes, image_size=image_size)
    report = load_weights(network, state, source=path)
    logger.info("%s: %s", path, report.summary())
    return network


def resumed_spec(path: str, wanted: ModelSpec, *, class_names: tuple[str, ...]) -> ModelSpec:
    """Return the layer list of the run that is resumed, whose class branches may have the width of a weight file.

    Args:
        path: checkpoint of a run.
        wanted: what the configuration asks for.
        class_names: of the data.

    Raises:
        UsageError: the run trained another network, or other classes.
        WeightsError: the file is no checkpoint of ours.
    """
    bundle = read_checkpoint(path)
    found = bundle.spec()
    if found.name != wanted.name:
        raise UsageError(f"--ckpt_path {path} is a run of {found.name}, but model.model_config is {wanted.name}")
    if bundle.class_names != class_names:
        raise UsageError(
            f"--ckpt_path {path} knows the classes {list(bundle.class_names)}, but the data has {list(class_names)}; "
            "to start from its weights, give it as model.weight_path"
        )
    return found
