"""The README's first command, as a user types it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

YOLO = Path(sys.executable).with_name("yolo")


@pytest.mark.slow
def test_the_quickstart_learns_and_says_what_it_wrote(tmp_path: Path) -> None:
    environment = {**os.environ, "YOLO_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [YOLO, "fit", "--config", "quickstart"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["mAP50"]) >= 0.6
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert (folder / "predictions.jpg").stat().st_size > 10_000
    best = "runs/quickstart/version_0/checkpoints/best.ckpt"
    assert f"yolo predict --checkpoint {best}" in run.stdout
