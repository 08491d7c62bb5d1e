"""`yolo ray fit` on a real Ray with two workers on this machine. Run it with `bash scripts/test_ray.sh`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from yolo.core.errors import UsageError
from yolo_ray.launch import launch
from yolo_ray.options import RayOptions

pytest.importorskip("ray.train", reason="Ray is not installed here; `bash scripts/test_ray.sh` tests with it")

YOLO = Path(sys.executable).with_name("yolo")
SETTINGS = {
    "data.image_size": 64,
    "data.batch_size": 3,
    "data.num_workers": 0,
    "data.mosaic_prob": 0,
    "model.model_config": "v9-t",
    "model.warmup_epochs": 0,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.num_sanity_val_steps": 0,
    "record.images": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A number of pictures that two processes cannot share evenly."""
    from yolo.data.synthetic import ensure_synthetic

    return ensure_synthetic(tmp_path_factory.mktemp("ray") / "data", train=11, val=5, image_size=64)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for Ray with a short name, because sockets are made in it, and for a home that must stay empty."""
    folder = Path(tempfile.mkdtemp(prefix="yr"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _yolo(folder: Path, scratch: Path, *args: object) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    paths = {"HOME": str(home), "RAY_TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(
        [YOLO, *map(str, args)],
        cwd=folder,
        env={**os.environ, **paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not list(home.glob(".ray*")) + list(home.glob("ray*")), "Ray writes nothing into the user's home"
    return run


def test_two_workers_one_of_which_dies_do_what_two_processes_do(data: Path, scratch: Path, tmp_path: Path) -> None:
    """The second worker is killed in mid-epoch; the numbers of both epochs are those of `yolo fit` all the same."""
    options = [f"--data.root={data}", *(f"--{key}={value}" for key, value in SETTINGS.items())]
    plain = _yolo(tmp_path / "plain", scratch, "fit", *options, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert plain.returncode == 0, plain.stdout + plain.stderr

    dies = tmp_path / "dies.yaml"
    mark = tmp_path / "died"
    dies.write_text(f"trainer: {{callbacks: [{{class_path: dying.DiesOnce, init_args: {{mark: {mark}}}}}]}}\n")
    ours = tmp_path / "ray"
    run = _yolo(ours, scratch, "ray", "fit", "--num-workers", 2, "--max-failures=1", "--config", dies, *options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert mark.exists(), "a worker was to be killed"
    assert "going on from" in run.stdout

    results = "runs/yolo/version_0/results.csv"
    assert (ours / results).read_text() == (tmp_path / "plain" / results).read_text()
    assert [folder.name for folder in (ours / "runs/yolo").iterdir()] == ["version_0"], "it went on in its own folder"
    assert len(list((ours / "runs/yolo/version_0").glob("events.*"))) == 2, "of the first process alone, twice started"
    assert "Ray" not in (ours / "runs/yolo/version_0/config.yaml").read_text(), "plain `yolo fit` takes it again"

    (record,) = (ours / "runs/ray").iterdir()
    saved = Path(run.stderr.partition("Ray keeps the last and the best checkpoint in ")[2].splitlines()[0])
    assert saved.parent == record
    for name in ("last.ckpt", "best.ckpt"):
        assert (saved / name).read_bytes() == (ours / "runs/yolo/version_0/checkpoints" / name).read_bytes()
    reported = json.loads((record / "checkpoint_manager_snapshot.json").read_text())
    assert "val/mAP" in json.dumps(reported)


def test_what_a_worker_cannot_do_is_one_line(scratch: Path, tmp_path: Path) -> None:
    """The options are right, so that Ray is started; the data is not there."""
    run = _yolo(tmp_path / "x", scratch, "ray", "fit", "--num-workers=1", "--data.root=/nowhere", "--data.format=yolo")
    assert run.returncode in (1, 2)
    *_, last = run.stderr.strip().splitlines()
    assert last.startswith("Error: worker 0 on ")
    assert "/nowhere" in last
    assert "Traceback" not in run.stderr + run.stdout
    assert not (tmp_path / "x/runs/yolo").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no port"])
def test_a_cluster_that_is_not_there(address: str) -> None:
    with (
        patch.dict(os.environ),
        pytest.raises(UsageError, match=f"--address {address}: no Ray cluster can be joined from here"),
    ):
        launch(RayOptions(num_workers=2, address=address), [])
