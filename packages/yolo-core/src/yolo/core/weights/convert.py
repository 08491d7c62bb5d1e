"""From a file of weights to another one: plain, smaller, or fused; nothing is written that does not predict the same.

=================  ==========================================================================================
suffix             content
=================  ==========================================================================================
``.ckpt``          the bundle of :mod:`yolo.core.weights.bundle`, nothing of the training
``.safetensors``   the weights by name, and the rest of the bundle as JSON in the metadata entry ``yolo``
``.pt``, ``.pth``  the weights by name and nothing else, for other programs
=================  ==========================================================================================
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from yolo.core.decode import decode
from yolo.core.errors import UsageError
from yolo.core.files import write_atomically
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.preprocessing import PREPROCESSING
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.weights.file import WeightsError, read_weight_file
from yolo.core.weights.load import load_bundle
from yolo.core.weights.read import state_dict_of

#: Suffixes that can be written.
SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
# Fusing rounds every weight once more; what a trained network then predicts moves far less than this.
_MOST_SCORE, _MOST_PIXELS = 1e-3, 0.1


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Attributes:
        path: the new file.
        bundle: the model in it.
        bytes_before: size of the source.
        bytes_after: size of the new file.
        difference: largest change of a probability on a test picture; 0 where the tensors are the same bits.
    """

    path: Path
    bundle: ModelBundle
    bytes_before: int
    bytes_after: int
    difference: float


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    fused: bool = False,
    raw: bool = False,
    strip: bool = False,
    model: str | Path | None = None,
    force: bool = False,
) -> Conversion:
    """Write the model of a file into another file.

    Args:
        source: any file of weights.
        target: its suffix decides what is written, see the module.
        fused: fold batch normalisation and merge branches: for inference only, the auxiliary branch goes.
        raw: of a checkpoint of a training, the weights that were trained instead of their average (EMA).
        strip: leave the auxiliary branch away, which only training needs.
        model: for plain weights, the network they belong to: a published name or a YAML file.
        force: replace an existing file.

    Raises:
        UsageError: another suffix, or the target exists.
        WeightsError: the source cannot be used, or the result would predict something else (then nothing is written).
    """
    path, origin = Path(target), Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {str(path)!r} must end with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.exists() and not force:
        raise UsageError(f"{str(path)!r} exists already; choose another --output, or replace it with --force")
    bundle = raw_bundle(origin) if raw else load_bundle(origin, model=model)
    bundle = replace(bundle, extra={"preprocess": PREPROCESSING, **bundle.extra})
    if strip:
        bundle = without_auxiliary(bundle)
    difference = 0.0
    if fused and not bundle.fused:
        network = bundle.build(name=str(origin))
        result = fuse(network)
        difference = _require_same(network, result, bundle.image_size, name=str(origin))
        bundle = replace(bundle, state_dict=result.state_dict())
    size = origin.stat().st_size
    data = to_bytes(bundle, path.suffix)
    _require_readable(data, bundle, path)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise WeightsError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    return Conversion(path, bundle, size, len(data), difference)


def raw_bundle(path: str | os.PathLike[str]) -> ModelBundle:
    """Read a checkpoint of a training with the weights that were trained, not their average.

    Raises:
        WeightsError: the file is not usable, or was stripped of them.
    """
    content = read_weight_file(path)
    if not isinstance(content.get(BUNDLE_KEY), Mapping):
        raise WeightsError(f"{str(path)!r} is no checkpoint of a training, so it has one set of weights only")
    bundle = ModelBundle.from_dict(content[BUNDLE_KEY], name=str(path))
    if bundle.extra.get("weights") == "raw":
        return bundle
    trained = content.get("state_dict")
    if not isinstance(trained, Mapping) or not trained:
        raise WeightsError(f"{str(path)!r} holds averaged weights (EMA) only; the raw ones were left away")
    state = state_dict_of({"state_dict": trained}, name=str(path))
    return replace(bundle, state_dict=state, extra={**bundle.extra, "weights": "raw"})


def without_auxiliary(bundle: ModelBundle) -> ModelBundle:
    """Leave away the weights that only training needs; the layer list stays whole."""
    drop = tuple(f"{layer.index}." for layer in bundle.spec().layers if layer.auxiliary)
    state = {key: value for key, value in bundle.state_dict.items() if not (drop and key.startswith(drop))}
    return replace(bundle, state_dict=state)


def to_bytes(bundle: ModelBundle, suffix: str) -> bytes:
    """The content of a file with that suffix, see the module.

    Raises:
        WeightsError: the bundle's ``extra`` holds something that is not plain data.
    """
    state = {key: value.contiguous() for key, value in bundle.state_dict.items()}
    try:
        header = json.dumps(bundle.header(), ensure_ascii=False)
    except TypeError as error:
        raise WeightsError(f"what is known about the model is not all plain data: {error}") from error
    if suffix.lower() == ".safetensors":
        return safetensors.torch.save(state, metadata={BUNDLE_KEY: header})
    content: dict[str, Any] = {BUNDLE_KEY: {**json.loads(header), "state_dict": state}}
    stream = io.BytesIO()
    torch.save(content if suffix.lower() == ".ckpt" else state, stream)
    return stream.getvalue()


@torch.inference_mode()
def _require_same(before: Network, after: Network, image_size: tuple[int, int], *, name: str) -> float:
    """Compare the predictions on one picture of noise; return the largest change of a probability."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, image_size[1], image_size[0], generator=generator)
    one, two = decode(before(images).main), decode(after(images).main)
    score, pixels = _largest(one.scores, two.scores), _largest(one.boxes, two.boxes)
    if not (score <= _MOST_SCORE and pixels <= _MOST_PIXELS):  # NaN is not small either
        raise WeightsError(
            f"{name!r} would predict something else once fused: scores differ by up to {score:.1g}, boxes by up to "
            f"{pixels:.1g} pixels; nothing was written. Are its weights finite numbers ('yolo checkpoint show')?"
        )
    return score


def _largest(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())


def _require_readable(data: bytes, bundle: ModelBundle, path: Path) -> None:
    """Read the new file back, as strictly as any other, and compare every tensor bit by bit."""
    if path.suffix.lower() == ".safetensors":
        state: Mapping[str, Tensor] = safetensors.torch.load(data)
    else:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        state = content[BUNDLE_KEY]["state_dict"] if path.suffix.lower() == ".ckpt" else content
    same = state.keys() == bundle.state_dict.keys() and all(
        value.dtype == state[key].dtype and torch.equal(_bits(value), _bits(state[key]))
        for key, value in bundle.state_dict.items()
    )
    if not same:
        raise WeightsError(f"{str(path)!r} would not hold the same weights; nothing was written")


def _bits(value: Tensor) -> Tensor:
    """As whole numbers, so that NaN equals itself."""
    flat = value.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8) if flat.numel() else flat
