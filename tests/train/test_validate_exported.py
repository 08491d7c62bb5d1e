"""`yolo validate` on exported files: through the runtime that owns the suffix, with the numbers of the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from yolo.cli.main import main
from yolo.core.boxes.convert import xyxy_to_cxcywh
from yolo.core.decode import decode
from yolo.core.errors import UsageError, YoloError
from yolo.core.exported import find_backend
from yolo.core.plugins import ExportBackendSpec, get_manager, hookimpl, reset_manager
from yolo.core.weights.load import load_model
from yolo.training.validation.subject import open_subject

NAMES = ("circle", "square", "triangle", "star")


def measured(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}_metrics.json").read_text())


def test_an_onnx_file_has_the_numbers_of_its_checkpoint(trained_run: Path, tmp_path: Path) -> None:
    """Exported and measured by the command; of the same images, once with a batch of its own and once of one."""
    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    checkpoint = trained_run / "checkpoints" / "best.ckpt"
    assert main(["export", "-c", str(checkpoint), "-o", str(tmp_path / "one.onnx")]) == 0
    config = tmp_path / "run.yaml"
    data = json.dumps(str(trained_run_data(checkpoint)))
    config.write_text(f"data: {{root: {data}, image_size: 320}}\n")  # which is not the file's
    fixed = ["--workers=0", "--no-plots", "-o", str(tmp_path)]
    assert main(["validate", "-c", str(checkpoint), *fixed]) == 0
    assert main(["validate", "-c", str(tmp_path / "one.onnx"), "--config", str(config), *fixed]) == 0
    own, exported = measured(tmp_path, "best"), measured(tmp_path, "one")
    assert own["stats"]["AR100"] > 0.01
    assert exported["stats"] == pytest.approx(own["stats"], abs=1e-4)
    assert exported["per_class"].keys() == own["per_class"].keys()
    assert exported["protocol"] == own["protocol"] | {"weights": "exported"}
    assert exported["checkpoint"]["format"] == "onnx"
    # A thousandth of a pixel, and 1e-5 of a score: what the parity gate allows.
    found = [json.loads((tmp_path / f"{name}_detections.json").read_text()) for name in ("best", "one")]
    assert abs(len(found[0]) - len(found[1])) <= 2
    best = [max((record["score"] for record in records), default=0) for records in found]
    assert best[0] == pytest.approx(best[1], abs=1e-5)


def trained_run_data(checkpoint: Path) -> str:
    from yolo.core.weights.bundle import read_checkpoint

    return read_checkpoint(checkpoint).extra["data"]["root"]


class FakeRuntime:
    """Reads a file that names a checkpoint, and runs that; records the batches that it is given."""

    batches: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, path: Path) -> None:
        said = json.loads((path / "model.json" if path.is_dir() else path).read_text())
        self._network = load_model(said["checkpoint"])
        self.class_names = tuple(said.get("names", NAMES))
        self.image_size = (96, 96)
        self.dynamic_batch = True
        self.metadata = said.get("metadata", {})
        self._cut = said.get("cut", 0)

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32 and images.shape[1:] == (3, 96, 96) and 0 <= images.min() <= images.max() <= 1
        type(self).batches.append(images.shape)
        decoded = decode(self._network(torch.from_numpy(images)).main)
        joined = torch.cat([xyxy_to_cxcywh(decoded.boxes), decoded.scores], dim=2).transpose(1, 2).numpy()
        return joined[:, : joined.shape[1] - self._cut]


class FakePlugin:
    @hookimpl
    def yolo_export_backends(self):
        for name, suffix in (("fake", ".fake"), ("fake-longer", ".more.fake"), ("fake-folder", "_folder/")):
            yield ExportBackendSpec(
                name,
                target="fake_runtime:Backend",
                summary="A test.",
                suffix=suffix,
                runtime="fake_runtime:FakeRuntime",
            )
        yield ExportBackendSpec(
            "needy", target="x:Y", summary="Needs something.", suffix=".needy", runtime="x:Z",
            requires=("no_such_module",), extra="needs",
        )  # fmt: skip
        yield ExportBackendSpec("mute", target="x:Y", summary="Cannot be loaded again.", suffix=".mute")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    """A backend of another package, whose files are json."""
    import sys

    monkeypatch.setitem(sys.modules, "fake_runtime", SimpleNamespace(FakeRuntime=FakeRuntime))
    reset_manager()
    record = get_manager().register(FakePlugin(), name="yolo-fake", distribution="yolo-fake")
    assert record.status == "ok", record.error
    FakeRuntime.batches = []
    yield
    reset_manager()


@pytest.fixture
def fake_file(backend, small_checkpoint: Path, tmp_path: Path):
    def write(name: str = "model.fake", **more) -> Path:
        path = tmp_path / name
        target = path / "model.json" if name.endswith("_folder") else path
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"checkpoint": str(small_checkpoint), **more}))
        return path

    return write


def validate(path: Path, data: Path, *options: str) -> int:
    return main(
        [
            "validate",
            "-c",
            str(path),
            f"--data.root={data}",
            "--workers=0",
            "--no-plots",
            "-o",
            str(path.parent),
            *options,
        ]
    )


def test_a_backend_of_another_package_is_used(
    fake_file, small_checkpoint: Path, synthetic_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures come letterboxed once, in the batches asked for; folders are files, too."""
    path = fake_file()
    assert validate(path, synthetic_data, "--batch-size=3", "--report") == 0
    assert FakeRuntime.batches == [(3, 3, 96, 96), (3, 3, 96, 96), (2, 3, 96, 96)]
    assert "exported weights" in capsys.readouterr().out
    found = measured(path.parent, "model")
    own = main(["validate", "-c", str(small_checkpoint), "--workers=0", "--no-plots", "-o", str(path.parent)])
    assert own == 0 and found["stats"] == pytest.approx(measured(path.parent, "best")["stats"], abs=1e-6)
    folder = fake_file("some_folder")
    assert validate(folder, synthetic_data, "--num-images=1") == 0
    assert measured(path.parent, "some_folder")["checkpoint"]["format"] == "fake-folder"
    assert measured(path.parent, "some_folder")["checkpoint"]["bytes"] == (folder / "model.json").stat().st_size


def test_pictures_of_another_shape_are_letterboxed_once(
    fake_file, small_checkpoint: Path, datasets: Path, tmp_path: Path
) -> None:
    data = datasets / "bccd"  # 640 x 480, three classes
    names = ["--data.format=yolo", "--data.cache_labels=false", "--num-images=2"]
    listing = (data / "classes.json").read_text()
    assert "RBC" in listing
    bundle = torch.load(small_checkpoint, weights_only=True)
    del bundle["yolo"]["extra"]["data"]
    three = tmp_path / "three.ckpt"
    from yolo.core.models import build_model

    (tmp_path / "net.yaml").write_text(NETWORK)
    torch.manual_seed(3)
    network = build_model(tmp_path / "net.yaml", 3, image_size=(96, 96))
    bundle["yolo"] |= {"state_dict": network.state_dict(), "class_names": ["RBC", "WBC", "Platelets"]}
    bundle["yolo"]["architecture"] = network.spec.to_dict()
    torch.save(bundle, three)
    path = fake_file(checkpoint=str(three), names=["RBC", "WBC", "Platelets"])
    assert validate(path, data, *names) == validate(three, data, *names) == 0
    one, other = (json.loads((tmp_path / f"{name}_detections.json").read_text()) for name in ("model", "three"))
    assert len(one) == len(other) > 0
    assert max(record["bbox"][0] + record["bbox"][2] for record in one) > 500
    for left, right in zip(one, other, strict=True):
        assert left["bbox"] == pytest.approx(right["bbox"], abs=1e-2)


NETWORK = """
name: small
class_width: {per_class: 2, at_most: 128}
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B3}
  - AConv: {args: {out_channels: 16}, tags: B4}
detection:
  - MultiheadDetection: {source: [B3, B4], tags: Main}
"""


def test_the_longest_suffix_wins_and_one_without_a_runtime_never(backend, tmp_path: Path) -> None:
    found = {name: find_backend(tmp_path / name) for name in ("a.fake", "a.more.fake", "A.FAKE", "a.mute", "a.ckpt")}
    assert {name: spec and spec.name for name, spec in found.items()} == {
        "a.fake": "fake", "a.more.fake": "fake-longer", "A.FAKE": "fake", "a.mute": None, "a.ckpt": None
    }  # fmt: skip


@pytest.mark.parametrize("option", ["--size=128", "--data.image_size=128"])
def test_another_size_than_the_files_is_refused(
    fake_file, synthetic_data: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fake_file()
    assert validate(path, synthetic_data, option) == 2
    name = option.partition("=")[0]
    text = f"Error: {name}: {path} takes 96x96 only, not 128x128; leave {name} out, or export it again\n"
    assert capsys.readouterr().err == text
    assert validate(path, synthetic_data, "--size=96", "--num-images=1") == 0


def test_the_size_of_a_configuration_gives_way_to_the_files(
    fake_file, synthetic_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text("model: {image_size: 128}\n")
    assert validate(fake_file(), synthetic_data, "--config", str(tmp_path / "run.yaml"), "--num-images=1") == 0
    assert "takes 96x96 only: the image size of the configuration, 128x128, is not used" in capsys.readouterr().err


def test_other_preprocessing_is_refused_and_ours_is_not(fake_file) -> None:
    from yolo.core.preprocessing import PREPROCESSING

    assert open_subject(fake_file(metadata={"preprocessing": PREPROCESSING})).image_size == (96, 96)
    for key, value in (("color", "BGR"), ("resize", "stretch"), ("letterbox", {"fill": [0, 0, 0]}), ("divide_by", 1)):
        with pytest.raises(YoloError, match=r"wants preprocessing with (color 'BGR'|resize 'stretch'|fill|divide_by)"):
            open_subject(fake_file(metadata={"preprocessing": PREPROCESSING | {key: value}}))


def test_a_file_without_names_counts_its_classes(fake_file, synthetic_data: Path) -> None:
    path = fake_file(names=[])
    subject = open_subject(path)
    assert subject.class_names == ("0", "1", "2", "3") and not subject.names_known
    assert validate(path, synthetic_data, "--num-images=1") == 0
    assert list(measured(path.parent, "model")["per_class"]) == list(NAMES)


def test_an_output_of_another_shape_is_told(
    fake_file, synthetic_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(fake_file(cut=1), synthetic_data) == 1
    assert (
        "the output has the shape [8, 7, 180], not [8, 4 + classes, anchors] with 4 classes" in capsys.readouterr().err
    )


def test_what_to_install(backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.needy").write_text("")
    (tmp_path / "m.tflite").write_text("")
    if find_backend(tmp_path / "m.tflite") is None:  # until yolo-export has it
        with pytest.raises(
            UsageError, match=r"m.tflite: no export backend that is installed reads .tflite files, only "
        ):
            open_subject(tmp_path / "m.tflite")
    with pytest.raises(YoloError, match=r"pip install 'yolo-fake\[needs\]'"):
        open_subject(tmp_path / "m.needy")
    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", "export")
    reset_manager()
    for name, extra in (("m.onnx", "onnx"), ("m.tflite", "litert")):
        (tmp_path / name).write_text("")
        with pytest.raises(UsageError, match=rf"installed reads \{name[1:]} files: .*'yolo-export\[{extra}\]'"):
            open_subject(tmp_path / name)
    (tmp_path / "saved_model").mkdir()
    with pytest.raises(UsageError, match=r"reads folders of this kind: .*'yolo-export\[tflite\]'"):
        open_subject(tmp_path / "saved_model")


def test_a_file_knows_no_data(
    fake_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = fake_file()
    assert main(["validate", "-c", str(path), "--workers=0"]) == 2
    text = f"Error: {path} does not know where its data is: add --data.root, or --config with data.root\n"
    assert capsys.readouterr().err == text


def test_a_device_is_for_checkpoints(fake_file) -> None:
    path = fake_file()
    assert open_subject(path, device="cpu").device.type == "cpu"
    with pytest.raises(UsageError, match=r"device cuda: .* its runtime 'fake' runs; leave the device out"):
        open_subject(path, device="cuda")


def test_a_file_of_another_kind_is_read_as_weights(tmp_path: Path, small_checkpoint: Path) -> None:
    copy = tmp_path / "best.ckpt.bak"
    copy.write_bytes(small_checkpoint.read_bytes())
    assert open_subject(copy).class_names == NAMES
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(YoloError):
        open_subject(tmp_path / "notes.txt")
