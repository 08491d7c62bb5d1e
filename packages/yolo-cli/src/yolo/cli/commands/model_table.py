"""What ``yolo models show`` says about a network: its layers with their shapes, and its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolo.core.errors import UsageError
from yolo.core.image_size import DEFAULT_SIZE, check_image_size
from yolo.core.models import Counts, LayerRow, ModelSpec, build_model, count, layer_table, load_spec
from yolo.core.models.fuse import fuse
from yolo.core.weights.file import WEIGHT_SUFFIXES
from yolo.core.weights.load import load_bundle


@dataclass(frozen=True)
class Description:
    """A network at an image size.

    Attributes:
        spec: the network.
        classes: number of classes.
        image_size: (width, height), pixels.
        strides: pixels per cell of each map that the head gives.
        layers: one row per layer.
        parameters: of each layer.
        sizes: of the whole in training, without what only training needs, and fused.
    """

    spec: ModelSpec
    classes: int
    image_size: tuple[int, int]
    strides: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    parameters: tuple[int, ...]
    sizes: Mapping[str, Counts]

    def title(self) -> str:
        """One line that names network, classes and size."""
        width, height = self.image_size
        return f"{self.spec.name}, {self.classes} classes, {width}x{height}"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Cells of the layer table; the channels of a layer are in its shape."""
        for row, parameters in zip(self.layers, self.parameters, strict=True):
            yield (
                f"{row.index:5}",
                row.tag or "",
                row.section,
                row.block,
                ", ".join("image" if source < 0 else str(source) for source in row.sources),
                ", ".join(f"{key} {_short(value)}" for key, value in row.args.items() if key != "out_channels"),
                " ".join(map(str, row.shapes)),
                f"{parameters:10,}" if parameters else "",
            )

    def totals(self) -> Iterable[tuple[str, ...]]:
        """Cells of the table of sizes."""
        for name, counts in self.sizes.items():
            yield name, f"{counts.parameters:11,}", f"{counts.flops / 1e9:7.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.spec.name,
            "classes": self.classes,
            "image_size": list(self.image_size),
            "strides": list(self.strides),
            "layers": [
                {
                    "index": row.index,
                    "section": row.section,
                    "block": row.block,
                    "tag": row.tag,
                    "sources": list(row.sources),
                    "args": row.args,
                    "shapes": [list(shape) for shape in row.shapes],
                    "parameters": parameters,
                }
                for row, parameters in zip(self.layers, self.parameters, strict=True)
            ],
            "sizes": {
                name: {"parameters": counts.parameters, "flops": counts.flops} for name, counts in self.sizes.items()
            },
        }


def describe(model: str, *, size: str | None, classes: int | None) -> Description:
    """Work out shapes and sizes of a network; no weight is made or read.

    Args:
        model: a published name, a YAML file, or a file of weights.
        size: as on the command line; default: the file's, else 640.
        classes: number of classes; default: 80.

    Raises:
        UsageError: an unknown name, a size that does not fit, or ``classes`` beside a file that has its own.
        WeightsError: a file of weights that cannot be used.
    """
    default = DEFAULT_SIZE
    if Path(model).suffix.lower() in WEIGHT_SUFFIXES:
        if classes is not None:
            raise UsageError(f"--classes: {model!r} has its own number of classes; leave the option out")
        bundle = load_bundle(model)
        spec, default, classes = bundle.spec(), bundle.image_size, len(bundle.class_names)
    else:
        spec = load_spec(model)
    classes = classes or 80
    with torch.device("meta"):
        network = build_model(spec, classes)
    image_size = default if size is None else check_image_size(size, stride=max(network.strides))
    layers = layer_table(network, image_size)
    parameters = (network.layer(row.index).parameters() for row in layers)
    sizes = {"in training": count(network, image_size=image_size, aux=True)} if network.has_auxiliary else {}
    sizes["for inference"] = count(network, image_size=image_size)
    sizes["fused"] = count(fuse(network), image_size=image_size)
    return Description(
        spec=spec,
        classes=classes,
        image_size=image_size,
        strides=network.strides,
        layers=layers,
        parameters=tuple(sum(parameter.numel() for parameter in layer) for layer in parameters),
        sizes=sizes,
    )


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
    return "/".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
