"""Starting a training from a file: from weights, or where another run stopped."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_only

from yolo.cli.byte_bar import byte_bar
from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.network import Network
from yolo.core.models.plan import make_plan
from yolo.core.models.spec import ModelSpec, parse_spec, zoo_names
from yolo.core.weights.bundle import read_checkpoint
from yolo.core.weights.coco import assumed_names
from yolo.core.weights.download import fetch_weights
from yolo.core.weights.file import read_weight_file
from yolo.core.weights.identify import PUBLISHED_ANCHORS, class_branch
from yolo.core.weights.load import adopt_class_width
from yolo.core.weights.read import read_weights
from yolo.core.weights.transfer import load_weights

logger = logging.getLogger(__name__)

_STATE_OF_A_TRAINING = {"state_dict", "loops", "optimizer_states", "lr_schedulers"}  # entries that Lightning writes


def weight_file(weight_path: str | bool, model_config: str) -> str:
    """Return the file to start from; ``True`` fetches the published weights of the network, unless they are here.

    Args:
        weight_path: a path, or ``True``.
        model_config: name of the network.

    Raises:
        UsageError: the network has no published weights.
        DownloadError: they cannot be fetched; the message says where to put the file by hand.
    """
    if isinstance(weight_path, str):
        return weight_path
    if model_config not in zoo_names():
        raise UsageError(
            f"model.weight_path is true, but model.model_config {model_config!r} is no published network: "
            "name a file of weights"
        )
    if getattr(rank_zero_only, "rank", 0):
        return str(fetch_weights(model_config))
    with byte_bar(f"Downloading {model_config}") as report:
        return str(fetch_weights(model_config, progress=report))


def start_from(
    path: str,
    spec: ModelSpec,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    class_names: Sequence[str] | None = None,
    by_name: bool = True,
    force: bool = False,
    verbose: bool = False,
) -> Network:
    """Build a network, fill it with the tensors of a weight file that fit, and print what became of each.

    Class branches get the width of the file's, so that they can be carried over whatever the number of classes.

    Args:
        path: a checkpoint of ours, a state dict, an official file or safetensors.
        spec: the layer list to build.
        num_classes: classes of the data; class layers start fresh where the file has other classes.
        image_size: width and height, for the biases of fresh class layers.
        class_names: of the data; classes of the same name take their rows from the file.
        by_name: whether names count; otherwise equal numbers of classes are taken over in order.
        force: train on although less than half of the parameters were found.
        verbose: print the names of all tensors.

    Raises:
        WeightsError: the file cannot be read, or belongs to another network.
    """
    weights = read_weights(path)
    anchors = parse_spec(weights.architecture, path).anchors if weights.architecture else None
    if anchors and spec.anchors and anchors != spec.anchors:
        _tell(f"{path} was trained with other anchor boxes than {spec.name} has here; box sizes start off wrong")
    branch = class_branch(weights.state, anchors=len(spec.anchors[0]) if spec.anchors else PUBLISHED_ANCHORS)
    if branch is not None:
        plan = make_plan(spec, num_classes)
        if branch.first == plan.layers[plan.main].in_channels[0]:
            spec = adopt_class_width(spec, branch, num_classes=num_classes)
    network = build_model(spec, num_classes, image_size=image_size)
    file_names = weights.class_names
    if file_names is None and by_name and branch is not None and spec.name in zoo_names():
        file_names = _assumed(branch.num_classes, class_names or (), path)
    report = load_weights(
        network,
        weights.state,
        source=path,
        class_names=class_names,
        file_class_names=file_names,
        by_name=by_name,
        force=force,
    )
    _tell(f"Weights of {path} for {spec.name} with {num_classes} classes:\n{report.table(verbose=verbose)}")
    return network


def _assumed(in_file: int, wanted: Sequence[str], path: str) -> tuple[str, ...] | None:
    names = assumed_names(in_file, wanted=wanted)
    if names is not None:
        _tell(f"{path} names no classes; its {in_file} are taken to be COCO's")
    return names


@rank_zero_only
def _tell(text: str) -> None:
    logger.info("%s", text)


def resumed_spec(path: str, wanted: ModelSpec, *, class_names: tuple[str, ...]) -> ModelSpec:
    """Return the layer list of the run that is resumed, whose class branches may have the width of a weight file.

    Args:
        path: checkpoint of a run.
        wanted: what the configuration asks for.
        class_names: of the data.

    Raises:
        UsageError: the run trained another network, or other classes, or the file holds no state of a training.
        WeightsError: the file is no checkpoint of ours.
    """
    bundle = read_checkpoint(path)
    if not read_weight_file(path).keys() >= _STATE_OF_A_TRAINING:
        raise UsageError(
            f"--ckpt_path {path} holds a model, but no state of a training (it was stripped or converted); "
            "start a new one from it with model.weight_path"
        )
    found = bundle.spec()
    if found.name != wanted.name:
        raise UsageError(f"--ckpt_path {path} is a run of {found.name}, but model.model_config is {wanted.name}")
    if bundle.class_names != class_names:
        raise UsageError(
            f"--ckpt_path {path} knows the classes {list(bundle.class_names)}, but the data has {list(class_names)}; "
            "to start from its weights, give it as model.weight_path"
        )
    return found
