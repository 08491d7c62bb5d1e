"""What was published about the networks of the zoo, and where their weights are. This module imports no torch.

The figures are data, with their origin, in ``published.yaml`` beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

__all__ = ["Published", "catalogue", "published"]


@dataclass(frozen=True)
class Published:
    """A published network and its weights; ``None`` where something is not known for certain.

    Attributes:
        name: the name in the zoo.
        family: the series it belongs to.
        ap: COCO val2017 average precision at 640 pixels, averaged over IoU 0.5 to 0.95, percent.
        ap50: the same at IoU 0.5.
        ap75: the same at IoU 0.75.
        parameters: number of parameters of the fused network for inference with 80 classes.
        gflops: its floating point operations for one image of 640 x 640 pixels, in thousand millions.
        paper: where the network is described.
        url: address of the file of weights.
        file: name of that file.
        sha256: SHA-256 of that file, 64 hexadecimal digits.
        licence: SPDX name of the licence of the weights.
        source: the release that the weights belong to.
    """

    name: str
    family: str
    ap: float | None
    ap50: float | None
    ap75: float | None
    parameters: int
    gflops: float
    paper: str
    url: str | None
    file: str
    sha256: str | None
    licence: str | None
    source: str | None

    @property
    def parameters_m(self) -> float:
        """Parameters in millions."""
        return self.parameters / 1e6

    @property
    def licence_line(self) -> str:
        """One line for people who are about to use the weights."""
        origin = f" ({self.source})" if self.source else ""
        if self.licence is None:
            return f"Weights of {self.name}{origin}: their licence is not known, ask where you got the file"
        return f"Weights of {self.name}{origin}: licence {self.licence}, not that of this software"


def published(name: str) -> Published | None:
    """What is known about the network of that name in the zoo; ``None`` for any other name."""
    return _entries().get(name)


def catalogue() -> tuple[Published, ...]:
    """All published networks of the zoo, in its order."""
    return tuple(_entries().values())


@cache
def _entries() -> dict[str, Published]:
    text = files(__package__).joinpath("published.yaml").read_text(encoding="utf-8")
    return {name: Published(name=name, **facts) for name, facts in yaml.safe_load(text).items()}
