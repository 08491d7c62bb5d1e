"""What became of every tensor when weights were loaded into a network, as data and as a table to print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from yolo.core.weights.class_layers import ClassMatch, class_layer

_KINDS = ("loaded", "reinitialised", "missing", "unexpected")


@dataclass(frozen=True)
class LoadReport:
    """What :func:`yolo.core.weights.transfer.load_weights` did; names as in the network.

    Attributes:
        loaded: every value came from the file. In class layers that can be single rows of a larger tensor.
        reinitialised: in the file with another shape or other classes, so the network's own fresh values stay, except
            for the rows of carried classes.
        missing: not in the file, so the network's own values stay.
        unexpected: in the file, but not in the network.
        carried: names of the classes whose rows were carried over by name.
        classes: how the classes of both sides were matched; None when the file has no class layer of this network.
        auxiliary: beginnings of the names of tensors that only training needs.
    """

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    carried: tuple[str, ...] = ()
    classes: ClassMatch | None = None
    auxiliary: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network came from the file."""
        return not self.reinitialised and not self.missing

    def summary(self) -> str:
        """Return the four counts in one line."""
        counts = [(kind, len(getattr(self, kind))) for kind in _KINDS]
        return ", ".join(f"{n} {kind}" for kind, n in counts if n or kind == "loaded") + " tensors"

    def table(self, *, verbose: bool = False) -> str:
        """Return the counts as lines of text with a few words on each, in detail with the names.

        Args:
            verbose: name the tensors, and the classes; a layer all of whose tensors share a fate is named as one.
        """
        lines = []
        for kind in _KINDS:
            names = getattr(self, kind)
            label = "re-initialised" if kind == "reinitialised" else kind
            lines.append(f"  {label:<14} {len(names):>6} tensors  {self._note(kind)}".rstrip())
            if verbose:
                lines += [f"      {name}" for name in self._names(kind)]
        if self.classes is not None:
            lines.append(
                f"  {'class rows':<14} {self._kept_classes():>6} of {len(self.classes.sources)}  {self._how()}"
            )
            if verbose:
                lines += [f"      {name}" for name in self.carried]
        return "\n".join(lines)

    def _kept_classes(self) -> int:
        return sum(source is not None for source in self.classes.sources) if self.classes else 0

    def _how(self) -> str:
        assert self.classes is not None
        if self.classes.how == "order":
            return "taken over in order"
        if self.classes.how == "name":
            return f"carried over by name from {self.classes.in_file} in the file"
        return f"fresh: {self.classes.in_file} classes in the file, and not both sides have names"

    def _note(self, kind: str) -> str:
        names: tuple[str, ...] = getattr(self, kind)
        notes = []
        if kind == "reinitialised":
            layers = sum(class_layer(name) is not None for name in names)
            notes = [_part(layers, len(names), "class layers"), _part(len(names) - layers, len(names), "other shapes")]
        elif kind == "missing":
            apart = sum(name.startswith(self.auxiliary) for name in names)
            notes = [_part(apart, len(names), "in the auxiliary branch, which only training needs")]
        elif kind == "unexpected" and names:
            notes = ["not in this network"]
        return ", ".join(filter(None, notes))

    def _names(self, kind: str) -> Iterable[str]:
        """Name the tensors of one kind; whole layers as one."""
        here = getattr(self, kind)
        others = {_layer(name) for other in _KINDS if other != kind for name in getattr(self, other)}
        for layer, group in groupby(here, key=_layer):
            names = list(group)
            if layer in others or len(names) == 1:
                yield from names
            else:
                yield f"layer {layer}: all {len(names)} tensors"


def _layer(name: str) -> str:
    return name.split(".", 1)[0]


def _part(count: int, total: int, what: str) -> str:
    return "" if count == 0 else what if count == total else f"{count} {what}"
