"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from availability import cannot_run

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def messages_stay_in_their_test() -> Iterator[None]:
    """Take away what a command set up to show its messages."""
    log = logging.getLogger("yolo")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:], log.level = handlers, level


@pytest.fixture(autouse=True)
def signals_stay_in_their_test() -> Iterator[None]:
    """Take away handlers that were set: what a worker process ignores, the tests that come next may be about."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data and real images that lies beside the checkout."""
    if not SHARED.is_dir():
        cannot_run(f"{SHARED} is not here: clone beside the shared folder, or set YOLO_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def reference(shared: Path) -> Path:
    """Golden facts about networks, losses, post-processing and metrics."""
    return shared / "reference"


@pytest.fixture(scope="session")
def datasets(shared: Path) -> Path:
    """The real and the hostile data sets."""
    return shared / "datasets"


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training and eight validation pictures of 96 pixels that yolo-data draws, in both layouts."""
    from yolo.data.synthetic import ensure_synthetic

    return ensure_synthetic(tmp_path_factory.mktemp("synthetic") / "data", train=16, val=8, image_size=96)


@pytest.fixture(scope="session")
def trained_run(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training of v9-t that is made once, with ``checkpoints/best.ckpt`` in it."""
    from yolo.training.trainer_cli import run_fit

    root = tmp_path_factory.mktemp("trained")
    options = {
        "data.root": synthetic_data,
        "data.image_size": 96,
        "data.batch_size": 4,
        "data.num_workers": 0,
        "data.close_mosaic_epochs": 0,
        "data.mosaic_prob": 0,
        "data.scale": 0.1,
        "data.translate": 0,
        "ema.tau": 20,
        "model.model_config": "v9-t",
        "model.warmup_epochs": 0,
        "trainer.max_epochs": 30,
        "trainer.check_val_every_n_epoch": 15,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.logger.init_args.save_dir": root,
    }
    assert run_fit([f"--{key}={value}" for key, value in options.items()]) == 0
    return root / "yolo" / "version_0"
