"""Converted, stripped and fused files predict what their source predicts, and nothing is overwritten unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from yolo.core import Predictor, load_model
from yolo.core.decode import decode
from yolo.core.errors import UsageError
from yolo.core.models import build_model, parse_spec
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle, stored_bundle
from yolo.core.weights.convert import convert, raw_bundle
from yolo.core.weights.file import WeightsError, WeightsWarning
from yolo.core.weights.load import load_bundle

NAMES = ("red", "white", "plate let")
CUSTOM = {
    "name": "pocket",
    "backbone": [
        {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
        {"AConv": {"args": {"out_channels": 8}}},
        {"RepNCSPELAN": {"args": {"out_channels": 16, "part_channels": 16}}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"], "tags": "Main"}}],
    "auxiliary": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"], "tags": "AUX"}}],
}
KINDS = [".ckpt", ".safetensors", ".pt", ".pth"]


def make_network(seed: int) -> nn.Module:
    """Random weights and random statistics, so that every tensor matters, with scores on both sides of a half."""
    torch.manual_seed(seed)
    network = build_model(parse_spec(CUSTOM, "pocket.yaml"), len(NAMES))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bn.bias")):
                value.uniform_(-0.5, 0.5)
            elif name.endswith("class_conv.2.bias"):
                value.zero_()
    return network


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a training with averaged weights, other raw ones, and the state of an optimiser."""
    raw, average = make_network(1).state_dict(), make_network(2).state_dict()
    extra = {"weights": "ema", "epoch": 3, "metrics": {"val/mAP": 0.25}}
    bundle = ModelBundle(make_network(2).spec.to_dict(), average, NAMES, (160, 96), extra=extra)
    content = {
        "epoch": 3,
        "state_dict": {f"model.{key}": value for key, value in raw.items()},
        "loops": {},
        "optimizer_states": [{"momentum": torch.zeros(50_000)}],
        BUNDLE_KEY: bundle.to_dict(),
    }
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save(content, path)
    return path


@pytest.fixture
def picture(datasets: Path) -> Path:
    return sorted((datasets / "bccd/images/val").iterdir())[0]


def predict(path: Path, picture: Path):
    options = {"architecture": path.parent / "pocket.yaml", "image_size": (160, 96)}
    return Predictor(path, confidence=0.4, **(options if path.suffix in (".pt", ".pth") else {}))(picture)[0]


@pytest.fixture(autouse=True)
def pocket_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "pocket.yaml"
    path.write_text(json.dumps(CUSTOM))
    return path


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("options", [{}, {"strip": True}, {"fused": True}, {"fused": True, "strip": True}])
def test_predictions_stay_the_same(source: Path, tmp_path: Path, picture: Path, suffix: str, options: dict):
    target = tmp_path / f"new{suffix}"
    done = convert(source, target, **options)
    assert done.path == target and done.bytes_after == target.stat().st_size < done.bytes_before
    before, after = predict(source, picture), predict(target, picture)
    assert len(before) > 20 and np.array_equal(before.labels, after.labels)
    if options.get("fused"):
        assert np.allclose(before.boxes, after.boxes, atol=1e-4) and np.allclose(before.scores, after.scores, atol=1e-4)
        assert 0 < done.difference < 1e-4
    else:
        assert np.array_equal(before.boxes, after.boxes) and np.array_equal(before.scores, after.scores)
        assert done.difference == 0
    if suffix in (".ckpt", ".safetensors"):
        read = load_bundle(target)
        assert (read.class_names, read.image_size, read.spec()) == (NAMES, (160, 96), load_bundle(source).spec())
        assert read.extra["metrics"] == {"val/mAP": 0.25} and read.extra["preprocess"]["letterbox"]["fill"] == [114] * 3


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"strip": True}])
def test_raw_outputs_of_the_unfused_network(source: Path, tmp_path: Path, options: dict):
    """The predictor fuses whatever it gets; here the networks are compared as they are built."""
    convert(source, tmp_path / "new.ckpt", **options)
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        one, two = (decode(load_model(path)(images).main) for path in (source, tmp_path / "new.ckpt"))
    tolerance = 1e-4 if options.get("fused") else 0
    assert torch.allclose(one.scores, two.scores, rtol=0, atol=tolerance)
    assert torch.allclose(one.boxes, two.boxes, rtol=0, atol=tolerance)


def test_average_by_default_raw_on_request(source: Path, tmp_path: Path):
    stored = torch.load(source, weights_only=True)
    convert(source, tmp_path / "average.pt")
    convert(source, tmp_path / "raw.pt", raw=True)
    average, raw = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("average", "raw"))
    assert all(torch.equal(value, average[key]) for key, value in stored[BUNDLE_KEY]["state_dict"].items())
    assert all(torch.equal(stored["state_dict"][f"model.{key}"], value) for key, value in raw.items())
    assert average.keys() == raw.keys() and not torch.equal(average["0.conv.weight"], raw["0.conv.weight"])
    convert(source, tmp_path / "raw.ckpt", raw=True)
    assert load_bundle(tmp_path / "raw.ckpt").extra["weights"] == "raw"
    assert torch.equal(raw_bundle(tmp_path / "raw.ckpt").state_dict["0.conv.weight"], raw["0.conv.weight"])


def test_a_stripped_file_holds_nothing_but_the_model(source: Path, tmp_path: Path):
    convert(source, tmp_path / "small.ckpt", strip=True)
    content = torch.load(tmp_path / "small.ckpt", weights_only=True)
    assert set(content) == {BUNDLE_KEY}
    full = stored_bundle(source)
    auxiliary = {key for key in full.state_dict if key.startswith("7.")}
    assert auxiliary and content[BUNDLE_KEY]["state_dict"].keys() == full.state_dict.keys() - auxiliary
    assert not load_model(tmp_path / "small.ckpt").has_auxiliary
    with pytest.raises(WeightsError, match="averaged weights"):
        convert(tmp_path / "small.ckpt", tmp_path / "raw.pt", raw=True)


def test_a_safetensors_file_describes_itself_in_json(source: Path, tmp_path: Path):
    convert(source, tmp_path / "new.safetensors", fused=True)
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["yolo"])
    assert set(metadata) == {"yolo"} and "state_dict" not in described
    assert described["class_names"] == list(NAMES) and described["architecture"]["name"] == "pocket"
    again = convert(tmp_path / "new.safetensors", tmp_path / "again.safetensors", fused=True)
    assert again.difference == 0
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "new.safetensors").read_bytes()


def test_plain_weights_gain_a_network(source: Path, tmp_path: Path, pocket_yaml: Path):
    convert(source, tmp_path / "plain.pt")
    done = convert(tmp_path / "plain.pt", tmp_path / "whole.ckpt", model=pocket_yaml)
    assert done.bundle.class_names == ("0", "1", "2") and load_model(tmp_path / "whole.ckpt").spec.name == "pocket"
    with pytest.raises(WeightsError, match="one set of weights only"):
        convert(tmp_path / "plain.pt", tmp_path / "other.ckpt", raw=True)
    assert not (tmp_path / "other.ckpt").exists()


def test_types_and_bits_survive(source: Path, tmp_path: Path):
    half = make_network(1).half().state_dict()
    torch.save(half, tmp_path / "half.pt")
    convert(tmp_path / "half.pt", tmp_path / "half.safetensors", model=tmp_path / "pocket.yaml")
    read = safetensors.torch.load_file(tmp_path / "half.safetensors")
    assert all(value.dtype == half[key].dtype and torch.equal(value, half[key]) for key, value in read.items())


def test_nothing_is_overwritten_unless_forced(source: Path, tmp_path: Path):
    target = tmp_path / "new.pt"
    target.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"new\.pt' exists already.*--force"):
        convert(source, target)
    assert target.read_bytes() == b"precious"
    convert(source, target, force=True)
    assert torch.load(target, weights_only=True)
    copy = tmp_path / "last.ckpt"
    copy.write_bytes(source.read_bytes())
    convert(copy, copy, strip=True, force=True)  # in its own place
    assert set(torch.load(copy, weights_only=True)) == {BUNDLE_KEY}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "new.pt", "pocket.yaml"]


def test_an_unknown_suffix(source: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"new\.onnx' must end with \.ckpt"):
        convert(source, tmp_path / "new.onnx")


def test_weights_that_are_not_numbers_convert_but_are_not_fused(source: Path, tmp_path: Path):
    bundle = stored_bundle(source)
    bundle.state_dict["0.bn.running_var"].fill_(float("nan"))
    torch.save({BUNDLE_KEY: bundle.to_dict()}, tmp_path / "nan.ckpt")
    with pytest.warns(WeightsWarning, match="NaN"):
        convert(tmp_path / "nan.ckpt", tmp_path / "nan.pt")
    with pytest.warns(WeightsWarning), pytest.raises(WeightsError, match=r"nan\.ckpt.*nothing was written"):
        convert(tmp_path / "nan.ckpt", tmp_path / "fused.pt", fused=True)
    assert not (tmp_path / "fused.pt").exists()


def test_what_is_not_plain_data_never_reaches_the_disk(source: Path, tmp_path: Path, monkeypatch):
    """A file that could not be read again under weights_only is found out before it takes the place of another."""
    bundle = stored_bundle(source)
    bundle.extra["score"] = np.float64(0.5)  # a float that torch would pickle as numpy's
    monkeypatch.setattr("yolo.core.weights.convert.load_bundle", lambda *_, **__: bundle)
    convert(source, tmp_path / "good.ckpt")
    assert type(torch.load(tmp_path / "good.ckpt", weights_only=True)[BUNDLE_KEY]["extra"]["score"]) is float
    bundle.extra["where"] = Path("/somewhere")
    for suffix in (".ckpt", ".safetensors"):
        with pytest.raises(WeightsError, match="plain data"):
            convert(source, tmp_path / f"new{suffix}")
        assert not (tmp_path / f"new{suffix}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v9-t", "gelan-t", "rd-9c", "v7"])
def test_published_networks_fuse_into_files(name: str, tmp_path: Path):
    torch.manual_seed(0)
    torch.save(build_model(name, 80).state_dict(), tmp_path / "plain.pt")
    for suffix in (".ckpt", ".safetensors", ".pt"):
        convert(tmp_path / "plain.pt", tmp_path / f"fused{suffix}", fused=True, model=name)
        assert load_bundle(tmp_path / f"fused{suffix}", model=name if suffix == ".pt" else None).fused
