"""Where exports go, folders included."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import UsageError
from yolo.core.plugins import ExportBackendSpec
from yolo.core.weights.load import load_model
from yolo.export import export_model, exporter
from yolo.export.backends.base import ExportError
from yolo.export.manifest import listing, sha256, size_of
from yolo.export.targets import find_target, put_in_place
from yolo.export.verify import ParityError, predict_reference


class FolderBackend:
    """Writes a folder; its files do not matter."""

    options = frozenset()
    content = "one"

    def write(self, request):
        (request.path / "variables").mkdir(parents=True)
        (request.path / "saved_model.pb").write_text(self.content)
        (request.path / "variables/data").write_bytes(bytes(100))
        return {"versions": {"tensorflow": "2"}}


@pytest.fixture
def folders(checkpoint, monkeypatch):
    """A registry with one format that is a folder, whose runtime answers with the checkpoint."""
    network = load_model(checkpoint)

    class FolderRuntime:
        class_names, image_size, dynamic_batch = ("a", "b", "c"), (96, 64), False
        shift = 0.0

        def __init__(self, path):
            assert (path / "saved_model.pb").is_file()

        def predict(self, images):
            return predict_reference(network, images) + np.float32(self.shift)

    class Registry:
        def get(self, name):
            return ExportBackendSpec("saved_model", target="a:b", summary="x", suffix="saved_model/", runtime="a:b")

        def load(self, name):
            return FolderBackend

        def load_runtime(self, name):
            return FolderRuntime

    monkeypatch.setattr(exporter, "registry", lambda kind: Registry())
    monkeypatch.setattr(exporter, "DeployModule", lambda network, size: None)
    monkeypatch.setattr(FolderBackend, "content", "one")
    return FolderRuntime


def _export(checkpoint, output):
    return export_model(checkpoint, format="saved_model", output=output)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("saved_model/", "saved_model"),
        ("of_mine_saved_model", "of_mine_saved_model"),
        ("there/", "there/best_saved_model"),
    ],
)
def test_a_folder_and_its_manifest(folders, checkpoint, tmp_path, output, expected):
    result = _export(checkpoint, f"{tmp_path}/{output}")
    assert result.path == tmp_path / expected
    assert result.manifest_path == tmp_path / f"{expected}.manifest.json"
    assert {path.name for path in result.path.iterdir()} == {"saved_model.pb", "variables"}
    assert {path.name for path in result.path.parent.iterdir()} == {result.path.name, result.manifest_path.name}
    record = json.loads(result.manifest_path.read_text())["file"]
    assert record["bytes"] == size_of(result.path) == 103
    assert record["sha256"] == sha256(result.path)
    assert record["files"]["saved_model.pb"] == hashlib.sha256(b"one").hexdigest()


def test_the_hash_of_a_folder_can_be_checked_by_hand(folders, checkpoint, tmp_path):
    path = _export(checkpoint, tmp_path / "saved_model").path
    command = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum"
    assert subprocess.run(command, shell=True, cwd=path, capture_output=True, text=True, check=True).stdout == listing(
        path
    )
    before = sha256(path)
    (path / "variables/data").rename(path / "variables/other")
    assert sha256(path) != before


def test_an_earlier_export_is_replaced_whole(folders, checkpoint, tmp_path, monkeypatch):
    first = _export(checkpoint, tmp_path / "saved_model")
    (first.path / "left over").write_text("of the first")
    monkeypatch.setattr(FolderBackend, "content", "two")
    second = _export(checkpoint, tmp_path / "saved_model")
    assert (second.path / "saved_model.pb").read_text() == "two"
    assert not (second.path / "left over").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"saved_model", "saved_model.manifest.json"}


def test_an_earlier_export_survives_a_failure(folders, checkpoint, tmp_path, monkeypatch):
    first = _export(checkpoint, tmp_path / "saved_model")
    before = sha256(first.path)
    monkeypatch.setattr(FolderBackend, "content", "two")
    folders.shift = 1.0
    with pytest.raises(ParityError):
        _export(checkpoint, tmp_path / "saved_model")
    assert sha256(first.path) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_other_peoples_files_are_not_replaced(folders, checkpoint, tmp_path):
    (tmp_path / "my_saved_model").mkdir()
    (tmp_path / "my_saved_model/thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match="holds files that are no earlier export"):
        _export(checkpoint, tmp_path / "my_saved_model")
    assert (tmp_path / "my_saved_model/thesis.txt").read_text() == "three years"


def test_a_folder_that_could_not_be_recognised_is_refused(folders, checkpoint, tmp_path):
    with pytest.raises(UsageError, match="must end with saved_model/, or be a folder to put it in"):
        _export(checkpoint, tmp_path / "elsewhere")
    (tmp_path / "file_saved_model").write_text("")
    with pytest.raises(UsageError, match="is a file, where a folder would be made"):
        _export(checkpoint, tmp_path / "file_saved_model")


def test_a_file_never_replaces_a_folder(checkpoint, tmp_path):
    (tmp_path / "best.onnx").mkdir()
    with pytest.raises(UsageError, match="is a folder, where a file would be written"):
        export_model(checkpoint, output=f"{tmp_path}/")


def test_the_checkpoint_is_never_overwritten(checkpoint, tmp_path):
    """A state dict is a checkpoint too, so both may have one name."""
    source = export_model(checkpoint, format="torch", output=tmp_path / "best.state.pt").path
    before = sha256(source)
    (tmp_path / "link.state.pt").symlink_to(source)
    for name in ("best.state.pt", "link.state.pt"):
        with pytest.raises(UsageError, match="is the checkpoint itself; give another name"):
            export_model(source, format="torch", output=tmp_path / name)
    assert sha256(source) == before


def test_a_folder_for_several_formats_may_have_a_dot(checkpoint, tmp_path):
    spec = ExportBackendSpec("torch", target="a:b", summary="x", suffix=".state.pt", runtime="a:b")

    def target(output):
        return find_target(checkpoint, output, spec, alone=False)

    (tmp_path / "there.is").mkdir()
    (tmp_path / "file").touch()
    assert target(tmp_path / "there.is") == tmp_path / "there.is" / "best.state.pt"
    assert target(f"{tmp_path}/v1.2/") == tmp_path / "v1.2" / "best.state.pt"
    for output in (tmp_path / "best.onnx", tmp_path / "file"):
        with pytest.raises(UsageError, match="must be a folder"):
            target(output)


def test_an_interruption_between_the_two_moves_leaves_the_old_folder(tmp_path, monkeypatch):
    old, new = tmp_path / "saved_model", tmp_path / "scratch/saved_model"
    for folder, text in ((old, "one"), (new, "two")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
    rename = Path.rename

    def interrupted(self, target):
        if self == new:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(new, old)
    assert (old / "file").read_text() == "one"


def test_a_disk_that_is_full_keeps_the_earlier_file_and_its_manifest(checkpoint, tmp_path, monkeypatch):
    def export():
        return export_model(checkpoint, format="torch", output=tmp_path / "a.state.pt", image_size=32)

    first = export()
    first.path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "manifest_bytes", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export()
    assert first.path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
