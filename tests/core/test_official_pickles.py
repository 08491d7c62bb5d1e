"""Published checkpoints as their authors pickled them: whole modules of code that is not here."""

from __future__ import annotations

import copy
import datetime
import importlib
import json
import sys
import types
import zlib
from argparse import Namespace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo.core import load_model
from yolo.core.decode import decode
from yolo.core.models.spec import load_spec
from yolo.core.weights.file import WeightsError, read_weight_file
from yolo.core.weights.foreign import Inert, is_module
from yolo.core.weights.load import load_bundle
from yolo.core.weights.official import to_official
from yolo.core.weights.official_names import layout
from yolo.core.weights.read import read_weights

NAMES = [f"thing {number}" for number in range(80)]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "anchors", "anchor_grid")


@pytest.fixture
def code(monkeypatch):
    """The modules ``models.yolo`` and ``models.common``, as they exist where the files were written."""
    made = {name: types.ModuleType(name) for name in ("models", "models.yolo", "models.common")}
    classes = {"DetectionModel": "models.yolo", "DualDDetect": "models.yolo", "Conv": "models.common"}
    code = types.SimpleNamespace()
    for name, module in classes.items():
        made_class = type(name, (nn.Module,), {"__module__": module})
        setattr(made[module], name, made_class)
        setattr(code, name, made_class)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    code.forget = lambda: [monkeypatch.delitem(sys.modules, name) for name in made]
    return code


def pickled_module(code, state, *, names=NAMES):
    """A module of the foreign classes with exactly this state dict."""
    tree: dict = {}
    for key, value in state.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    model = code.DetectionModel()
    fill(code, model, tree)
    model.names, model.nc, model.inplace = names, len(names), True
    model.stride = torch.tensor([8.0, 16.0, 32.0])
    model.yaml = {"nc": len(names), "backbone": [[-1, 1, "Conv", [64, 3, 2]]]}
    return model


def fill(code, module, tree):
    for name, value in tree.items():
        if isinstance(value, dict):
            module.add_module(name, fill(code, kind_of(code, value), value))
        elif name in BUFFERS:
            module.register_buffer(name, value)
        else:
            module.register_parameter(name, nn.Parameter(value))
    return module


def kind_of(code, tree):
    if "running_mean" in tree:
        return nn.BatchNorm2d(1)
    if "weight" in tree:
        return nn.Conv2d(1, 1, 1, bias="bias" in tree)
    if all(name.isdigit() for name in tree):
        return nn.Sequential()
    return code.DualDDetect() if "dfl" in tree or "cv5" in tree else code.Conv()


def official_checkpoint(model, *, ema=None, optimiser=True):
    """What the published training code saves beside the model."""
    trained = [nn.Parameter(torch.ones(3))]
    sgd = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    trained[0].sum().backward()
    sgd.step()
    return {
        "epoch": 299,
        "best_fitness": np.array([0.53]),
        "model": copy.deepcopy(model).half(),
        "ema": None if ema is None else copy.deepcopy(ema).half(),
        "updates": 1000,
        "optimizer": sgd.state_dict() if optimiser else None,
        "opt": vars(Namespace(save_dir=Path("runs/x"), hyp={"lr0": np.float64(0.01)}, evolve=None)),
        "best": np.float32(0.4),
        "git": {"remote": None, "commit": "0"},
        "wandb_id": None,
        "date": datetime.datetime(2024, 2, 18).isoformat(),
    }


@cache
def official_state(reference, name, *, seed=0):
    """Random tensors under the official names, with the official shapes."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape, kind in json.loads((reference / "official" / name / "state_dict.json").read_text())["entries"]:
        if kind == "int64":
            state[key] = torch.tensor(seed)
        elif ".dfl" in key:
            state[key] = torch.arange(16.0).view(shape)
        elif key.endswith(("anchors", "anchor_grid")):
            boxes = torch.tensor(load_spec("v7").anchors)
            boxes = boxes if key.endswith("grid") else boxes / torch.tensor([8.0, 16, 32]).view(3, 1, 1)
            state[key] = boxes.view(shape)
        else:
            state[key] = torch.rand(shape, generator=generator) + 0.1
    return state


def expected_from(reference, name, state):
    """What the reference's own map makes of a state."""
    expected = {}
    for key, ours in json.loads((reference / "official" / name / "key_map.json").read_text())["map"].items():
        for target in ours if isinstance(ours, list) else [ours] if ours else []:
            value = state[key].half().float() if state[key].is_floating_point() else state[key]
            expected[target] = value.view(1, 16, 1, 1, 1) if "anc2vec" in target else value
    return expected


@pytest.mark.parametrize(
    "name",
    [
        "yolov9-t",
        "gelan-t",
        "yolov9-s",
        *(pytest.param(f"{family}-{size}", marks=pytest.mark.slow) for family in ("yolov9", "gelan") for size in "mce"),
        pytest.param("gelan-s", marks=pytest.mark.slow),
        pytest.param("yolov7", marks=pytest.mark.slow),
    ],
)
def test_every_tensor_of_a_pickled_checkpoint_arrives(reference, tmp_path, code, name):
    state = official_state(reference, name)
    torch.save(official_checkpoint(pickled_module(code, state)), tmp_path / "official.pt")
    code.forget()
    weights = read_weights(tmp_path / "official.pt")
    expected = expected_from(reference, name, state)
    assert weights.state.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in weights.state.items())
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.state.values())
    assert (weights.model, weights.kind, weights.architecture) == (layout(name).zoo, "official", None)
    assert weights.class_names == tuple(NAMES)
    (tmp_path / "official.pt").write_bytes(b"")  # what was read does not hang on the file
    assert torch.equal(weights.state["0.conv.weight"], expected["0.conv.weight"])
    assert "models.yolo" not in sys.modules


def golden_state(folder):
    """The reference's weights: its rule for numbers, its statistics of the normalisation layers."""
    statistics = np.load(folder / "bn_stats.npz")
    state = {}
    for key, shape, _ in json.loads((folder / "state_dict.json").read_text())["entries"]:
        noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(size=shape)
        if key in statistics:
            value = statistics[key]
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        elif "anc2vec" in key:
            value = np.arange(16.0).reshape(shape)
        elif key.endswith("implicit"):
            value = float("implicit_m" in key) + 0.1 * noise
        elif key.endswith("weight"):
            value = 1 + 0.1 * noise if len(shape) == 1 else noise / np.sqrt(np.prod(shape[1:]))
        else:
            value = 1 + 0.3 * noise if key.endswith("bn.bias") else 0.1 * noise
        state[key] = torch.from_numpy(np.asarray(value).astype(np.float32))
    return state


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("yolov9-t", "v9-t"),
        ("gelan-t", "v9-t-pub"),
        pytest.param("yolov7", "v7-official", marks=pytest.mark.slow),
        pytest.param("yolov9-e", "v9-e", marks=pytest.mark.slow),
    ],
)
def test_outputs_of_a_pickled_checkpoint_are_the_golden_ones(reference, tmp_path, code, name, golden):
    torch.set_num_threads(1)
    state = to_official(golden_state(reference / golden), name)
    torch.save({"model": pickled_module(code, state), "ema": None}, tmp_path / "official.pt")
    code.forget()
    network = load_model(tmp_path / "official.pt")
    pixels = np.random.Generator(np.random.PCG64(0)).random(size=(2, 3, 160, 192), dtype=np.float32)
    with torch.inference_mode():
        found = decode(network(torch.from_numpy(pixels)).main)
    strides = json.loads((reference / golden / "outputs.json").read_text())["arrays"]
    stored = np.load(reference / golden / "outputs.npz")
    for part, tensor, tolerance in (("boxes_xyxy", found.boxes, 2e-2), ("probs", found.scores, 5e-4)):
        expected = torch.from_numpy(stored[f"main/{part}"]).flatten()
        assert (tensor.flatten()[:: strides[f"main/{part}"]["stride"]] - expected).abs().max() < tolerance


def test_the_averaged_weights_are_taken_when_there_are_any(reference, tmp_path, code):
    model = official_state(reference, "gelan-t", seed=1)
    averaged = official_state(reference, "gelan-t", seed=2)
    checkpoint = official_checkpoint(pickled_module(code, model), ema=pickled_module(code, averaged))
    torch.save(checkpoint, tmp_path / "last.pt")
    torch.save(pickled_module(code, model), tmp_path / "alone.pt")
    code.forget()
    assert int(read_weights(tmp_path / "last.pt").state["0.bn.num_batches_tracked"]) == 2
    assert int(read_weights(tmp_path / "alone.pt").state["0.bn.num_batches_tracked"]) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (NAMES, tuple(NAMES)),
        (dict(enumerate(NAMES)), tuple(NAMES)),
        ({number + 1: name for number, name in enumerate(NAMES)}, None),
        ([str(number) for number in range(80)], None),
        (NAMES[:3], None),
        ([Path(name) for name in NAMES], None),
    ],
)
def test_class_names_of_a_pickled_checkpoint(reference, tmp_path, code, names, expected):
    model = pickled_module(code, official_state(reference, "gelan-t"), names=names)
    torch.save({"model": model}, tmp_path / "official.pt")
    code.forget()
    assert read_weights(tmp_path / "official.pt").class_names == expected
    if expected:
        assert load_bundle(tmp_path / "official.pt").class_names == expected


def test_foreign_code_is_neither_imported_nor_called(reference, tmp_path, code, monkeypatch):
    """Modules of those names lie on the path; importing them, or building an object of theirs, leaves a file behind."""
    state = official_state(reference, "gelan-t")
    torch.save(official_checkpoint(pickled_module(code, state)), tmp_path / "official.pt")
    code.forget()
    proof = tmp_path / "proof"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    for name in ("yolo", "common"):
        (tmp_path / "models" / f"{name}.py").write_text(f"import os\nos.mkdir({str(proof)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(torch.serialization.get_safe_globals())
    content = read_weight_file(tmp_path / "official.pt")
    assert is_module(content["model"]) and content["model"].name == "models.yolo.DetectionModel"
    assert isinstance(content["best_fitness"], Inert) and "inert numpy" in repr(content["best_fitness"])
    assert read_weights(tmp_path / "official.pt").model == "v9-t"
    assert not proof.exists() and "models.yolo" not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before  # torch keeps them in no order
    importlib.import_module("models.yolo")
    assert proof.exists()  # the trap works


def test_a_module_of_other_code_is_refused_by_its_class(tmp_path):
    torch.save({"model": nn.Conv2d(1, 1, 1)}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"m\.pt.*'torch\.nn\.modules\.conv\.Conv2d'.*state dict"):
        read_weights(tmp_path / "m.pt")


def test_whole_modules_in_the_old_format_are_refused(tmp_path, code):
    torch.save({"model": nn.Conv2d(1, 1, 1)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"m\.pt.* is refused: it holds whole modules in torch's format from before"):
        read_weights(tmp_path / "m.pt")


def test_numpy_numbers_beside_a_plain_state_dict_do_no_harm(tmp_path):
    for new in (True, False):
        content = {"best_fitness": np.float64(0.5), "model": {"0.conv.weight": torch.ones(2)}}
        torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
        assert torch.equal(read_weights(tmp_path / "w.pt").state["0.conv.weight"], torch.ones(2))
