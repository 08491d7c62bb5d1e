"""The report of ``yolo data check`` as text, and damage that only libjpeg-turbo tells of."""

from __future__ import annotations

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.data.check import check_dataset, damage
from yolo.data.check.damage import jpeg_damage
from yolo.data.check.result import DatasetReport
from yolo.data.check.text import print_report
from yolo.data.config import DataConfig
from yolo.data.formats.report import Finding
from yolo.data.loaders import open_loader
from yolo.data.wording import counted

needs_turbojpeg = pytest.mark.skipif(damage._decoder() is None, reason="libjpeg-turbo is not installed")


@pytest.mark.parametrize(
    ("errors", "warnings", "remarks", "last"),
    [(1, 1, 1, "1 error, 1 warning, 1 remark"), (0, 2, 0, "0 errors, 2 warnings, 0 remarks")],
)
def test_one_of_a_kind_is_no_plural(
    capsys: pytest.CaptureFixture[str], errors: int, warnings: int, remarks: int, last: str
) -> None:
    kinds = ["error"] * errors + ["warning"] * warnings + ["info"] * remarks
    findings = tuple(Finding("kind", severity, f"{n}.txt", None, "text") for n, severity in enumerate(kinds))  # type: ignore[arg-type]
    print_report(DatasetReport("root", "yolo", {}, findings, True), limit=None)
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_counted() -> None:
    assert [counted(n, "box", "boxes") for n in (0, 1, 2)] == ["0 boxes", "1 box", "2 boxes"]


def jpeg(number: int) -> bytes:
    """A picture unlike those of other numbers, whose middle is a long way from both ends of the file."""
    cells = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    picture = np.asarray(cv2.resize(cells, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    Image.fromarray(picture).save(stream, "jpeg", quality=95)
    return stream.getvalue()


def with_hole(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(2000) + data[middle + 2000 :]


@needs_turbojpeg
def test_a_jpeg_damaged_inside_is_a_warning_of_the_deep_check(tmp_path: Path) -> None:
    """Loaders give what can be decoded of it, all of them the same."""
    for number, split in enumerate(("train", "train", "val")):
        path = tmp_path / f"images/{split}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_hole(jpeg(number)) if number == 1 else jpeg(number))
        label = tmp_path / f"labels/{split}/{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x]\n")
    config = DataConfig(root=str(tmp_path), format="yolo", num_workers=0, cache_labels=False)
    found = [finding for finding in check_dataset(config).findings if finding.kind == "damaged-image"]
    assert [(finding.severity, Path(finding.file).name) for finding in found] == [("warning", "1.jpg")]
    assert re.search(r"training shows what is left of it \(Corrupt JPEG data", found[0].message)
    assert not [finding for finding in check_dataset(config, images=False).findings if finding.kind == "damaged-image"]
    shown = [open_loader(name).read(found[0].file) for name in ("default", "fast", "turbojpeg")]
    assert all(np.abs(image.astype(int) - shown[0]).max() <= 3 for image in shown)


@needs_turbojpeg
def test_what_is_no_damage(tmp_path: Path) -> None:
    """Padding before the end, as some cameras write it, notes behind it, other formats, and files cut short."""
    data, path = jpeg(0), tmp_path / "a"
    stream = io.BytesIO()
    Image.new("CMYK", (64, 64)).save(stream, "jpeg")
    for content in (data, data[:-2] + bytes(6) + data[-2:], data + b"camera notes", b"text", b"", stream.getvalue()):
        path.write_bytes(content)
        assert jpeg_damage(str(path)) is None
    path.write_bytes(with_hole(data))
    assert jpeg_damage(str(path))
    assert jpeg_damage(str(tmp_path / "absent")) is None
    assert jpeg_damage("https://nowhere/a.jpg") is None


def test_without_libjpeg_turbo_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "_decoder", lambda: None)
    (tmp_path / "a.jpg").write_bytes(with_hole(jpeg(0)))
    assert jpeg_damage(str(tmp_path / "a.jpg")) is None
