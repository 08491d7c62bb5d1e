"""Weights by name: out of any accepted file, and into a network.

Names are the published ones without prefix, ``<layer index>.<attribute>...``, e.g. ``0.conv.weight``.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yolo.core.models.identify import closest_model
from yolo.core.models.weight_file import WeightsError, WeightsWarning, read_weight_file

if TYPE_CHECKING:
    from yolo.core.models.network import Network

#: The entry of a ``.ckpt`` file that holds :meth:`yolo.core.models.bundle.ModelBundle.to_dict`.
BUNDLE_KEY = "yolo"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("", "model.model.", "model.", "module.")
_LAYER_KEY = re.compile(r"\d+\.\S")


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_weights` did; names as in the network.

    Attributes:
        loaded: copied from the file.
        reinitialised: in the file with another shape, so the network's own fresh values stay.
        missing: not in the file, so the network's own values stay.
        unexpected: in the file, but not in the network.
    """

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network came from the file."""
        return not self.reinitialised and not self.missing

    def summary(self) -> str:
        """The four counts in one line."""
        counts = [f"{len(names)} {kind}" for kind, names in vars(self).items() if names or kind == "loaded"]
        return ", ".join(counts) + " tensors"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read weights by name from our ``.ckpt``, a plain ``.pt`` / ``.pth`` state dict, or ``.safetensors``.

    Returns:
        Tensors on the CPU, of the file's types, independent of the file.

    Raises:
        WeightsError: see :func:`yolo.core.models.weight_file.read_weight_file`; or there are no weights by layer index.
    """
    return state_dict_of(read_weight_file(path), name=str(path))


def state_dict_of(content: Mapping[str, Any], *, name: str) -> dict[str, Tensor]:
    """Find the weights in the content of a file; see :func:`read_state_dict`. ``name`` is for messages."""
    inner = content.get(BUNDLE_KEY)
    if isinstance(inner, Mapping):
        content = inner
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        state = {key: value.clone() for key, value in state.items() if _LAYER_KEY.match(key)}
        if state:
            _warn_if_not_finite(state, name)
            return state
    entries = ", ".join(repr(key) for key in list(content)[:4]) or "nothing"
    raise WeightsError(f"{name!r} holds no weights by layer index ('0.conv.weight' and so on); it holds {entries}")


def load_weights(
    network: Network, state: Mapping[str, Tensor], *, minimum: float = 0.5, source: str = "the weights"
) -> LoadReport:
    """Copy what fits into a network, in place; tensors that do not fit keep their values.

    Args:
        network: any mode; types of its tensors are kept.
        state: weights by name.
        minimum: share of the parameters to deploy (without the auxiliary branch) that must be found.
        source: what the weights are called in messages.

    Raises:
        WeightsError: fewer than ``minimum`` fit: these are the weights of another network. Nothing was changed.
    """
    own = network.state_dict()
    loaded = [key for key, value in own.items() if key in state and state[key].shape == value.shape]
    report = LoadReport(
        loaded=tuple(loaded),
        reinitialised=tuple(key for key, value in own.items() if key in state and state[key].shape != value.shape),
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
    )
    auxiliary = auxiliary_prefixes(network)
    deployed = {key: value.numel() for key, value in own.items() if not key.startswith(auxiliary)}
    share = sum(deployed.get(key, 0) for key in loaded) / max(sum(deployed.values()), 1)
    if share < minimum:
        raise WeightsError(
            f"only {share:.0%} of the parameters of {network.spec.name!r} are in {source!r}; {closest_text(state)}"
        )
    with torch.no_grad():
        for key in loaded:
            own[key].copy_(state[key])
    return report


def auxiliary_prefixes(network: Network) -> tuple[str, ...]:
    """Beginnings of the names of all tensors that only training needs."""
    return tuple(f"{layer.index}." for layer in network.spec.layers if layer.auxiliary)


def closest_text(state: Mapping[str, Tensor]) -> str:
    """Say which published network the names and shapes of some weights resemble."""
    match = closest_model(state)
    if match.share == 0:
        return "their names and shapes resemble no published network"
    agreement = "fit" if match.share == 1 else f"are nearest to ({match.share:.0%} agree)"
    return f"their names and shapes {agreement} {match.name!r}"


def _warn_if_not_finite(state: Mapping[str, Tensor], name: str) -> None:
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        text = f"{name!r}: {len(bad)} of {len(state)} tensors hold NaN or infinity, the first is {bad[0]!r}; "
        warnings.warn(
            text + "the training that wrote them diverged, or the file is damaged", WeightsWarning, stacklevel=3
        )
