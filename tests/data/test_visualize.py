"""``yolo visualize-aug``: the samples of training, drawn; and the group ``yolo data``."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.core.letterbox import letterbox
from yolo.core.plugins import reset_manager
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.loader import build_loader
from yolo.data.loaders import DefaultImageLoader
from yolo.data.sheet import Sheet
from yolo.data.synthetic import ensure_synthetic
from yolo.data.types import Sample, Targets
from yolo.data.viewer import SampleViewer, draw_sample

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ensure_synthetic(tmp_path / "shapes", train=12, val=4, image_size=96)


@pytest.fixture
def config(root: Path, tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{root: {root}, image_size: 64, batch_size: 4}}\n")
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    reset_manager()

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    reset_manager()


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_samples_go_into_the_data_set_and_are_the_same_for_a_seed(
    run: Run, config: str, root: Path, tmp_path: Path, layout: str
) -> None:
    args = ["visualize-aug", "--config", config, "--num-samples", "3", "--seed", "42", f"--data.format={layout}"]
    code, out, _ = run(*args)
    assert code == 0
    first = written(root / "aug_viz")
    assert len(first) == 3
    assert all(len(name) == len("aug_0001.jpg") and name.startswith("aug_") for name in first)
    assert all(name.removesuffix(".jpg") in out for name in first)
    assert str(root / "aug_viz") in out
    with Image.open(root / "aug_viz" / next(iter(first))) as picture:
        assert (picture.size, picture.format) == ((64, 64), "JPEG")
    assert run(*args, "-o", str(tmp_path / "again"))[0] == 0
    assert written(tmp_path / "again") == first
    assert run(*args, "--seed=43", "-o", str(tmp_path / "other"))[0] == 0
    assert written(tmp_path / "other") != first


def test_without_a_seed_one_is_drawn_and_told(run: Run, config: str, tmp_path: Path) -> None:
    code, _, err = run("visualize-aug", "-c", config, "-n", "2", "-o", str(tmp_path / "a"))
    assert code == 0
    seed = err.split("--seed ")[1].split()[0]
    assert run("visualize-aug", "-c", config, "-n", "2", "-o", str(tmp_path / "b"), "--seed", seed)[0] == 0
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_indices_with_the_originals(run: Run, config: str, tmp_path: Path) -> None:
    options = ["--indices", "0,5, 10,5", "--show-original", "-o", str(tmp_path / "out"), "--seed", "1"]
    assert run("visualize-aug", "-c", config, *options)[0] == 0
    numbers = ("0000", "0005", "0010")
    assert list(written(tmp_path / "out")) == [f"{kind}_{number}.jpg" for kind in ("aug", "orig") for number in numbers]


def test_a_grid_is_one_picture(run: Run, config: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for extra, rows in (([], 2), (["--show-original"], 4)):
        assert run("visualize-aug", "-c", config, "-n", "8", "--grid", *extra, "-o", str(out), "--seed", "1")[0] == 0
        assert list(written(out)) == ["grid.jpg"]
        with Image.open(out / "grid.jpg") as picture:
            assert picture.width // 64 == 4
            assert picture.height // (64 + 20) == rows


def test_more_samples_than_images_are_all_images(run: Run, config: str, tmp_path: Path) -> None:
    code, _, err = run("visualize-aug", "-c", config, "-n", "99", "-o", str(tmp_path / "out"), "--seed", "1")
    assert (code, len(written(tmp_path / "out"))) == (0, 12)
    assert "12 images" in err


def test_a_packaged_configuration_and_several_files(run: Run, config: str, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("yolo.training")
    assert run("visualize-aug", "-c", "quickstart", "-c", config, "--data.format", "coco", "-n", "2")[0] == 0
    assert len(written(root / "aug_viz")) == 2


def test_data_without_a_folder_of_its_own_is_drawn_where_the_user_is(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quickstart draws its data set into a cache."""
    pytest.importorskip("yolo.training")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yolo.data.synthetic.ensure_synthetic", lambda _: root)
    assert run("visualize-aug", "--config=quickstart", "-n2", "--data.image_size=64")[0] == 0
    assert len(written(tmp_path / "aug_viz")) == 2


@pytest.mark.parametrize("options", [{}, {"share_decoded": True}, {"mixup_prob": 1.0, "mosaic_9_prob": 0.5}])
def test_the_samples_are_those_of_the_first_epoch(root: Path, options: dict[str, object]) -> None:
    config = DataConfig(root=str(root), image_size=64, batch_size=4, num_workers=0, seed=5, **options)  # type: ignore[arg-type]
    table = load_labels(config, "train")
    trained = {}
    for batch in build_loader(config, table, training=True, max_epochs=100):
        for position, index in enumerate(batch.ids.tolist()):
            mine = batch.image_index == position
            trained[index] = batch.images[position].permute(1, 2, 0).numpy(), batch.boxes[mine].numpy()
    viewer = SampleViewer(config, table)
    seen = list(viewer.samples([1, 7, 10]))
    assert sorted(sample.index for sample in seen) == [1, 7, 10]
    for sample in seen:
        image, boxes = trained[sample.index]
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.targets.boxes, boxes)


def test_an_original_is_letterboxed_and_nothing_else(root: Path) -> None:
    config = DataConfig(root=str(root), image_size=(96, 64), num_workers=0)
    table = load_labels(config, "train")
    sample = SampleViewer(config, table).original(3)
    np.testing.assert_array_equal(sample.image, letterbox(DefaultImageLoader().read(table.path(3)), (96, 64))[0])
    assert len(sample.targets) == len(table.targets(3))


def test_one_sample_is_made_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(root=str(root), image_size=64, num_workers=0)
    viewer = SampleViewer(config, load_labels(config, "train"))
    made: list[int] = []
    make = viewer.dataset.__getitems__
    monkeypatch.setattr(
        type(viewer.dataset), "__getitems__", lambda _, keys: made.append(len(keys)) or make(keys), raising=True
    )
    next(viewer.samples(range(12)))
    assert made == [1]


def test_boxes_are_drawn_over_the_picture_small_ones_on_top() -> None:
    boxes = np.array([[30, 30, 40, 40], [5, 20, 60, 60]], np.float32)
    sample = Sample(np.zeros((64, 64, 3), np.uint8), Targets(boxes, np.array([0, 1])), 0, (64, 64))
    drawn = draw_sample(sample, ("thing", "other"))
    flipped = draw_sample(replace(sample, targets=sample.targets.select(np.array([1, 0]))), ("thing", "other"))
    np.testing.assert_array_equal(drawn, flipped)
    assert drawn[59, 30].any() and drawn[39, 35].any() and not drawn[62].any()
    assert not sample.image.any(), "the sample itself is not drawn on"
    bare = Sample(sample.image, Targets.empty(), 0, (64, 64))
    assert not draw_sample(bare, ("thing",)).any()


def test_a_sheet_stays_small_whatever_there_is_on_it() -> None:
    for count, size in ((1, (64, 64)), (16, (640, 640)), (1000, (640, 640)), (800, (1280, 32)), (2000, (640, 640))):
        sheet = Sheet(count, size)
        sheet.add(np.zeros((size[1], size[0], 3), np.uint8), "a name that is far too long for its place " * 3)
        width, height = sheet.picture.size
        assert width * height < 1.5 * 2**26 + count * 40000
        assert max(width, height) <= 65500
    with pytest.raises(UsageError, match="too many"):
        Sheet(10**6, (640, 640))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--indices", "0,12"], "no image 12, the training split has 0 to 11"),
        (["--indices", "0,x"], "whole numbers"),
        (["--indices", ","], "whole numbers"),
        (["--indices", "-1"], "whole numbers"),
        (["--num-samples", "0"], "num-samples"),
        (["--seed", "-1"], "seed"),
        (["--gird"], "--gird"),
        (["--data.mosaic_porb=1"], "mosaic_porb.*mosaic_prob"),
        (["--data.mosaic_prob=2"], "mosaic_prob"),
        (["--data.root=nowhere"], "nowhere"),
        (["--data.augmentations=[{use: nothing}]"], "nothing"),
        (["--data.image_loader=encrypted", "--data.encryption_key=" + "ab" * 32], "--output"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, config: str, root: Path, options: list[str], message: str) -> None:
    code, _, err = run("visualize-aug", "-c", config, *options)
    lines = [line for line in err.splitlines() if not line.startswith("Seed")]
    assert code in (1, 2)
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert "ab" * 32 not in err
    assert not (root / "aug_viz").exists()


def test_the_configuration_is_required(run: Run) -> None:
    code, _, err = run("visualize-aug")
    assert code == 2
    assert "--config" in err


def test_pictures_are_never_written_among_the_images(run: Run, config: str, root: Path) -> None:
    before = sorted(root.rglob("*.jpg"))
    for output in (root / "images" / "train", root / "images" / "train" / "deeper"):
        code, _, err = run(
            "visualize-aug", "-c", config, "--data.train_images=images/train", "-n", "1", "-o", str(output)
        )
        assert code == 2
        assert "lies among the images" in err
    assert sorted(root.rglob("*.jpg")) == before and not (root / "images/train/deeper").exists()


def test_a_folder_that_cannot_be_written_is_named(run: Run, config: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("visualize-aug", "-c", config, "-n", "1", "--seed", "1", "-o", str(tmp_path / "file" / "out"))
    assert code == 1
    assert "cannot be written" in err


def test_the_data_group_lists_its_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from yolo.cli.main import main; main(['data', '--help']); main(['visualize-aug', '--help']);"
        "print(sorted({'torch', 'numpy', 'cv2', 'PIL', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    for name in ("check", "decrypt", "encrypt"):
        assert any(line.strip().startswith(name) for line in lines)


def test_every_command_of_the_data_group_loads(run: Run) -> None:
    for name in ("check", "decrypt", "encrypt"):
        code, out, err = run("data", name, "--help")
        assert (code, err) == (0, "")
        assert f"yolo data {name}" in out
    code, _, err = run("data", "chek")
    assert code == 2
    assert "Did you mean 'check'" in err
