"""The self-contained model inside a checkpoint: enough to predict, validate and export on another machine.

A ``.ckpt`` file is a dictionary whose entry ``"yolo"`` is :meth:`ModelBundle.to_dict`, beside what Lightning stores.
Plain data and tensors only, so that it loads with ``weights_only=True``. A ``.safetensors`` file of ours has the same
entry without the tensors as JSON in its metadata. See ``docs/reference/checkpoint.md``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from yolo.core.models.build import build_model
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.models.spec import ModelSpec, parse_spec
from yolo.core.weights.file import WeightsError, untrusted
from yolo.core.weights.identify import is_fused
from yolo.core.weights.read import BUNDLE_KEY, read_content, state_dict_of
from yolo.core.weights.transfer import closest_text

__all__ = ["BUNDLE_KEY", "ModelBundle", "read_checkpoint", "stored_bundle"]

FORMAT = 1
_LIST = (list, tuple)
_LARGEST_SIDE = 1 << 14  # pixels


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
        extra: anything else that is plain data. A training stores ``weights`` (``"ema"`` or ``"raw"``), ``epoch``,
            ``metrics``, ``versions``, ``preprocess``, ``dataset`` (a fingerprint per split), and its settings ``data``,
            ``model`` and ``config``.
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

    @property
    def fused(self) -> bool:
        """Whether the weights are those of :func:`yolo.core.models.fuse.fuse`."""
        return is_fused(self.state_dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data and tensors, to be stored below :data:`BUNDLE_KEY`."""
        return {**self.header(), "state_dict": self.state_dict}

    def header(self) -> dict[str, Any]:
        """Everything but the weights, as plain data."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
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
        data = {"extra": {}, **data}
        data["extra"] = data["extra"] or {}
        for key, kind in (("architecture", Mapping), ("class_names", _LIST), ("image_size", _LIST), ("extra", Mapping)):
            if not isinstance(data.get(key), kind):
                raise WeightsError(f"{name!r}: the entry '{BUNDLE_KEY}.{key}' is missing or damaged")
        size = tuple(data["image_size"])
        if len(size) != 2 or not all(type(side) is int and 0 < side <= _LARGEST_SIDE for side in size):
            raise WeightsError(f"{name!r}: the image size must be two whole numbers, (width, height)")
        if not all(isinstance(entry, str) for entry in data["class_names"]):
            raise WeightsError(f"{name!r}: the class names must be text")
        return cls(
            architecture=dict(data["architecture"]),
            state_dict=state_dict_of(data, name=name),
            class_names=tuple(data["class_names"]),
            image_size=(size[0], size[1]),
            class_width=data.get("class_width"),
            extra=dict(data["extra"]),
        )

    def build(self, *, name: str = "the checkpoint") -> Network:
        """Build the network in evaluation mode and load every weight.

        The auxiliary branch is left away when there are no weights for it, and a network of fused weights is fused.

        Raises:
            WeightsError: weights and architecture do not fit each other.
            SpecError: a mistake in the architecture.
        """
        with untrusted(name):
            return self._build(name)

    def _build(self, name: str) -> Network:
        spec = self.spec()
        training_only = tuple(f"{layer.index}." for layer in spec.layers if layer.auxiliary)
        if training_only and not any(key.startswith(training_only) for key in self.state_dict):
            spec = spec.without_auxiliary()
        with torch.device("meta"):  # no time for random weights, and no number taken from torch's generator
            network = build_model(spec, len(self.class_names), image_size=self.image_size)
        if self.fused:
            network = fuse(network)
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


def stored_bundle(path: str | os.PathLike[str]) -> ModelBundle | None:
    """Read the model that a file of ours carries with its weights; None where it holds weights alone.

    Raises:
        WeightsError: not there, damaged, or with objects that are not plain data.
    """
    return bundle_in(read_content(path), name=str(path))


def bundle_in(content: Mapping[str, Any], *, name: str) -> ModelBundle | None:
    """Take the model out of the content of a file, see :func:`yolo.core.weights.read.read_content`."""
    header = content.get(BUNDLE_KEY)
    return ModelBundle.from_dict(header, name=name) if isinstance(header, Mapping) else None


def read_checkpoint(path: str | os.PathLike[str]) -> ModelBundle:
    """Read the model out of one of our checkpoints.

    Raises:
        WeightsError: not there, damaged, not one of ours, or with objects that are not plain data.
    """
    content = read_content(path)
    bundle = bundle_in(content, name=str(path))
    if bundle is None:
        raise WeightsError(
            f"{str(path)!r} holds no model of ours (no entry {BUNDLE_KEY!r}); it holds "
            f"{', '.join(map(repr, list(content)[:4])) or 'nothing'}. If these are plain weights, load them with "
            "load_model(path, model=<name>)"
        )
    return bundle
