"""What a person sees while a training runs."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from yolo.training.callbacks import TrainingSummaryCallback, YOLOCheckpoint, YOLOProgressBar, progress, summary
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule


def fit(network: Path, data: Path, *callbacks: Callback, root: Path | None = None, epochs: int = 2) -> None:
    Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=root is not None,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, callbacks=list(callbacks),
        check_val_every_n_epoch=2, default_root_dir=root,
    ).fit(
        YOLOModule(model_config=str(network)),
        datamodule=YOLODataModule(root=str(data), image_size=64, batch_size=4, num_workers=0),
    )  # fmt: skip


def test_without_a_terminal_lines_show_epoch_losses_rate_and_time(
    small_network: Path,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    fit(
        small_network,
        tiny_data,
        YOLOProgressBar(),
        TrainingSummaryCallback(),
        YOLOCheckpoint(save_last=True),
        root=tmp_path,
        epochs=3,
    )
    printed = capsys.readouterr().out
    assert "\r" not in printed and "\x1b" not in printed, "nothing but plain lines goes into a file"
    lines = printed[printed.index("Epoch 1/3") :].splitlines()
    assert lines[0].startswith("Epoch 1/3  1/2  box ")
    assert all(word in lines[0] for word in (" cls ", " dfl ", " lr ", " left"))
    assert lines[1].startswith("Epoch 1/3  2/2 ")
    assert re.match(r"Epoch 1/3 done in \S+ s  loss \S+  box \S+  cls \S+  dfl \S+$", lines[2])
    assert lines[3] == "  written: last.ckpt", "this epoch was not validated"
    assert " left" in lines[5]
    assert lines[6] == "Epoch 2/3 validation  1/1"
    assert lines[7].startswith("Epoch 2/3 done in ")
    assert re.match(r"  mAP 0\.\d{4} \[NEW BEST\]  mAP50 0\.\d{4}$", lines[8])
    assert lines[9] == "  written: best.ckpt, last.ckpt"
    assert lines[11].endswith("  0.0 s left")
    assert lines[12].startswith("Epoch 3/3 done in ")
    assert lines[13] == "  written: last.ckpt"


def test_without_a_terminal_a_short_epoch_is_no_flood(
    small_network: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(small_network, tiny_data, YOLOProgressBar(), epochs=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert len(lines) == 1, "the next line is due after some seconds"


def test_disabled_nothing_is_shown(small_network: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_network, tiny_data, YOLOProgressBar(enabled=False), TrainingSummaryCallback(enabled=False))
    shown = capsys.readouterr().out
    assert "Epoch" not in shown
    assert "parameters" not in shown


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_the_bar_fits_the_terminal_and_gives_up_the_least_important_first(width: int) -> None:
    line = progress._Line()
    line.title, line.done, line.total = "Epoch 12/100", 34, 340
    line.pieces = [(1, "box 1.234"), (1, "cls 1.234"), (1, "dfl 1.234"), (3, "lr 1.00e-02"), (2, "1 h 40 min left")]
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None).print(line, end="")
    shown = file.getvalue()
    assert len(shown) < width and "\n" not in shown
    assert shown.startswith("Epoch 12/100  ")
    assert "34/340" in shown
    assert [text in shown for text in ("box 1.234", "1 h 40 min left", "lr 1.00e-02")] == [
        width > 30, width > 60, width > 80,
    ]  # fmt: skip
    assert ("━" in shown) == (width != 60), "a bar is drawn where there is room for it"


def test_the_time_of_an_epoch_is_told_once_after_the_first_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 150.0])
    monkeypatch.setattr(summary.time, "monotonic", lambda: next(clock))  # looked at twice: 10 batches in 50 seconds
    trainer = SimpleNamespace(
        is_global_zero=True, num_training_batches=120, max_epochs=10, current_epoch=4,
        fit_loop=SimpleNamespace(batch_idx=12),
    )  # fmt: skip
    callback = TrainingSummaryCallback()
    for _ in range(40):
        callback.on_train_batch_end(trainer, None)
    assert capsys.readouterr().out == (
        "About 10 min an epoch, 58 min 55 s in all (measured over 10 batches, without validation)\n"
    )


@pytest.mark.parametrize(
    ("score", "text", "best"),
    [
        (0.5, "mAP 0.5000 (+0.0500) [NEW BEST]", (0.5, 8)),
        (0.43, "mAP 0.4300 (-0.0200)  best 0.4500 in epoch 3", (0.45, 3)),
        (0.45, "mAP 0.4500 (+0.0000)  best 0.4500 in epoch 3", (0.45, 3)),
    ],
)
def test_an_epoch_is_compared_with_the_best(
    score: float,
    text: str,
    best: tuple[float, int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = YOLOModule(model_config="v9-t")
    monkeypatch.setattr(module, "metrics_of_epoch", lambda: {"val/mAP": score, "val/mAP50": 0.75})
    trainer = SimpleNamespace(
        is_global_zero=True, current_epoch=7, max_epochs=10, callback_metrics={"train/loss_epoch": 3.25},
        early_stopping_callback=None, checkpoint_callbacks=[],
    )  # fmt: skip
    callback = TrainingSummaryCallback()
    callback.load_state_dict({"best": 0.45, "best_epoch": 3})
    callback.on_train_epoch_end(trainer, module)
    colours = [("\x1b[32m" in line, "\x1b[31m" in line) for line in callback._lines]
    assert colours == [(False, False), (score > 0.45, score < 0.45)]
    callback.on_train_end(trainer, module)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Epoch 8/10 done in ") and first.endswith("  loss 3.250")
    assert second == f"  {text}  mAP50 0.7500"
    assert callback.state_dict() == {"best": best[0], "best_epoch": best[1]}


def test_colour_is_for_terminals_that_want_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {}
    for name, terminal, no_colour in (("pipe", False, ""), ("terminal", True, ""), ("plain terminal", True, "1")):
        monkeypatch.setenv("NO_COLOR", no_colour)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        summary._show("\x1b[32mnew\x1b[0m")
        shown[name] = capsys.readouterr().out
    assert shown == {"pipe": "new\n", "terminal": "\x1b[32mnew\x1b[0m\n", "plain terminal": "new\n"}
