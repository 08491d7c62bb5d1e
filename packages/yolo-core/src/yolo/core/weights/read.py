"""Weights by name, out of any accepted file.

Names are the published ones without prefix, ``<layer index>.<attribute>...``, e.g. ``0.conv.weight``.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo.core.models.spec import load_spec
from yolo.core.weights.file import (
    WeightsError,
    WeightsWarning,
    is_safetensors,
    read_weight_file,
    safetensors_metadata,
    untrusted,
)
from yolo.core.weights.foreign import Inert, is_module, module_state
from yolo.core.weights.identify import class_branch
from yolo.core.weights.official import anchors_of, canonical_from_official, is_official

#: The entry of a ``.ckpt`` file that holds :meth:`yolo.core.weights.bundle.ModelBundle.to_dict`.
BUNDLE_KEY = "yolo"
_MODULES = ("ema", "model")  # entries that hold pickled networks, the better one first
_WRAPPERS = ("state_dict", "model_state_dict", "ema", "model")
_PREFIXES = ("", "model.model.", "model.", "module.", "module.model.")
_LAYER_KEY = re.compile(r"\d{1,6}\.\S")
_MOST_COPIES = 8  # of one stored number in the tensors of a file; tied weights are read as separate ones
Anchors = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights, and what their file says about the network they belong to.

    Attributes:
        state: tensors on the CPU by name (``"0.conv.weight"``), independent of the file, of the file's types; those of
            official half-precision files as float32.
        class_names: one per class, when the file says them.
        architecture: the layer list as :meth:`yolo.core.models.spec.ModelSpec.to_dict` gives it, when the file has it.
        model: published name of the network, when the names of the tensors tell it.
        kind: ``"checkpoint"`` (ours), ``"state dict"``, ``"official"`` or ``"safetensors"``.
    """

    state: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    architecture: dict[str, Any] | None
    model: str | None
    kind: str


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read weights by name from our ``.ckpt``, a state dict or official ``.pt`` / ``.pth``, or ``.safetensors``.

    Raises:
        WeightsError: see :func:`yolo.core.weights.file.read_weight_file`; or there are no weights by layer index.
    """
    content = read_content(path)
    weights = weights_of(content, name=str(path))
    return replace(weights, kind="safetensors") if is_safetensors(Path(path)) else weights


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of weights; a safetensors file that describes its network is brought into the form of a ``.ckpt``.

    Raises:
        WeightsError: see :func:`yolo.core.weights.file.read_weight_file`.
    """
    content = read_weight_file(path)
    described = safetensors_metadata(path) if is_safetensors(Path(path)) else {}
    return {BUNDLE_KEY: {**described, "state_dict": content}} if described else content


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Only the tensors of :func:`read_weights`."""
    return read_weights(path).state


def weights_of(content: Mapping[str, Any], *, name: str) -> Weights:
    """Find the weights in the content of a file; see :func:`read_weights`. ``name`` is for messages."""
    with untrusted(name):
        return _weights_of(content, name)


def _weights_of(content: Mapping[str, Any], name: str) -> Weights:
    inner = content.get(BUNDLE_KEY)
    ours = inner if isinstance(inner, Mapping) else content
    if "architecture" in ours:
        names, architecture = ours.get("class_names"), ours.get("architecture")
        return Weights(
            state=_finite(_by_layer(ours, name)[0], name),
            class_names=tuple(map(str, names)) if isinstance(names, (list, tuple)) else None,
            architecture=dict(architecture) if isinstance(architecture, Mapping) else None,
            model=None,
            kind="checkpoint",
        )
    module = next((ours[key] for key in _MODULES if is_module(ours.get(key))), None)
    state, prefix = _by_layer(ours if module is None else _tensors_of(module, name), name)
    try:
        renamed = canonical_from_official(state, name=name) if is_official(state) else None
    except WeightsError:
        if prefix:
            raise
        renamed = None  # a user's own blocks may be called alike, but without the prefix
    if renamed is None:
        return Weights(_finite(state, name), None, None, None, "state dict")
    model, canonical = renamed[0], {key: _full_precision(value) for key, value in renamed[1].items()}
    return Weights(
        state=_finite(canonical, name),
        class_names=_class_names(module, canonical),
        architecture=_with_anchors(model, anchors_of(state)),
        model=model,
        kind="official",
    )


def state_dict_of(content: Mapping[str, Any], *, name: str) -> dict[str, Tensor]:
    """Only the tensors of :func:`weights_of`."""
    return weights_of(content, name=name).state


def _by_layer(content: Mapping[str, Any], name: str) -> tuple[dict[str, Tensor], str]:
    """Copies of the tensors by layer index, and the prefix of the program that saved them, which is taken off."""
    wrapped = (content.get(wrapper) for wrapper in _WRAPPERS)
    inner = next((part for part in wrapped if isinstance(part, Mapping) and _has_tensors(part)), content)
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        state = {key: value for key, value in state.items() if _LAYER_KEY.match(key)}
        if state:
            _require_modest(state, name)
            return {key: value.clone() for key, value in state.items()}, prefix
    entries = ", ".join(repr(str(key)[:60]) for key in list(inner)[:4]) or "nothing"
    raise WeightsError(f"{name!r} holds no weights by layer index ('0.conv.weight' and so on); it holds {entries}")


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _tensors_of(module: Inert, name: str) -> dict[str, Tensor]:
    try:
        state = module_state(module)
    except ValueError as error:
        raise WeightsError(f"{name!r} is no model: {error}") from error
    if not any(_LAYER_KEY.search(key) for key in state):
        raise WeightsError(
            f"{name!r} holds a pickled {module.name!r}, which is no network of the published YOLO code; save its state "
            "dict (a dictionary of tensors) as .pt or .safetensors and use that"
        )
    return state


def _full_precision(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _class_names(module: Inert | None, state: Mapping[str, Tensor]) -> tuple[str, ...] | None:
    """The names that a pickled network has, unless they are numbers only, or are not one per class."""
    found = None if module is None else module.state.get("names")
    if isinstance(found, dict) and set(found) == set(range(len(found))):
        found = [found[number] for number in range(len(found))]
    if not isinstance(found, (list, tuple)) or not all(isinstance(entry, str) for entry in found):
        return None
    branch = class_branch(state)
    if branch is None or len(found) != branch.num_classes or all(entry.isdecimal() for entry in found):
        return None
    return tuple(found)


def _with_anchors(model: str, anchors: Anchors | None) -> dict[str, Any] | None:
    """The network with the anchor boxes of the file, where those are not the published ones."""
    spec = load_spec(model)
    if anchors is None or spec.anchors is None:
        return None
    found, published = torch.tensor(anchors), torch.tensor(spec.anchors)
    if found.shape == published.shape and torch.allclose(found, published):
        return None
    return replace(spec, anchors=anchors).to_dict()


def _require_modest(state: Mapping[str, Tensor], name: str) -> None:
    """Refuse tensors that are far more numbers in memory than the file has."""
    stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    asked = sum(value.numel() * value.element_size() for value in state.values())
    if asked > _MOST_COPIES * sum(stored.values()) + 2**20:
        raise WeightsError(f"{name!r} asks for {asked} bytes of tensors and holds {sum(stored.values())}")


def _finite(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    bad = [key for key, value in state.items() if value.is_floating_point() and not _all_finite(value)]
    if bad:
        text = f"{name!r}: {len(bad)} of {len(state)} tensors hold NaN or infinity, the first is {bad[0]!r}; "
        warnings.warn(
            text + "the training that wrote them diverged, or the file is damaged", WeightsWarning, stacklevel=4
        )
    return state


def _all_finite(value: Tensor) -> bool:
    return bool((value if value.element_size() > 1 else value.float()).isfinite().all())
