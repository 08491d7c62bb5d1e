"""Files of weights: the good ones load, all others get one line that says what they are, and none is executed."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from yolo.core import load_model
from yolo.core.weights.file import WeightsError, WeightsWarning, read_weight_file
from yolo.core.weights.read import read_state_dict, read_weights

STATE = {"0.conv.weight": torch.arange(6.0).view(2, 3), "0.bn.num_batches_tracked": torch.tensor(7)}


class Evil:
    """Unpickling this would leave a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "old.pt", "a.safetensors", "wrapped.ckpt", "prefixed.pt", "ddp.pt"])
def test_accepted_kinds_give_the_same_weights(tmp_path, name):
    path = tmp_path / name
    if name == "a.safetensors":
        save_file(STATE, path)
    elif name == "wrapped.ckpt":
        content = {f"model.model.{key}": value for key, value in STATE.items()}
        torch.save({"epoch": 3, "state_dict": content}, path)
    elif name == "prefixed.pt":
        torch.save({f"model.{key}": value for key, value in STATE.items()}, path)
    elif name == "ddp.pt":
        torch.save({"model": {f"module.{key}": value for key, value in STATE.items()}}, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name != "old.pt")
    state = read_state_dict(path)
    assert set(state) == set(STATE)
    assert all(torch.equal(state[key], value) for key, value in STATE.items())
    path.write_bytes(b"")  # what was read does not hang on the file
    assert torch.equal(state["0.conv.weight"], STATE["0.conv.weight"])


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_a_malicious_pickle_is_refused_by_name_and_does_not_run(tmp_path, kind):
    path, proof = tmp_path / "weights.pt", tmp_path / "proof"
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps({"a": Evil(proof)}))
    else:
        torch.save({"a": Evil(proof)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError, match=r"weights\.pt.* is refused: .*'\w+\.mkdir'.*Nothing of it was run"):
        read_weight_file(path)
    assert not proof.exists()


def write_bad(path: Path, kind: str) -> None:
    good = path.with_suffix(".good")
    torch.save(STATE, good, _use_new_zipfile_serialization=kind != "cut off legacy")
    data = good.read_bytes()
    good.unlink()
    if kind.startswith("cut off"):
        path.write_bytes(data[: len(data) * 2 // 3])
    elif kind == "flipped":
        start = data.index(b"data.pkl") + 100
        path.write_bytes(data[:start] + bytes(60) + data[start + 60 :])
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("photo.txt", "hello")
    elif kind == "short safetensors":
        save_file(STATE, path)
        path.write_bytes(path.read_bytes()[:-3])
    else:
        content = {
            "web page": b"\n<!DOCTYPE html><html>404 not found</html>",
            "empty": b"",
            "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "noise": bytes(range(150, 250)),
        }
        path.write_bytes(content[kind])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut off", "cut off"),
        ("cut off legacy", "cut off"),
        ("flipped", "damaged"),
        ("zip", "zip archive without a checkpoint"),
        ("web page", "web page"),
        ("empty", "is empty"),
        ("lfs", "Git LFS pointer"),
        ("noise", "not a checkpoint"),
        ("short safetensors", "not a complete safetensors"),
    ],
)
def test_broken_files_are_named_for_what_they_are(tmp_path, kind, words):
    path = tmp_path / ("w.safetensors" if "safetensors" in kind else "w.pt")
    write_bad(path, kind)
    with pytest.raises(WeightsError, match=rf"w\.\w+.*{words}") as caught:
        read_weight_file(path)
    assert "\n" not in str(caught.value)


def test_missing_files_point_at_their_neighbours(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"'.*bset\.ckpt' does not exist; in that folder there is 'best\.ckpt'$"):
        read_weight_file(tmp_path / "bset.ckpt")
    with pytest.raises(WeightsError, match="there is no folder"):
        read_weight_file(tmp_path / "runs" / "best.ckpt")
    with pytest.raises(WeightsError, match=r"is a folder.*best\.ckpt"):
        read_weight_file(tmp_path)


def test_dictionaries_that_are_no_weights(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([torch.ones(1)], path)
    with pytest.raises(WeightsError, match="holds a list"):
        read_weight_file(path)
    torch.save({3: torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="keys are not names"):
        read_weight_file(path)
    torch.save({"conv1.weight": torch.ones(1), "epoch": 3}, path)
    with pytest.raises(WeightsError, match=r"no weights by layer index.*'conv1\.weight', 'epoch'"):
        read_state_dict(path)


def test_another_pickle_protocol_is_said_to_be_one(tmp_path):
    torch.save({"model": STATE}, tmp_path / "four.pt", pickle_protocol=4)
    with pytest.raises(WeightsError, match=r"four\.pt' is refused: it is not pickled as torch\.save does by default"):
        read_state_dict(tmp_path / "four.pt")


def test_weights_of_another_model_are_told_by_what_they_hold(tmp_path):
    torch.save({"layer1.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"no weights by layer index.*'layer1\.0\.conv1\.weight', 'fc\.bias'"):
        load_model(tmp_path / "w.pt")


def test_what_files_say_about_their_network(tmp_path):
    torch.save(STATE, tmp_path / "plain.pt")
    plain = read_weights(tmp_path / "plain.pt")
    assert (plain.kind, plain.class_names, plain.architecture, plain.model) == ("state dict", None, None, None)
    described = {"format": 1, "architecture": {"name": "own"}, "class_names": ["a", "b"], "image_size": [64, 32]}
    torch.save({"epoch": 3, "yolo": {**described, "state_dict": STATE}, "state_dict": {}}, tmp_path / "ours.ckpt")
    save_file(STATE, tmp_path / "ours.safetensors", metadata={"yolo": json.dumps(described)})
    save_file(STATE, tmp_path / "plain.safetensors", metadata={"format": "pt"})
    for name, kind in (("ours.ckpt", "checkpoint"), ("ours.safetensors", "safetensors")):
        weights = read_weights(tmp_path / name)
        assert (weights.kind, weights.class_names, weights.architecture) == (kind, ("a", "b"), {"name": "own"})
        assert weights.state.keys() == STATE.keys()
    weights = read_weights(tmp_path / "plain.safetensors")
    assert (weights.kind, weights.class_names, weights.architecture) == ("safetensors", None, None)
    save_file(STATE, tmp_path / "bad.safetensors", metadata={"yolo": "{"})
    with pytest.raises(WeightsError, match=r"bad\.safetensors.*metadata entry 'yolo' is damaged"):
        read_weights(tmp_path / "bad.safetensors")


def test_names_of_a_users_own_blocks_stay_as_they_are(tmp_path):
    """A block may call its parts as the published code does; a checkpoint of ours is not renamed for it."""
    state = {"0.cv1.conv.weight": torch.ones(2), "1.m.0.weight": torch.ones(1)}
    described = {"format": 1, "architecture": {"name": "own"}, "class_names": ["a"]}
    torch.save({"yolo": {**described, "state_dict": state}}, tmp_path / "ours.ckpt")
    torch.save(state, tmp_path / "plain.pt")
    for name in ("ours.ckpt", "plain.pt"):
        assert read_state_dict(tmp_path / name).keys() == state.keys()


def test_not_a_number_is_a_warning(tmp_path):
    bad = {**STATE, "1.bias": torch.tensor([1.0, float("nan")])}
    torch.save(bad, tmp_path / "nan.pt")
    with pytest.warns(WeightsWarning, match=r"nan\.pt.*1 of 3 tensors hold NaN.*'1\.bias'"):
        read_state_dict(tmp_path / "nan.pt")
