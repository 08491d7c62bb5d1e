"""What Lightning's Trainer cannot work with is one line that names the option, before anything is read or written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.training.callbacks import EMACallback, YOLOEarlyStopping
from yolo.training.trainer_options import (
    check_sections,
    check_seed,
    check_trainer,
    check_validation,
    naming_the_option,
)

GOOD: dict[str, Any] = {
    "max_epochs": -1, "max_steps": 0, "accumulate_grad_batches": 1, "gradient_clip_val": None,
    "num_sanity_val_steps": -1, "limit_train_batches": 1.0, "limit_val_batches": 0, "val_check_interval": 7,
    "max_time": "00:08:00:00", "check_val_every_n_epoch": None, "use_distributed_sampler": False,
}  # fmt: skip


def test_what_can_be_trained_with_passes() -> None:
    check_trainer(GOOD)
    check_trainer({"limit_val_batches": 0.0, "limit_train_batches": 0.5, "max_time": {"hours": 3}})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("max_epochs", -2, "it has to be -1 or more"),
        ("accumulate_grad_batches", 0, "it has to be 1 or more"),
        ("gradient_clip_val", -0.5, "it has to be 0 or more"),
        ("limit_train_batches", 0, "it has to be 1 or more batches, or a share of them"),
        ("limit_train_batches", 0.0, "a share of the batches is above 0 and at most 1.0"),
        ("limit_val_batches", 1.5, "a share of the batches is above 0 and at most 1.0"),
        ("val_check_interval", 0, "it has to be 1 or more batches, or a share of them"),
        ("max_time", "8 hours", "write days:hours:minutes:seconds, as in 00:08:00:00"),
        ("use_distributed_sampler", True, "leave it out: our samplers share the images already"),
    ],
)
def test_what_cannot_is_named(key: str, value: object, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_trainer({**GOOD, key: value})
    assert str(caught.value).startswith(f"trainer.{key} is {str(value).lower() if value is True else value}; ")
    assert said in str(caught.value)


def test_a_seed_that_numpy_does_not_take() -> None:
    for fine in (True, False, 0, (1 << 32) - 1):
        check_seed(fine)
    for wrong in (-1, 1 << 32):
        with pytest.raises(UsageError, match=f"seed_everything is {wrong}; it has to be from 0 to 4294967295"):
            check_seed(wrong)


def test_a_section_of_a_file_is_no_list(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("trainer:\nema: {decay: 0.5}\n")
    bad.write_text("ema: [0.5]\n")
    check_sections([f"--config={good}", "--ema.tau=3"], ("trainer", "ema"))
    with pytest.raises(UsageError, match=r"bad\.yaml: `ema:` must hold keys and values"):
        check_sections([f"--config={good}", f"--config={bad}"], ("trainer", "ema"))


@pytest.mark.parametrize(
    ("given", "said", "told"),
    [
        (
            {"accelerator": "cpu", "devices": "0"},
            "`Trainer(devices='0')` value is not a valid input using cpu accelerator.",
            "trainer.devices is 0: `Trainer(devices='0')` value is not",
        ),
        ({"strategy": "a("}, "There is no a( here.\n  Choose another.", "trainer.strategy is a(: There is no a( here."),
        ({"max_epochs": 3, "callbacks": []}, "Nobody knows why.", "trainer: Nobody knows why."),
    ],
)
def test_what_lightning_refuses_names_the_option_it_is_about(given: dict[str, Any], said: str, told: str) -> None:
    with pytest.raises(UsageError) as caught, naming_the_option(given):
        raise ValueError(said)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.devices=x"], "Error: trainer.devices is x: "),
        (["--trainer.strategy=foo("], "Error: trainer.strategy is foo(: "),
        (["--trainer.max_epoch=3"], "Error: --trainer.max_epoch is no option. Did you mean '--trainer.max_epochs'"),
        (["--seed_everything=-1"], "Error: seed_everything is -1; "),
        (["--ema.decay=1"], "Error: ema.decay is 1.0; it has to be at least 0 and below 1"),
    ],
)
def test_the_command_says_so_in_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "quickstart", "--trainer.accelerator=cpu", *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Seed set")]
    assert line.startswith(said)


def test_an_epoch_is_long_enough_to_be_validated_within() -> None:
    trainer = SimpleNamespace(val_check_interval=4, check_val_every_n_epoch=1, limit_val_batches=1.0)
    check_validation(trainer, lambda: 4)  # type: ignore[arg-type]
    for key, value in (("check_val_every_n_epoch", None), ("limit_val_batches", 0), ("val_check_interval", 1.0)):
        check_validation(SimpleNamespace(**{**vars(trainer), key: value}), lambda: 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"trainer\.val_check_interval is 4, but an epoch has 3 batches"):
        check_validation(trainer, lambda: 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (EMACallback, {"decay": 1.0}, r"ema\.decay is 1\.0; it has to be at least 0 and below 1"),
        (EMACallback, {"decay": -0.1}, r"ema\.decay is -0\.1"),
        (EMACallback, {"tau": 0.0}, r"ema\.tau is 0\.0; it has to be above 0"),
        (YOLOEarlyStopping, {"mode": "up"}, r"early_stopping\.mode is up; it has to be max or min"),
        (YOLOEarlyStopping, {"patience": -1}, r"early_stopping\.patience is -1; it cannot be negative"),
    ],
)
def test_callbacks_refuse_what_makes_no_sense(kind: type, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kind(**options)
