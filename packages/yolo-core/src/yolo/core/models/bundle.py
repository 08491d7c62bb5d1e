"""The self-contained model inside a checkpoint: enough to predict, validate and export on another machine.

A ``.ckpt`` file is a dictionary whose entry ``"yolo"`` is :meth:`ModelBundle.to_dict`, beside what Lightning stores.
Plain data and tensors only, so that it loads with ``weights_only=True``. See ``docs/reference/checkpoint.md``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from yolo.core.models.build import build_model
from yolo.core.models.network import Network
from yolo.core.models.spec import ModelSpec, parse_spec
from yolo.core.models.weight_file import WeightsError, read_weight_file
from yolo.core.models.weights import BUNDLE_KEY, closest_text, state_dict_of

__all__ = ["BUNDLE_KEY", "ModelBundle", "read_checkpoint"]

FORMAT = 1


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """A trained network as data.

    Attributes:
        architecture: the layer list, as :meth:`yolo.core.models.spec.ModelSpec.to_dict` gives it.
        state_dict: the weights to deploy by name (the EMA's when there is one), with or without the auxiliary branch.
        class_names: one per class, in order of the network's outputs.
        image_size: (width, height) that the network was trained at, pixels.
        class_width: width rule of the class branches where it differs from the architecture's: channels, or
            ``{per_class, at_most}``.
        extra: anything else that is plain data (versions, configuration, ...).
    """

    architecture: dict[str, Any]
    state_dict: dict[str, Tensor]
    class_names: tuple[str, ...]
    image_size: tuple[int, int] = (640, 640)
    class_width: int | dict[str, int] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.image_size))
        return f"ModelBundle({self.spec().name!r}, {len(self.class_names)} classes, {size})"

    def spec(self) -> ModelSpec:
        """Return the typed layer list, with this bundle's class width."""
        return parse_spec(self.architecture, "the checkpoint's architecture").with_class_width(self.class_width)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data and tensors, to be stored below :data:`BUNDLE_KEY`."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "state_dict": self.state_dict,
            "class_names": list(self.class_names),
            "image_size": list(self.image_size),
            "class_width": self.class_width,
            "extra": self.extra,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, name: str = "the checkpoint") -> ModelBundle:
        """Check and take over what :meth:`to_dict` made; ``name`` is for messages.

        Raises:
            WeightsError: an entry is missing or of another kind, or the file is from a newer version.
        """
        found = data.get("format")
        if not isinstance(found, int) or found < 1:
            raise WeightsError(f"{name!r}: the entry {BUNDLE_KEY!r} has no format number, so it is not a model of ours")
        if found > FORMAT:
            raise WeightsError(
                f"{name!r} has checkpoint format {found}, newer than this version reads; update yolo-core"
            )
        for key, kind in (("architecture", Mapping), ("class_names", (list, tuple)), ("image_size", (list, tuple))):
            if not isinstance(data.get(key), kind):
                raise WeightsError(f"{name!r}: the entry '{BUNDLE_KEY}.{key}' is missing or damaged")
        size = tuple(data["image_size"])
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise WeightsError(f"{name!r}: the image size must be (width, height), not {size}")
        return cls(
            architecture=dict(data["architecture"]),
            state_dict=state_dict_of(data, name=name),
            class_names=tuple(map(str, data["class_names"])),
            image_size=(size[0], size[1]),
            class_width=data.get("class_width"),
            extra=dict(data.get("extra") or {}),
        )

    def build(self, *, name: str = "the checkpoint") -> Network:
        """Build the network in evaluation mode and load every weight.

        The auxiliary branch is left away when there are no weights for it.

        Raises:
            WeightsError: weights and architecture do not fit each other.
        """
        spec = self.spec()
        training_only = tuple(f"{layer.index}." for layer in spec.layers if layer.auxiliary)
        if training_only and not any(key.startswith(training_only) for key in self.state_dict):
            spec = spec.without_auxiliary()
        with torch.device("meta"):  # no time for random weights, and no number taken from torch's generator
            network = build_model(spec, len(self.class_names), image_size=self.image_size)
        own = network.state_dict()
        wrong = [key for key, value in own.items() if key not in self.state_dict]
        wrong += [key for key, value in self.state_dict.items() if key not in own or own[key].shape != value.shape]
        if wrong:
            raise WeightsError(
                f"{name!r}: {len(wrong)} tensors do not fit the network {spec.name!r} with {len(self.class_names)} "
                f"classes, the first is {wrong[0]!r}; {closest_text(self.state_dict)}"
            )
        state = {key: value.to(own[key].dtype, copy=True) for key, value in self.state_dict.items()}
        network.load_state_dict(state, assign=True)
        return network.eval()


def read_checkpoint(path: str | os.PathLike[str]) -> ModelBundle:
    """Read the model out of one of our checkpoints.

    Raises:
        WeightsError: not there, damaged, not one of ours, or with objects that are not plain data.
    """
    content = read_weight_file(path)
    if not isinstance(content.get(BUNDLE_KEY), Mapping):
        raise WeightsError(
            f"{str(path)!r} holds no model of ours (no entry {BUNDLE_KEY!r}); it holds "
            f"{', '.join(map(repr, list(content)[:4])) or 'nothing'}. If these are plain weights, load them with "
            "load_model(path, model=<name>)"
        )
    return ModelBundle.from_dict(content[BUNDLE_KEY], name=str(path))
