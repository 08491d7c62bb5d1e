"""Weights into networks: all, some, or those of another network."""

from __future__ import annotations

import warnings

import pytest
import torch
import yaml

from yolo.core import load_model
from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.fuse import fuse
from yolo.core.models.spec import load_spec, zoo_names
from yolo.core.weights.coco import coco_names
from yolo.core.weights.file import WeightsError
from yolo.core.weights.identify import class_branch, closest_model
from yolo.core.weights.load import adopt_class_width, load_bundle
from yolo.core.weights.transfer import load_weights


@pytest.fixture(scope="module")
def tiny():
    """Fresh v9-t with the published width and 80 classes."""
    torch.manual_seed(0)
    return build_model("v9-t")


def without_auxiliary(network):
    drop = tuple(f"{layer.index}." for layer in network.spec.layers if layer.auxiliary)
    return {key: value for key, value in network.state_dict().items() if not key.startswith(drop)}


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_plain_weights_are_recognised(tiny, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(tiny.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(tiny.state_dict(), path)
    network = load_model(path)
    assert network.spec.name == "v9-t" and network.num_classes == 80 and not network.training
    assert equal(network.state_dict(), tiny.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected, got = tiny.eval()(images).main, network(images).main
    assert all(torch.equal(a, b) for a, b in zip(expected.cls + expected.dist, got.cls + got.dist, strict=True))


def test_weights_without_the_auxiliary_branch_load(tiny, tmp_path):
    torch.save(without_auxiliary(tiny), tmp_path / "converted.pt")
    network = load_model(tmp_path / "converted.pt")
    assert not network.has_auxiliary
    assert equal(network.state_dict(), without_auxiliary(tiny))


def test_half_precision_weights_become_float32(tiny, tmp_path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in tiny.state_dict().items()}, tmp_path / "h.pt")
    network = load_model(tmp_path / "h.pt")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert network.state_dict()["0.bn.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(("width", "classes"), [(128, 80), (64, 3), (128, 3)])
def test_the_class_width_of_v9_t_is_taken_from_the_file(tmp_path, width, classes):
    source = build_model(load_spec("v9-t").without_auxiliary(), classes, class_width=width)
    assert source.state_dict()["22.heads.0.class_conv.0.conv.weight"].shape[0] == width
    torch.save(source.state_dict(), tmp_path / "t.pt")
    network = load_model(tmp_path / "t.pt")
    assert network.num_classes == classes
    assert equal(network.state_dict(), source.state_dict())


def test_an_adopted_width_survives_another_number_of_classes(tiny):
    branch = class_branch(tiny.state_dict())
    assert branch is not None and (branch.num_classes, branch.width, branch.first) == (80, 80, 64)
    assert adopt_class_width(load_spec("v9-t"), branch) == load_spec("v9-t")
    three = build_model(adopt_class_width(load_spec("v9-t"), branch, num_classes=3), 3)
    report = load_weights(three, tiny.state_dict())
    assert len(report.reinitialised) == 12, "weight and bias of the last class layer of six heads, and nothing else"
    assert all(".class_conv.2." in key for key in report.reinitialised)
    assert not report.missing and not report.unexpected


def test_compatible_weights_load_and_the_rest_stays(tiny):
    network = build_model("v9-t", 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {**without_auxiliary(tiny), "99.extra.weight": torch.ones(1)}
    report = load_weights(network, state)
    after, source = network.state_dict(), tiny.state_dict()
    assert all(torch.equal(after[key], source[key]) for key in report.loaded)
    assert all(torch.equal(after[key], before[key]) for key in (*report.reinitialised, *report.missing))
    assert report.unexpected == ("99.extra.weight",) and report.missing and not report.complete
    assert report.summary().startswith(f"{len(report.loaded)} loaded, ")
    bias = "22.heads.0.class_conv.2.bias"
    assert bias in report.reinitialised


def test_trained_biases_are_not_initialised_again(tiny):
    state = tiny.state_dict()
    state = {key: value + 1 if key.endswith("class_conv.2.bias") else value for key, value in state.items()}
    network = build_model("v9-t")
    assert load_weights(network, state).complete
    assert equal(network.state_dict(), state)


def test_weights_of_another_network_are_refused_and_named(tiny, tmp_path):
    network = build_model("v9-s", 80)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"only \d+% of the parameters of 'v9-s' are in 't\.pt'.*fit 'v9-t'"):
        load_weights(network, tiny.state_dict(), source="t.pt")
    assert equal(network.state_dict(), before), "nothing was changed"
    torch.save(tiny.state_dict(), tmp_path / "t.pt")
    with pytest.raises(WeightsError, match=r"t\.pt.*do not fit the network 'v9-s'.*fit 'v9-t'"):
        load_model(tmp_path / "t.pt", model="v9-s")
    with pytest.raises(UsageError, match="v9-t"):
        load_bundle(tmp_path / "t.pt", model="v9-tt")


def test_weights_of_no_network_name_the_nearest(tiny, tmp_path):
    state = {key: value for key, value in tiny.state_dict().items() if not key.startswith(("4.", "6."))}
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(
        WeightsError, match=r"part\.pt.*cannot be recognised.*nearest to \(\d+% agree\) 'v9-t'.*--model"
    ):
        load_model(tmp_path / "part.pt")
    torch.save({"0.weight": torch.ones(3)}, tmp_path / "alien.pt")
    with pytest.raises(WeightsError, match=r"alien\.pt.*no detection head"):
        load_model(tmp_path / "alien.pt")


@pytest.mark.parametrize("name", zoo_names())
def test_every_published_network_recognises_itself(name):
    with torch.device("meta"):
        state = build_model(name, 7).state_dict()
    match = closest_model(state)
    assert (match.name, match.share) == (name.replace("gelan", "v9"), 1.0), (
        "of equal networks, the one that trains well"
    )


@pytest.mark.parametrize("name", ["v9-t", "v7"])
def test_fused_weights_are_recognised(name):
    with torch.device("meta"):
        state = fuse(build_model(name, 7)).state_dict()
    assert (closest_model(state).name, closest_model(state).share) == (name, 1.0)


def test_a_head_with_anchors_tells_its_classes():
    with torch.device("meta"):
        state = build_model("v7", 7).state_dict()
    branch = class_branch(state)
    assert branch is not None and (branch.num_classes, branch.width, branch.first) == (7, 0, 256)
    assert adopt_class_width(load_spec("v7"), branch, num_classes=3) == load_spec("v7")
    two = class_branch(
        {"5.heads.0.head_conv.weight": torch.zeros(14, 8, 1, 1), "5.heads.0.head_conv.bias": torch.zeros(14)}, anchors=2
    )
    assert two is not None and two.num_classes == 2
    assert (
        class_branch(
            {"5.heads.0.head_conv.weight": torch.zeros(14, 8, 1, 1), "5.heads.0.head_conv.bias": torch.zeros(14)}
        )
        is None
    )


def test_eighty_unnamed_classes_of_a_published_network_are_cocos(tiny, tmp_path, caplog):
    torch.save(without_auxiliary(tiny), tmp_path / "t.pt")
    with caplog.at_level("INFO", logger="yolo"):
        bundle = load_bundle(tmp_path / "t.pt")
    assert bundle.class_names == coco_names() and bundle.extra["class_names_known"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 't.pt'} names no classes; its 80 are taken to be COCO's"
    ]
    torch.save(build_model("v9-t", 7).state_dict(), tmp_path / "seven.pt")
    bundle = load_bundle(tmp_path / "seven.pt")
    assert bundle.class_names == tuple("0123456") and not bundle.extra["class_names_known"]


def test_eighty_classes_of_a_custom_network_are_anything(tmp_path):
    body = load_spec("gelan-t").to_dict()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**body, "name": "mine"}, sort_keys=False))
    torch.save(build_model(tmp_path / "mine.yaml").state_dict(), tmp_path / "m.pt")
    bundle = load_bundle(tmp_path / "m.pt", model=tmp_path / "mine.yaml")
    assert bundle.class_names[:2] == ("0", "1") and bundle.build().spec.name == "mine"


def test_a_name_gives_a_fresh_network():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load_model("v9-t")
    assert network.num_classes == 80 and not network.training
    with pytest.raises(WeightsError, match="does not exist"):
        load_model("v9-q")
