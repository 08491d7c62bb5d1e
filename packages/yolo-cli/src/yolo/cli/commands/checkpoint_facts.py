"""What ``yolo checkpoint show`` says about a file of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo.core.errors import UsageError
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.weights.file import WeightsError, read_weight_file
from yolo.core.weights.load import load_bundle
from yolo.core.weights.read import Weights, read_weights

from ..byte_bar import megabytes

_KINDS = {
    "checkpoint": "checkpoint of ours, without the state of a training",
    "state dict": "plain weights by name",
    "official": "checkpoint of the official code",
    "safetensors": "safetensors",
}
_RESUME = {"state_dict", "loops", "optimizer_states"}  # what a training needs to go on
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
_NOT_RECORDED = "not recorded: the file is from an earlier version"
_MOST_NAMES = 12


@dataclass(frozen=True, eq=False)
class FileFacts:
    """A file of weights, looked into.

    Attributes:
        path: the file.
        weights: what is in it.
        bundle: the model, where the network is known.
        problem: why it is not known.
        entries: names at the top of the file besides the model, for a checkpoint of a training.
    """

    path: Path
    weights: Weights
    bundle: ModelBundle | None
    problem: str
    entries: tuple[str, ...]

    @property
    def resumable(self) -> bool:
        """Whether a training can go on from the file."""
        return set(self.entries) >= _RESUME

    def rows(self) -> Iterable[tuple[str, str]]:
        """Cells of the table."""
        yield "File", f"{self.path}, {megabytes(self.path.stat().st_size)}"
        yield "Kind", self._kind()
        if self.bundle is None:
            yield "Network", f"not known: {self.problem}"
        else:
            yield "Network", self._network(self.bundle)
            yield "Classes", self._classes(self.bundle)
            width, height = self.bundle.image_size
            yield "Image size", f"{width}x{height}{'' if self._described else ', as the file does not say'}"
        yield "Weights", self._weights()
        yield "Parameters", self._parameters()
        if self.bundle is not None:
            yield from _training(self.bundle, trained=self.resumable)
        if self.entries:
            yield "Also inside", ", ".join(self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        everything, deployed = self._counts()
        model = None if self.bundle is None else self.bundle.header()
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "kind": self.weights.kind,
            "resumable": self.resumable,
            "network": None if self.bundle is None else self.bundle.spec().name,
            "model": model,
            "problem": self.problem or None,
            "tensors": len(self.weights.state),
            "dtypes": list(self._dtypes()),
            "finite": not self._not_finite(),
            "parameters": {"all": everything, "inference": deployed},
            "entries": list(self.entries),
        }

    def config(self) -> str:
        """The configuration of the training as YAML.

        Raises:
            UsageError: the file has none.
        """
        extra = {} if self.bundle is None else self.bundle.extra
        if isinstance(extra.get("config"), str):
            return str(extra["config"])
        parts = {key: extra[key] for key in ("data", "model") if isinstance(extra.get(key), Mapping)}
        if not parts:
            raise UsageError(f"{str(self.path)!r} holds no configuration; only a training writes it")
        return yaml.safe_dump(parts, sort_keys=False, allow_unicode=True)

    def _kind(self) -> str:
        if self.resumable:
            return "checkpoint of a training, which can be resumed from it"
        text = _KINDS.get(self.weights.kind, self.weights.kind)
        if self.weights.kind == "safetensors":
            return f"{text}, with its network" if self._described else f"{text}, plain weights by name"
        return text

    @property
    def _described(self) -> bool:
        """Whether the file itself says what network it belongs to, and how it was trained."""
        ours = self.weights.kind in ("checkpoint", "safetensors")
        return ours and self.weights.architecture is not None

    def _network(self, bundle: ModelBundle) -> str:
        branch = "no auxiliary branch" if not self._auxiliary() else "with the auxiliary branch"
        return f"{bundle.spec().name}, {'fused, for inference only' if bundle.fused else branch}"

    def _classes(self, bundle: ModelBundle) -> str:
        names = bundle.class_names
        if bundle.extra.get("class_names_known") is False:
            return f"{len(names)}, their names are not in the file"
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        guess = "" if self.weights.class_names else " (taken to be COCO's, as the file does not say)"
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:_MOST_NAMES])
        return f"{len(names)}: {shown}{more}{guess}"

    def _weights(self) -> str:
        bad = self._not_finite()
        state = f"NaN or infinity in {bad} of them" if bad else "all finite"
        origin = {"ema": "average (EMA), ", "raw": "as trained, "}.get(self._extra("weights"), "")
        return f"{origin}{len(self.weights.state)} tensors of {', '.join(self._dtypes())}, {state}"

    def _parameters(self) -> str:
        everything, deployed = self._counts()
        return f"{everything:,}" + (f", {deployed:,} of them for inference" if deployed != everything else "")

    def _counts(self) -> tuple[int, int]:
        auxiliary = self._auxiliary()
        sizes = {key: value.numel() for key, value in self.weights.state.items() if not key.endswith(_STATISTICS)}
        return sum(sizes.values()), sum(size for key, size in sizes.items() if key not in auxiliary)

    def _auxiliary(self) -> set[str]:
        layers = () if self.bundle is None else self.bundle.spec().layers
        prefixes = tuple(f"{layer.index}." for layer in layers if layer.auxiliary)
        return {key for key in self.weights.state if prefixes and key.startswith(prefixes)}

    def _dtypes(self) -> tuple[str, ...]:
        kinds = (str(value.dtype).removeprefix("torch.") for value in self.weights.state.values() if value.ndim)
        return tuple(dict.fromkeys(kinds))

    def _not_finite(self) -> int:
        state = self.weights.state.values()
        return sum(value.is_floating_point() and not bool(value.isfinite().all()) for value in state)

    def _extra(self, key: str) -> Any:
        return None if self.bundle is None else self.bundle.extra.get(key)


def read_facts(path: Path, *, model: str | None = None) -> FileFacts:
    """Look into a file of weights.

    Args:
        path: the file.
        model: for plain weights, the network they belong to.

    Raises:
        UsageError: an unknown ``model``.
        WeightsError: the file is not there or not usable.
    """
    weights = read_weights(path)
    bundle, problem = None, ""
    try:
        bundle = load_bundle(path, model=model)
    except WeightsError as error:
        problem = str(error).removeprefix(f"{str(path)!r}").lstrip(": ")
    entries: tuple[str, ...] = ()
    if weights.kind == "checkpoint":
        entries = tuple(key for key in read_weight_file(path) if key != BUNDLE_KEY)
    return FileFacts(path, weights, bundle, problem, entries)


def _training(bundle: ModelBundle, *, trained: bool) -> Iterable[tuple[str, str]]:
    extra = bundle.extra
    if "epoch" in extra:
        metrics = extra.get("metrics") or {}
        figures = ", ".join(f"{key.removeprefix('val/')} {value:.3f}" for key, value in metrics.items())
        yield "Training", f"after epoch {extra['epoch'] + 1}; {figures or 'not validated in that epoch'}"
    for split, facts in (extra.get("dataset") or {}).items():
        size = f"{facts['images']:,} images, {facts['objects']:,} objects"
        yield f"Data, {split}", f"{size}, fingerprint {facts['fingerprint'][:16]}"
    if trained and "dataset" not in extra:
        yield "Data", _NOT_RECORDED
    versions = extra.get("versions")
    if isinstance(versions, Mapping):
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    elif trained:
        yield "Versions", _NOT_RECORDED
