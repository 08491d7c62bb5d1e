"""The names of the published YOLOv9, GELAN and YOLOv7 files: tables, both directions, and which network it is."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from yolo.core import load_model
from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.spec import load_spec, zoo_names
from yolo.core.weights.file import WeightsError, WeightsWarning
from yolo.core.weights.official import (
    canonical_from_official,
    is_official,
    official_names,
    official_table,
    to_official,
)
from yolo.core.weights.official_names import layout, shapes
from yolo.core.weights.read import read_weights

DETECTORS = [f"{family}-{size}" for family in ("yolov9", "gelan") for size in "tsmce"] + ["yolov7"]


def golden(reference, name, what):
    return json.loads((reference / "official" / name / f"{what}.json").read_text())


def numbered(layout_):
    """Tensors of the given shapes, each with values of its own (views, so that large networks cost nothing)."""
    base = torch.arange(7.0e6)
    state = {}
    for position, (key, shape) in enumerate(layout_.items()):
        size = torch.Size(shape).numel()
        state[key] = (
            torch.arange(16.0).view(shape) if "anc2vec" in key else base[position : position + size].view(shape)
        )
    return state


def agree(loaded, network):
    expected = network.state_dict()
    return all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_every_network_of_the_family_has_a_table():
    assert set(official_names()) == set(DETECTORS)
    assert {layout(name).zoo for name in official_names()} <= set(zoo_names())
    with pytest.raises(UsageError, match=r"yolov9-x.*yolov9-[a-z]"):
        official_table("yolov9-x")


@pytest.mark.parametrize("name", DETECTORS)
def test_tables_equal_the_reference(reference, name):
    expected = {
        key: tuple(ours) if isinstance(ours, list) else (() if ours is None else (ours,))
        for key, ours in golden(reference, name, "key_map")["map"].items()
    }
    assert official_table(name) == expected


@pytest.mark.parametrize("name", DETECTORS)
def test_there_and_back(reference, name):
    entries = golden(reference, name, "state_dict")["entries"]
    zoo = layout(name).zoo
    ours = numbered(shapes(zoo))
    theirs = to_official(ours, name)
    expected = {key: tuple(shape) for key, shape, _ in entries}
    got = {key: tuple(value.shape) for key, value in theirs.items()}
    classes = (".cv3.", ".cv5.")  # the reference's tiny network has wider class branches than the published files
    tiny = zoo == "v9-t"
    assert got.keys() == expected.keys()
    assert all(got[key] == shape for key, shape in expected.items() if not (tiny and any(c in key for c in classes)))

    found, back = canonical_from_official(theirs)
    assert found == zoo
    targets = {key for keys in official_table(name).values() for key in keys}
    assert list(back) == [key for key in ours if key in targets]
    assert all(torch.equal(value, ours[key]) and value.shape == ours[key].shape for key, value in back.items())
    assert canonical_from_official({key.removeprefix("model."): value for key, value in theirs.items()})[0] == zoo


def test_a_missing_tensor_is_named():
    state = numbered(shapes("v9-t"))
    del state["0.conv.weight"]
    with pytest.raises(WeightsError, match=r"yolov9-t.*'0\.conv\.weight'"):
        to_official(state, "yolov9-t")


def test_our_own_names_are_not_taken_for_theirs():
    assert not any(is_official(dict.fromkeys(shapes(name))) for name in zoo_names())
    assert all(is_official(official_table(name)) for name in official_names())


def test_networks_differ_enough_to_be_told_apart():
    """Of two networks that are not the same without auxiliary branch, less than half agrees."""
    from yolo.core.weights.official import _share

    for name in official_names():
        state = to_official(numbered(shapes(layout(name).zoo)), name)
        shares = {other: _share(state, other) for other in official_names()}
        assert shares.pop(name) == 1
        others = {other: share for other, share in shares.items() if layout(other).zoo != layout(name).zoo}
        assert max(others.values()) < 0.5, (name, others)


@pytest.mark.parametrize(
    ("prefix", "suffix"), [("", ".pt"), ("model.", ".pt"), ("module.model.", ".pt"), ("model.", ".safetensors")]
)
def test_plain_files_with_their_names_load(tmp_path, prefix, suffix):
    torch.manual_seed(0)
    network = build_model("v9-t", num_classes=5).eval()
    theirs = to_official(network.state_dict(), "gelan-t")
    state = {key.replace("model.", prefix, 1): value.contiguous() for key, value in theirs.items()}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    weights = read_weights(path)
    assert (weights.model, weights.class_names) == ("v9-t", None)
    assert weights.kind == ("safetensors" if suffix == ".safetensors" else "official")
    loaded = load_model(path)
    assert loaded.num_classes == 5 and not loaded.has_auxiliary
    assert agree(loaded, network)


@pytest.mark.parametrize("width", [80, 128])
def test_both_widths_of_the_tiny_class_branches_load(tmp_path, width):
    network = build_model("v9-t", class_width=width)
    torch.save(to_official(network.state_dict(), "yolov9-t"), tmp_path / "t.pt")
    loaded = load_model(tmp_path / "t.pt")
    assert loaded.has_auxiliary
    assert loaded.state_dict()["22.heads.0.class_conv.0.conv.weight"].shape[0] == width
    assert agree(loaded, network)


def test_a_segmentation_network_is_refused_as_one(reference, tmp_path):
    entries = golden(reference, "yolov9-c-dseg", "state_dict")["entries"]
    state = {key: torch.zeros(()).expand(shape) for key, shape, _ in entries}
    with pytest.raises(WeightsError, match=r"'seg\.pt' holds a segmentation network.*yolov9-c-dseg.*only detectors"):
        canonical_from_official(state, name="seg.pt")


def test_another_network_of_that_code_is_refused_with_the_nearest(tmp_path):
    state = {f"model.{n}.cv{k}.conv.weight": torch.zeros(3, 3, 1, 1) for n in range(9) for k in (1, 2)}
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt.*none of its networks.*nearest is '\w+-?\w'.*%"):
        read_weights(tmp_path / "other.pt")
    torch.save({key.removeprefix("model."): value for key, value in state.items()}, tmp_path / "own.pt")
    assert "0.cv1.conv.weight" in read_weights(tmp_path / "own.pt").state  # a user's block may be called so


def test_tensors_that_our_network_does_not_have_are_kept_to_be_reported():
    state = to_official(numbered(shapes("v9-t")), "yolov9-t") | {"model.7.extra.weight": torch.zeros(2)}
    zoo, ours = canonical_from_official(state)
    assert zoo == "v9-t" and list(ours)[-1] == "model.7.extra.weight"


def test_deployed_yolov7_gets_implicit_vectors_that_change_nothing(tmp_path):
    torch.manual_seed(0)
    network = build_model("v7", num_classes=3)
    trained = to_official(network.state_dict(), "yolov7")
    merged = {key: value for key, value in trained.items() if ".ia." not in key and ".im." not in key}
    for scale in range(3):
        weight = trained[f"model.105.m.{scale}.weight"]
        ia, im = trained[f"model.105.ia.{scale}.implicit"], trained[f"model.105.im.{scale}.implicit"]
        bias = trained[f"model.105.m.{scale}.bias"] + (weight[:, :, 0, 0] @ ia.view(-1))
        merged[f"model.105.m.{scale}.bias"] = bias * im.view(-1)
        merged[f"model.105.m.{scale}.weight"] = weight * im.view(-1, 1, 1, 1)
    torch.save({"model": merged}, tmp_path / "yolov7.pt")
    deployed = load_model(tmp_path / "yolov7.pt")
    assert deployed.num_classes == 3
    assert deployed.state_dict()["105.heads.2.implicit_m.implicit"].shape == (1, 24, 1, 1)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected, got = network.eval()(images).main, deployed(images).main
    for a, b in zip(expected.cls + expected.dist, got.cls + got.dist, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_anchor_boxes_of_the_file_are_used(tmp_path):
    state = to_official(build_model("v7").state_dict(), "yolov7")
    torch.save(state, tmp_path / "published.pt")
    assert read_weights(tmp_path / "published.pt").architecture is None
    state["model.105.anchor_grid"] = state["model.105.anchor_grid"] * 2
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()}, tmp_path / "own.pt"
    )
    published = load_spec("v7").anchors
    loaded = load_model(tmp_path / "own.pt")
    assert loaded.spec.anchors == tuple(tuple((2 * w, 2 * h) for w, h in scale) for scale in published)


def test_not_a_number_is_a_warning_under_our_name(tmp_path):
    state = to_official(build_model("v9-t").state_dict(), "yolov9-t")
    state["model.29.cv4.0.2.bias"][3] = float("nan")
    torch.save({"model": state}, tmp_path / "nan.pt")
    with pytest.warns(WeightsWarning, match=r"nan\.pt.*1 of 1776 tensors.*'22\.heads\.0\.anchor_conv\.2\.bias'"):
        read_weights(tmp_path / "nan.pt")
