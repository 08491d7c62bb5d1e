"""Files of weights: the good ones load, all others get one line that says what they are, and none is executed."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from yolo.core.models.weight_file import WeightsError, WeightsWarning, read_weight_file
from yolo.core.models.weights import read_state_dict

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


def test_a_pickled_module_is_refused_by_its_class(tmp_path):
    torch.save({"model": torch.nn.Conv2d(1, 1, 1)}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"'torch\.nn\.modules\.conv\.Conv2d'.*state dict"):
        read_weight_file(tmp_path / "m.pt")


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


def test_not_a_number_is_a_warning(tmp_path):
    bad = {**STATE, "1.bias": torch.tensor([1.0, float("nan")])}
    torch.save(bad, tmp_path / "nan.pt")
    with pytest.warns(WeightsWarning, match=r"nan\.pt.*1 of 3 tensors hold NaN.*'1\.bias'"):
        read_state_dict(tmp_path / "nan.pt")
