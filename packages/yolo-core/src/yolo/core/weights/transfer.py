"""Weights into a network: all that fits, class rows by name, and an account of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from yolo.core.models.network import Network
from yolo.core.weights.class_layers import ClassMatch, class_layer, match_classes, row_pairs
from yolo.core.weights.file import WeightsError
from yolo.core.weights.identify import closest_model, is_fused
from yolo.core.weights.load_report import LoadReport

__all__ = ["LoadReport", "auxiliary_prefixes", "closest_text", "load_weights"]


def load_weights(
    network: Network,
    state: Mapping[str, Tensor],
    *,
    minimum: float = 0.5,
    force: bool = False,
    source: str = "the weights",
    class_names: Sequence[str] | None = None,
    file_class_names: Sequence[str] | None = None,
    by_name: bool = True,
) -> LoadReport:
    """Copy what fits into a network, in place; tensors that do not fit keep their values.

    In the layers that end in classes, rows move with the class: where both sides know the names of their classes, each
    class of the network gets the row of the class of the same name, wherever that is in the file, and classes that are
    new keep their fresh rows. Without names, equal numbers of classes are copied in order, and others stay fresh. Rows
    of boxes and of objectness (heads with anchors) are copied in any case.

    Args:
        network: any mode; types of its tensors are kept.
        state: weights by name.
        minimum: share of the parameters to deploy (without the auxiliary branch) that must be found.
        force: load whatever fits, however little.
        source: what the weights are called in messages.
        class_names: of the network; names that are but numbers count as unknown.
        file_class_names: of the file.
        by_name: whether to move class rows by name; otherwise as if no names were known.

    Raises:
        WeightsError: fewer than ``minimum`` fit: these are the weights of another network; or they are fused, so that
            the values of equal names mean something else. Nothing was changed.
    """
    own = network.state_dict()
    if not force and _fused(own, state):
        raise WeightsError(
            f"{source!r} holds fused weights, without batch normalisation, which predict but cannot be trained; "
            "start from the file they were made from"
        )
    in_file = _classes_in_file(own, state, network.num_classes)
    match = None
    if in_file:
        names, file_names = (class_names, file_class_names) if by_name else (None, None)
        match = match_classes(names, file_names, num_classes=network.num_classes, in_file=in_file)
    rows = _moving_rows(own, state, match)
    loaded = {key for key, value in own.items() if key in state and state[key].shape == value.shape and key not in rows}
    loaded |= {key for key, (here, _) in rows.items() if len(here) == own[key].shape[_class_dim(key)]}
    report = LoadReport(
        loaded=tuple(key for key in own if key in loaded),
        reinitialised=tuple(key for key in own if key in state and key not in loaded),
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        carried=_carried(match, class_names),
        classes=match,
        auxiliary=auxiliary_prefixes(network),
    )
    if not force:
        _require_share(network, own, loaded, minimum, source, state)
    with torch.no_grad():
        for key in loaded - rows.keys():
            own[key].copy_(state[key])
        for key, (here, there) in rows.items():
            dim, device = _class_dim(key), own[key].device
            given = state[key].to(own[key]).index_select(dim, torch.tensor(there, dtype=torch.long, device=device))
            own[key].index_copy_(dim, torch.tensor(here, dtype=torch.long, device=device), given)
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


def _fused(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether the file has biases where the network has batch normalisation."""
    layers = [key.removesuffix("bn.running_mean") for key in own if key.endswith(".bn.running_mean")]
    return is_fused(state) and any(f"{layer}conv.bias" in state for layer in layers)


def _classes_in_file(own: Mapping[str, Tensor], state: Mapping[str, Tensor], num_classes: int) -> int:
    """Read the number of classes off the first class layer that both sides have; 0 when there is none."""
    for key, value in own.items():
        layer = class_layer(key)
        if layer is None or key not in state or state[key].dim() != value.dim():
            continue
        groups = layer.groups(value.shape[layer.dim], num_classes)
        found = layer.num_classes(state[key].shape[layer.dim], groups) if groups else 0
        if found:
            return found
    return 0


def _moving_rows(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], match: ClassMatch | None
) -> dict[str, tuple[list[int], list[int]]]:
    """The rows to copy, in the network and in the file, of every class layer that is in both."""
    moving = {}
    for key in own.keys() & state.keys() if match else ():
        layer = class_layer(key)
        pairs = row_pairs(layer, own[key], state[key], match) if layer and match else None
        if pairs is not None:
            moving[key] = pairs
    return moving


def _class_dim(key: str) -> int:
    layer = class_layer(key)
    assert layer is not None
    return layer.dim


def _carried(match: ClassMatch | None, names: Sequence[str] | None) -> tuple[str, ...]:
    if match is None or match.how != "name" or names is None:
        return ()
    return tuple(name for name, at in zip(names, match.sources, strict=True) if at is not None)


def _require_share(
    network: Network,
    own: Mapping[str, Tensor],
    loaded: set[str],
    minimum: float,
    source: str,
    state: Mapping[str, Tensor],
) -> None:
    auxiliary = auxiliary_prefixes(network)
    deployed = {key: value.numel() for key, value in own.items() if not key.startswith(auxiliary)}
    share = sum(size for key, size in deployed.items() if key in loaded) / max(sum(deployed.values()), 1)
    if share < minimum:
        raise WeightsError(
            f"only {share:.0%} of the parameters of {network.spec.name!r} are in {source!r}; {closest_text(state)}. "
            "Name that network, or another file, or force it (model.force_weights of a training)"
        )
