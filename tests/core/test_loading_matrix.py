"""Every published network in every kind of file: recognised, loaded tensor by tensor, and ready to predict."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from yolo.core import load_model
from yolo.core.models.build import build_model
from yolo.core.models.spec import zoo_names
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.weights.official import official_names, to_official
from yolo.core.weights.official_names import layout

KINDS = ("state dict", "no auxiliary", "lightning", "half", "safetensors", "checkpoint", "official", "official half")
LARGE = pytest.mark.slow


def write(path, kind, network):
    state = network.state_dict()
    drop = tuple(f"{layer.index}." for layer in network.spec.layers if layer.auxiliary)
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    if kind == "no auxiliary":
        state = {key: value for key, value in state.items() if not key.startswith(drop)}
    elif kind == "half":
        state = half
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "checkpoint":
        bundle = ModelBundle(network.spec.to_dict(), state, tuple(map(str, range(80))))
        torch.save({BUNDLE_KEY: bundle.to_dict()}, path)
    elif kind == "lightning":
        torch.save({"epoch": 1, "state_dict": {f"model.model.{key}": value for key, value in state.items()}}, path)
    elif kind.startswith("official"):
        names = [name for name in official_names() if layout(name).zoo == network.spec.name]
        if not names:
            pytest.skip(f"{network.spec.name} has no official file of its own")
        torch.save({"model": to_official(half if kind.endswith("half") else state, names[0])}, path)
    else:
        torch.save(state, path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [n if n in ("v9-t", "gelan-t") else pytest.param(n, marks=LARGE) for n in zoo_names()])
def test_a_file_gives_its_network(name, kind, tmp_path):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    source = build_model(name)
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.ckpt" if kind == "checkpoint" else "w.pt")
    write(path, kind, source)
    network = load_model(path)
    path.unlink()
    assert network.spec.name in {name, name.replace("gelan", "v9")} and not network.training
    expected = {
        key: value.half().float() if "half" in kind and value.is_floating_point() else value
        for key, value in source.state_dict().items()
    }
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    with torch.inference_mode():
        output = network(torch.zeros(1, 3, 64, 64)).main
    assert all(bool(scale.isfinite().all()) for scale in output.cls + output.dist)
