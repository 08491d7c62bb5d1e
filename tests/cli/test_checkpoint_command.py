"""``yolo checkpoint``: looking into files of weights, converting and stripping them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from yolo.core import Predictor, load_model
from yolo.core.models import build_model, parse_spec
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle, read_checkpoint

Run = Callable[..., Any]
NAMES = ("RBC", "WBC", "Platelets")
POCKET = {
    "name": "pocket",
    "backbone": [
        {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
        {"AConv": {"args": {"out_channels": 8}}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"]}}],
    "auxiliary": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"]}}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``best.ckpt`` as earlier versions wrote it: no versions, no fingerprints."""
    torch.manual_seed(0)
    network = build_model(parse_spec(POCKET), 3)
    extra = {"weights": "ema", "epoch": 9, "metrics": {"val/mAP": 0.42}, "data": {"root": "blood"}, "model": {"x": 1}}
    bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), NAMES, (96, 64), extra=extra)
    raw = {f"model.{key}": torch.zeros_like(value) for key, value in network.state_dict().items()}
    content = {"epoch": 9, "state_dict": raw, "loops": {}, "optimizer_states": [], BUNDLE_KEY: bundle.to_dict()}
    torch.save(content, tmp_path / "best.ckpt")
    (tmp_path / "pocket.yaml").write_text(json.dumps(POCKET))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(text: str) -> dict[str, str]:
    rows = (line.split("  ", 1) for line in text.splitlines()[1:])
    return {name.strip(): value.strip() for name, value in rows}


def test_a_checkpoint_of_an_earlier_version(yolo: Run, folder: Path):
    result = yolo("checkpoint", "show", "best.ckpt")
    assert result.code == 0 and result.err == ""
    found = table(result.out)
    assert found["File"].startswith("best.ckpt, 1.") and "can be resumed" in found["Kind"]
    assert found["Network"] == "pocket, with the auxiliary branch" and found["Classes"] == "3: RBC, WBC, Platelets"
    assert found["Image size"] == "96x64" and "average (EMA)" in found["Weights"] and "all finite" in found["Weights"]
    assert found["Training"] == "after epoch 10; mAP 0.420" and "for inference" in found["Parameters"]
    assert found["Versions"] == found["Data"] == "not recorded: the file is from an earlier version"
    assert found["Also inside"] == "epoch, state_dict, loops, optimizer_states"
    plain = json.loads(yolo("checkpoint", "show", "best.ckpt", "--json").out)
    assert plain["network"] == "pocket" and plain["resumable"] and plain["model"]["class_names"] == list(NAMES)
    assert plain["parameters"]["all"] > plain["parameters"]["inference"] > 0
    assert yaml.safe_load(yolo("checkpoint", "show", "best.ckpt", "--config").out)["data"] == {"root": "blood"}


def test_every_kind_of_file_is_described(yolo: Run, folder: Path):
    assert yolo("checkpoint", "convert", "best.ckpt", "-o", "new.safetensors").code == 0
    assert yolo("checkpoint", "convert", "best.ckpt", "-o", "new.pt").code == 0
    whole = table(yolo("checkpoint", "show", "new.safetensors").out)
    assert whole["Kind"] == "safetensors, with its network" and whole["Classes"].endswith("Platelets")
    unknown = yolo("checkpoint", "show", "new.pt")
    assert unknown.code == 0 and table(unknown.out)["Network"].startswith("not known: the network cannot be recognised")
    assert "average" not in table(unknown.out)["Weights"]
    named = table(yolo("checkpoint", "show", "new.pt", "--model", "pocket.yaml").out)
    assert named["Kind"] == "plain weights by name" and named["Network"].startswith("pocket")
    assert named["Classes"] == "3, their names are not in the file"
    assert named["Image size"] == "640x640, as the file does not say"
    nothing = yolo("checkpoint", "show", "new.pt", "--model", "pocket.yaml", "--config")
    assert nothing.code == 2 and "holds no configuration" in nothing.err


def test_an_official_file(yolo: Run, folder: Path):
    """Names of the official code, as a dictionary of half-precision tensors; gelan-t is v9-t without its branch."""
    from yolo.core.weights.official import to_official

    state = to_official(build_model("gelan-t", 80).half().state_dict(), "gelan-t")
    torch.save(state, "gelan-t.pt")
    found = table(yolo("checkpoint", "show", "gelan-t.pt").out)
    assert found["Kind"] == "checkpoint of the official code" and found["Network"] == "v9-t, no auxiliary branch"
    assert "COCO" in found["Classes"] and "and 68 more" in found["Classes"] and "float32" in found["Weights"]
    assert yolo("checkpoint", "convert", "gelan-t.pt", "-o", "ours.ckpt").code == 0
    assert read_checkpoint("ours.ckpt").class_names[0] == "person"


def test_converting(yolo: Run, folder: Path):
    result = yolo("checkpoint", "convert", "best.ckpt", "--output", "new/small.safetensors", "--fuse")
    assert result.code == 0 and result.out.startswith("new/small.safetensors  0.")
    assert "pocket, 3 classes, 96x64" in result.out
    assert "probabilities on a test picture change by at most" in result.err
    assert "fused" in table(yolo("checkpoint", "show", "new/small.safetensors").out)["Network"]
    assert yolo("checkpoint", "convert", "best.ckpt", "-o", "raw.pt", "--raw").code == 0
    assert not torch.load("raw.pt", weights_only=True)["0.conv.weight"].any()
    again = yolo("checkpoint", "convert", "best.ckpt", "-o", "raw.pt")
    assert again.code == 2 and "--force" in again.err and not torch.load("raw.pt")["0.conv.weight"].any()
    assert yolo("checkpoint", "convert", "best.ckpt", "-o", "raw.pt", "--force").code == 0
    assert torch.load("raw.pt", weights_only=True)["0.conv.weight"].any()


def test_stripping(yolo: Run, folder: Path):
    result = yolo("checkpoint", "strip", "best.ckpt", "-o", "small.ckpt")
    assert result.code == 0 and Path("small.ckpt").stat().st_size < Path("best.ckpt").stat().st_size
    found = table(yolo("checkpoint", "show", "small.ckpt").out)
    assert found["Network"] == "pocket, no auxiliary branch" and "without the state of a training" in found["Kind"]
    assert "Also inside" not in found and found["Training"] == "after epoch 10; mAP 0.420"
    other = yolo("checkpoint", "strip", "best.ckpt", "-o", "small.pt")
    assert other.code == 2 and "yolo checkpoint convert" in other.err


@pytest.mark.parametrize("command", [("show",), ("strip", "-o", "new.ckpt"), ("convert", "-o", "new.pt")])
def test_what_is_no_file_of_weights(yolo: Run, folder: Path, command: tuple[str, ...]):
    Path("page.pt").write_bytes(b"<html>not found</html>")
    for name, words in (("page.pt", "web page"), ("gone.pt", "does not exist"), (".", "folder")):
        result = yolo("checkpoint", command[0], name, *command[1:])
        assert result.code == 1 and len(result.err.splitlines()) == 1 and words in result.err
    assert not Path("new.ckpt").exists() and not Path("new.pt").exists()


@pytest.mark.parametrize(
    "extra", [{"epoch": "x"}, {"metrics": {"mAP": "x"}}, {"dataset": 5}, {"dataset": {"train": {}}}]
)
def test_odd_notes_of_a_training_are_no_crash(yolo: Run, folder: Path, extra: dict[str, object]):
    content = torch.load("best.ckpt", weights_only=True)
    content[BUNDLE_KEY]["extra"] = extra
    torch.save(content, "odd.ckpt")
    result = yolo("checkpoint", "show", "odd.ckpt")
    assert result.code == 0 or (result.code == 1 and "damaged, or no model of ours" in result.err)


def test_numbers_that_are_none_are_told(yolo: Run, folder: Path):
    bundle = read_checkpoint("best.ckpt")
    bundle.state_dict["0.conv.weight"].fill_(float("nan"))
    torch.save({BUNDLE_KEY: bundle.to_dict()}, "nan.ckpt")
    result = yolo("checkpoint", "show", "nan.ckpt")
    assert result.code == 0 and "NaN or infinity in 1 of them" in result.out
    assert result.err.startswith("Warning: 'nan.ckpt'") and "UserWarning" not in result.err
    plain = json.loads(yolo("checkpoint", "show", "nan.ckpt", "--json").out)
    assert plain["finite"] is False
    fused = yolo("checkpoint", "convert", "nan.ckpt", "-o", "fused.ckpt", "--fuse")
    assert fused.code == 1 and "would predict something else once fused" in fused.err.splitlines()[-1]


def test_one_file_of_a_training_is_enough(yolo: Run, trained_run: Path, tmp_path: Path):
    """All that another machine needs is in the checkpoint, also in the stripped one, and shown."""
    best = tmp_path / "best.ckpt"
    shutil.copy(trained_run / "checkpoints/best.ckpt", best)
    extra = read_checkpoint(best).extra
    assert {"python", "torch", "lightning", "yolo-core", "yolo-data", "yolo-train"} <= extra["versions"].keys()
    assert extra["preprocess"]["resize"] == "letterbox" and extra["preprocess"]["color"] == "RGB"
    assert extra["dataset"]["train"]["images"] == 16 and extra["dataset"]["val"]["images"] == 8
    assert len(extra["dataset"]["val"]["fingerprint"]) == 64 and extra["dataset"]["train"]["objects"] > 0
    config = yaml.safe_load(yolo("checkpoint", "show", str(best), "--config").out)
    assert config["trainer"]["max_epochs"] == 30 and config["model"]["model_config"] == "v9-t"
    assert yolo("checkpoint", "strip", str(best), "-o", str(tmp_path / "small.ckpt")).code == 0
    found = table(yolo("checkpoint", "show", str(tmp_path / "small.ckpt")).out)
    assert found["Data, train"].startswith("16 images, ") and "torch 2" in found["Versions"]
    picture = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        one, two = (load_model(tmp_path / name)(picture).main for name in ("best.ckpt", "small.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip((*one.cls, *one.dist), (*two.cls, *two.dist), strict=True))
    assert Predictor(tmp_path / "small.ckpt").class_names == Predictor(best).class_names


def test_a_fingerprint_is_of_the_content_not_the_place(trained_run: Path, synthetic_data: Path, tmp_path: Path):
    from yolo.training.datamodule import YOLODataModule

    shutil.copytree(synthetic_data, tmp_path / "elsewhere")
    extra = read_checkpoint(trained_run / "checkpoints/best.ckpt").extra
    stored = {split: facts["fingerprint"] for split, facts in extra["dataset"].items()}
    moved = YOLODataModule(root=str(tmp_path / "elsewhere"), image_size=96)
    assert {split: moved.labels(split).fingerprint() for split in ("train", "val")} == stored


def test_everything_in_a_checkpoint_is_plain(trained_run: Path):
    """Whatever a setting is, it is stored so that weights_only reads it."""
    from dataclasses import dataclass, field

    from yolo.training.checkpoint import _plain

    @dataclass
    class Inner:
        path: Path = Path("a")
        pair: tuple[int, float] = (1, 0.5)

    @dataclass
    class Outer:
        inner: Inner = field(default_factory=Inner)
        more: dict[str, Any] = field(default_factory=lambda: {"list": [Inner()], 3: None})

    plain = {"path": "a", "pair": [1, 0.5]}
    assert _plain(Outer()) == {"inner": plain, "more": {"list": [plain], "3": None}}
    extra = torch.load(trained_run / "checkpoints/best.ckpt", weights_only=True)[BUNDLE_KEY]["extra"]
    assert json.loads(json.dumps(extra)) == extra
