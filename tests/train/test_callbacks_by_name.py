"""Callbacks are set by name; the specification's lists in YAML work unchanged, and nothing runs twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar

from yolo.core.errors import UsageError
from yolo.training import callbacks as ours
from yolo.training.callback_list import NAMED_CALLBACKS, answer_place_in_list
from yolo.training.callbacks import EMACallback, YOLOCheckpoint, YOLOEarlyStopping
from yolo.training.trainer_cli import YOLOCLI, make_cli, run_fit

OURS, LIGHTNING = "yolo.training.callbacks", "lightning.pytorch.callbacks"


class PartCLI(YOLOCLI):
    """Makes the callbacks, and no trainer."""

    def _set_seed(self) -> None:
        """Draw nothing."""


def parsed(*args: str) -> tuple[Any, list[Callback]]:
    """Return the configuration of a command line and the callbacks of its trainer."""
    cli = make_cli([*args, "--trainer.logger=false", "--trainer.accelerator=cpu"], PartCLI)
    return cli.config, list(cli.trainer.callbacks)


def only(callbacks: list[Callback], kind: type[Callback]) -> Any:
    found = [callback for callback in callbacks if isinstance(callback, kind)]
    assert len(found) == 1, (kind, callbacks)
    return found[0]


def entry(class_path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, **({"init_args": arguments} if arguments else {})}


@pytest.fixture
def write(tmp_path: Path):
    """Write a configuration; returns the option that names it."""

    def written(*entries: dict[str, Any] | str, name: str = "run", **sections: Any) -> str:
        trainer = {"callbacks": list(entries)} if entries else {}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"trainer": trainer, **sections}))
        return f"--config={tmp_path / f'{name}.yaml'}"

    return written


# The lists of the specification, one by one: what stands in them, and what has to come of it.
BLOCKS = {
    "ema": ([entry(f"{OURS}.EMACallback", decay=0.9999, tau=2000, enabled=True)], {"ema": (0.9999, 2000.0, True)}),
    "ema, float tau": ([entry(f"{OURS}.EMACallback", decay=0.9999, tau=2000.0, enabled=True)], {}),
    "ema, on": ([entry(f"{OURS}.EMACallback", enabled=True)], {"ema": (0.9999, 2000.0, True)}),
    "ema, off": ([entry(f"{OURS}.EMACallback", enabled=False)], {"ema": (0.9999, 2000.0, False)}),
    "dashboard": (
        [entry(f"{OURS}.EvalDashboardCallback", conf_prod=0.25, show_trends=True, top_n_classes=3)],
        {"dashboard": (0.25, True, 3)},
    ),
    "dashboard, more classes": (
        [entry(f"{OURS}.EvalDashboardCallback", conf_prod=0.25, show_trends=True, top_n_classes=5)],
        {"dashboard": (0.25, True, 5)},
    ),
    "progress": ([entry(f"{OURS}.YOLOProgressBar")], {}),
    "checkpoints": (
        [
            entry(
                f"{LIGHTNING}.ModelCheckpoint",
                dirpath="checkpoints/",
                monitor="val/mAP",
                mode="max",
                save_top_k=3,
                save_last=True,
                filename="{name}-{epoch:02d}-mAP={val/mAP:.4f}",
            ),
            entry(
                f"{LIGHTNING}.ModelCheckpoint",
                dirpath="checkpoints/",
                monitor="val/mAP",
                mode="max",
                save_top_k=1,
                filename="best",
            ),
        ],
        {"saved": [(3, "max"), (1, "max")]},
    ),
    "early stopping": (
        [
            entry(
                f"{LIGHTNING}.EarlyStopping",
                monitor="val/mAP",
                mode="max",
                patience=50,
                verbose=True,
                min_delta=0.0,
                check_on_train_epoch_end=False,
            )
        ],
        {"early_stopping": ("val/mAP", "max", 50)},
    ),
}
TOGETHER = [
    listed for name in ("checkpoints", "early stopping", "ema", "dashboard", "progress") for listed in BLOCKS[name][0]
]


@pytest.mark.parametrize("name", BLOCKS)
def test_every_list_of_the_specification_works_and_doubles_nothing(name: str, write) -> None:
    listed, expected = BLOCKS[name]
    config, callbacks = parsed(write(*listed))
    kinds = Counter(type(callback) for callback in callbacks)
    assert all(kinds[kind] == 1 for kind in NAMED_CALLBACKS.values())
    assert (
        sum(isinstance(one, EarlyStopping) for one in callbacks)
        == sum(isinstance(one, ProgressBar) for one in callbacks)
        == 1
    )
    ema, dashboard = only(callbacks, EMACallback), only(callbacks, ours.EvalDashboardCallback)
    stopping = only(callbacks, EarlyStopping)
    made = {
        "ema": (ema.decay, ema.tau, ema.enabled),
        "dashboard": (dashboard.conf_prod, dashboard.show_trends, dashboard.top_n_classes),
        "early_stopping": (stopping.monitor, stopping.mode, stopping.patience),
        "saved": [(one.save_top_k, one.mode) for one in callbacks if isinstance(one, ModelCheckpoint)],
    }
    assert made == {**made, **expected}
    assert all(isinstance(one, YOLOCheckpoint) for one in callbacks if isinstance(one, ModelCheckpoint))
    assert any(one.save_last for one in callbacks if isinstance(one, ModelCheckpoint)), "or it could not be resumed"
    assert len({one.state_key for one in callbacks}) >= len(
        [one for one in callbacks if isinstance(one, ModelCheckpoint)]
    )
    if name == "ema, off":
        assert config.ema.enabled is False, "what is recorded is what runs"


def test_all_of_them_in_one_file(write) -> None:
    _, callbacks = parsed(write(*TOGETHER))
    kinds = Counter(type(callback) for callback in callbacks)
    assert kinds[YOLOCheckpoint] == 2 and all(kinds[kind] == 1 for kind in NAMED_CALLBACKS.values())


def test_settings_by_name() -> None:
    _, callbacks = parsed(
        "--ema.decay", "0.999", "--early_stopping.patience", "20", "--early_stopping.enabled", "false",
        "--dashboard.top_n_classes", "5",
    )  # fmt: skip
    stopping = only(callbacks, EarlyStopping)
    assert only(callbacks, EMACallback).decay == 0.999
    assert (stopping.patience, stopping.enabled) == (20, False)
    assert only(callbacks, ours.EvalDashboardCallback).top_n_classes == 5


@pytest.mark.parametrize(
    ("files", "options", "decay"),
    [
        (["list 0.1"], [], 0.1),
        (["list 0.1", "name 0.2"], [], 0.2),
        (["name 0.2", "list 0.1"], [], 0.1),
        (["both 0.1 0.2"], [], 0.2),  # in one file the name wins
        (["list 0.1", "list 0.3"], [], 0.3),
        (["name 0.2", "list"], [], 0.2),  # a list that does not say it changes nothing
        (["list 0.1", "name 0.2"], ["--ema.decay=0.4"], 0.4),
        (["list 0.1"], ["--ema.decay", "0.4"], 0.4),
        (["list 0.1"], ["--ema={decay: 0.4}"], 0.4),
        (["name 0.2"], [f"--trainer.callbacks+={OURS}.EMACallback", "--trainer.callbacks.decay=0.5"], 0.5),
        (["list 0.1"], ["--trainer.callbacks=null"], 0.9999),
    ],
)
def test_the_later_source_wins_and_within_one_the_name(
    files: list[str], options: list[str], decay: float, write
) -> None:
    args = []
    for number, text in enumerate(files):
        kind, *values = text.split()
        listed = values[0] if kind in ("list", "both") and values else None
        named = values[-1] if kind in ("name", "both") else None
        entries = (
            [entry(f"{OURS}.EMACallback", **({"decay": float(listed)} if listed else {}))] if kind != "name" else []
        )
        sections = {"ema": {"decay": float(named)}} if named else {}
        args.append(write(*entries, name=str(number), **sections))
    config, callbacks = parsed(*args, *options)
    assert only(callbacks, EMACallback).decay == config.ema.decay == decay


def test_what_a_list_leaves_out_is_ours_not_lightnings(write) -> None:
    """Lightning would wait for three epochs, and take the lowest mAP for the best."""
    _, callbacks = parsed(
        write(
            entry(f"{LIGHTNING}.EarlyStopping", monitor="val/mAP50"),
            entry(f"{LIGHTNING}.ModelCheckpoint", monitor="val/mAP50"),
        )
    )
    stopping = only(callbacks, EarlyStopping)
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val/mAP50", "max", 50)
    assert (
        next(
            one for one in callbacks if getattr(one, "monitor", "") == "val/mAP50" and isinstance(one, YOLOCheckpoint)
        ).mode
        == "max"
    )
    _, callbacks = parsed(
        write(
            entry(f"{LIGHTNING}.EarlyStopping", monitor="train/loss_epoch"),
            entry(f"{LIGHTNING}.ModelCheckpoint", monitor="train/loss_epoch"),
        )
    )
    assert only(callbacks, EarlyStopping).mode == "min"
    assert (
        next(one for one in callbacks if isinstance(one, YOLOCheckpoint) and one.monitor == "train/loss_epoch").mode
        == "min"
    )


def test_short_names_and_a_single_entry(write, tmp_path: Path) -> None:
    _, callbacks = parsed(
        write("EMACallback", "RichProgressBar", entry("EarlyStopping", monitor="val/mAP", patience=2))
    )
    assert only(callbacks, EarlyStopping).patience == 2
    assert type(only(callbacks, ProgressBar)).__name__ == "RichProgressBar"
    (tmp_path / "one.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks": entry(f"{OURS}.EMACallback", decay=0.3)}})
    )
    _, callbacks = parsed(f"--config={tmp_path / 'one.yaml'}")
    assert only(callbacks, EMACallback).decay == 0.3


def test_a_second_early_stopping_watches_something_else(write) -> None:
    _, callbacks = parsed(
        write(
            entry(f"{LIGHTNING}.EarlyStopping", patience=3, monitor="val/mAP"),
            entry(f"{LIGHTNING}.EarlyStopping", monitor="val/f1"),
        )
    )
    found = {one.monitor: (one.patience, one.mode) for one in callbacks if isinstance(one, EarlyStopping)}
    assert found == {"val/mAP": (3, "max"), "val/f1": (3, "max")}


def test_one_of_ours_listed_twice_is_refused(write) -> None:
    with pytest.raises(UsageError, match="EMACallback is listed twice"):
        parsed(write(entry(f"{OURS}.EMACallback", decay=0.5), entry(f"{OURS}.EMACallback", decay=0.6)))


SOMEBODYS = """
from yolo.training.callbacks import EMACallback as Base
from lightning.pytorch import Callback

class Slower(Base):
    pass

class EMACallback(Callback):
    '''Has the name of ours, and nothing else of it.'''
"""


def test_somebodys_own_classes(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somebodys_callbacks.py").write_text(SOMEBODYS)
    monkeypatch.syspath_prepend(str(tmp_path))
    _, callbacks = parsed(write(entry("somebodys_callbacks.Slower", decay=0.5)))
    assert type(only(callbacks, EMACallback)).__name__ == "Slower", "a subclass stands in the place of ours"
    _, callbacks = parsed(write(entry("somebodys_callbacks.EMACallback")))
    assert len([one for one in callbacks if type(one).__name__ == "EMACallback"]) == 2
    assert only(callbacks, EMACallback).enabled


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--trainer.callbacks.6.init_args.decay=0.999", "use --ema.decay"),
        ("--trainer.callbacks.1.init_args.patience=100", "use --early_stopping.patience"),
        ("--trainer.callbacks.6.init_args.enabled=false", "--ema.enabled, --early_stopping.enabled"),
        ("--trainer.callbacks.6", "--ema.<option>"),
        ("--trainer.callbacks.6.init_args.nothing=1", "--ema.<option>"),
    ],
)
def test_a_place_in_the_list_is_answered_with_the_name(option: str, answer: str) -> None:
    with pytest.raises(UsageError) as told:
        run_fit([option])
    assert option.split("=")[0] in str(told.value) and answer in str(told.value)


def test_with_the_list_at_hand_the_answer_is_exact(write) -> None:
    file = write(*TOGETHER)
    for place, name in ((2, "early_stopping"), (3, "ema"), (4, "dashboard"), (5, "progress")):
        with pytest.raises(UsageError, match=rf"use --{name}\.enabled$"):
            run_fit([*file.split("="), f"--trainer.callbacks.{place}.init_args.enabled=false"])
    with pytest.raises(UsageError, match="change it in the file that lists it"):
        answer_place_in_list([file, "--trainer.callbacks.0.init_args.save_top_k=5"])


def test_the_defaults_of_every_named_callback_are_those_of_its_class() -> None:
    config, callbacks = parsed()
    for name, kind in NAMED_CALLBACKS.items():
        made, plain = only(callbacks, kind), kind()
        for key in vars(config[name]):
            if hasattr(plain, key):
                assert getattr(made, key) == getattr(plain, key), (name, key)
    assert only(callbacks, YOLOEarlyStopping).patience == 50
