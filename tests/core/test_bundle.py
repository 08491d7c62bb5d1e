"""The model inside a checkpoint: complete, plain, and checked when it is read."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from yolo.core import Predictor, load_model
from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.fuse import fuse
from yolo.core.models.spec import parse_spec
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle, read_checkpoint, stored_bundle
from yolo.core.weights.file import WeightsError, WeightsWarning
from yolo.core.weights.load import load_bundle

CUSTOM = {
    "name": "pocket",
    "backbone": [
        {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
        {"AConv": {"args": {"out_channels": 8}}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"], "tags": "Main"}}],
    "auxiliary": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"], "tags": "AUX"}}],
}
NAMES = ("red", "white", "plate let")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return build_model(parse_spec(CUSTOM, "pocket.yaml"), 3, image_size=(96, 64))


@pytest.fixture
def bundle(network):
    return ModelBundle(network.spec.to_dict(), network.state_dict(), NAMES, (96, 64), extra={"versions": {"core": "1"}})


def save(path, bundle, **changes):
    torch.save({"epoch": 4, "state_dict": {}, BUNDLE_KEY: {**bundle.to_dict(), **changes}}, path)
    return path


def test_a_custom_network_comes_back_whole(bundle, network, tmp_path):
    path = save(tmp_path / "best.ckpt", bundle)
    read = read_checkpoint(path)
    assert (read.class_names, read.image_size, read.extra) == (NAMES, (96, 64), {"versions": {"core": "1"}})
    assert read.spec() == network.spec and "pocket" in repr(read)
    built = load_model(path)
    assert built.spec == network.spec and not built.training
    assert all(torch.equal(a, b) for a, b in zip(built.state_dict().values(), bundle.state_dict.values(), strict=True))
    predictor = Predictor(path)
    assert predictor.class_names == NAMES and predictor.image_size == (96, 64)


def test_building_leaves_the_bundle_and_the_random_numbers_alone(bundle):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    built = bundle.build()
    assert torch.equal(torch.rand(3), expected)
    kept = bundle.state_dict["0.conv.weight"].clone()
    with torch.no_grad():
        built.get_parameter("0.conv.weight").zero_()
    assert torch.equal(bundle.state_dict["0.conv.weight"], kept)
    assert {p.requires_grad for n, p in built.named_parameters() if "anc2vec" in n} == {False}
    assert built.get_parameter("0.conv.weight").requires_grad


def test_the_auxiliary_branch_may_be_absent(bundle, network):
    drop = tuple(f"{layer.index}." for layer in network.spec.layers if layer.auxiliary)
    assert drop
    state = {key: value for key, value in bundle.state_dict.items() if not key.startswith(drop)}
    slim = ModelBundle(bundle.architecture, state, NAMES, (96, 64)).build()
    assert not slim.has_auxiliary and bundle.build().has_auxiliary


def test_the_class_width_of_the_file_is_kept():
    wide = build_model("v9-t", 3, class_width=128)
    bundle = ModelBundle(build_model("v9-t", 3).spec.to_dict(), wide.state_dict(), NAMES, class_width=128)
    assert bundle.build().get_parameter("22.heads.0.class_conv.0.conv.weight").shape[0] == 128


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "newer than this version"),
        ({"format": None}, "no format number"),
        ({"architecture": None}, r"yolo\.architecture"),
        ({"class_names": None}, r"yolo\.class_names"),
        ({"image_size": [640]}, "image size"),
        ({"state_dict": {}}, "no weights by layer index"),
        ({"class_names": ["a", "b"]}, "do not fit the network 'pocket' with 2 classes"),
    ],
)
def test_damaged_entries_are_named(bundle, tmp_path, changes, words):
    path = save(tmp_path / "odd.ckpt", bundle, **changes)
    with pytest.raises(WeightsError, match=rf"odd\.ckpt.*{words}"):
        load_model(path)


def test_fused_weights_build_a_fused_network(bundle, network):
    fused = fuse(network)
    small = ModelBundle(bundle.architecture, fused.state_dict(), NAMES, (96, 64))
    assert small.fused and not bundle.fused
    built = small.build()
    assert not built.training and not built.has_auxiliary
    assert all(torch.equal(a, b) for a, b in zip(built.state_dict().values(), fused.state_dict().values(), strict=True))
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(built(images).main.cls[0], fused(images).main.cls[0])


def test_a_safetensors_file_with_a_description_is_whole(bundle, tmp_path):
    path = tmp_path / "best.safetensors"
    tensors = {key: value.contiguous() for key, value in bundle.state_dict.items()}
    save_file(tensors, path, metadata={"yolo": json.dumps(bundle.header())})
    read = stored_bundle(path)
    assert read.header() == bundle.header() and read.spec() == bundle.spec()
    assert load_model(path).spec.name == "pocket" and read_checkpoint(path).class_names == NAMES
    save_file(tensors, path)
    assert stored_bundle(path) is None


def test_a_checkpoint_of_an_earlier_version_needs_no_extras(bundle, tmp_path):
    old = {key: value for key, value in bundle.to_dict().items() if key not in ("extra", "class_width")}
    torch.save({BUNDLE_KEY: old}, tmp_path / "old.ckpt")
    assert read_checkpoint(tmp_path / "old.ckpt").extra == {} and Predictor(tmp_path / "old.ckpt").class_names == NAMES


def test_a_wrong_tensor_is_named(bundle):
    state = {**bundle.state_dict, "0.conv.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"x\.ckpt.*1 tensors do not fit.*'0\.conv\.weight'"):
        ModelBundle(bundle.architecture, state, NAMES).build(name="x.ckpt")


def test_a_file_of_somebody_else_is_told_apart(tmp_path):
    torch.save({"state_dict": {"0.conv.weight": torch.ones(1)}, "epoch": 1}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=r"no model of ours.*'state_dict', 'epoch'"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_weights_that_are_not_numbers_warn(bundle, tmp_path):
    state = {
        key: value * float("nan") if value.is_floating_point() else value for key, value in bundle.state_dict.items()
    }
    path = save(tmp_path / "nan.ckpt", ModelBundle(bundle.architecture, state, NAMES, (96, 64)))
    with pytest.warns(WeightsWarning, match="NaN"):
        predictor = Predictor(path)
    assert len(predictor(torch.zeros(20, 30, 3, dtype=torch.uint8).numpy())[0]) == 0


def test_a_whole_checkpoint_takes_no_other_network(bundle, tmp_path):
    torch.save({BUNDLE_KEY: bundle.to_dict()}, tmp_path / "best.ckpt")
    own = load_bundle(tmp_path / "best.ckpt").architecture["name"]
    with pytest.raises(UsageError, match=rf"best\.ckpt' says itself that it is {own}, not v9-c: leave --model out"):
        load_bundle(tmp_path / "best.ckpt", model="v9-c")
    with pytest.raises(UsageError, match="nonsense"):
        load_bundle(tmp_path / "best.ckpt", model="nonsense")
