"""``yolo fit --find-lr``: rates are those of the ramp, and what is read off the curve is what is in it."""

from __future__ import annotations

import csv
import math
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from yolo.cli.main import main
from yolo.core.errors import UsageError, YoloError
from yolo.training.trainer_cli import make_cli
from yolo.training.tuning.find_lr import FindLRCLI, RangeTest, run_find_lr
from yolo.training.tuning.lr_curve import Point, Smoother, ramp, read_curve, rounded, smoothed


def options(data: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "trainer.accelerator": "cpu", "find-lr-min": 1e-4, "find-lr-max": 1e-2,
        "find-lr-steps": 10,
    }  # fmt: skip
    return ["--find-lr", *(f"--{key}={value}" for key, value in {**settings, **more}.items())]


def fitted(args: list[str], *watches: Callback, losses: list[float] | None = None) -> FindLRCLI:
    """Run the test, with given losses instead of those of the network."""
    cli = make_cli(args, FindLRCLI)
    cli.trainer.callbacks.extend(watches)
    if losses is not None:
        numbers = iter(losses)

        def step(batch, batch_idx):
            return sum(p.sum() for p in cli.model.model.parameters()) * 0 + next(numbers) * len(batch.images)

        cli.model.training_step = step
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli


class Watch(Callback):
    """Notes the groups after every step, and what a step did to a bias, a norm and a kernel."""

    def __init__(self) -> None:
        self.rates: list[set[float]] = []
        self.momenta: list[set[float]] = []
        self.errors: list[float] = []
        self._before: list[torch.Tensor] = []

    def on_train_start(self, trainer, pl_module) -> None:
        optimizer = trainer.optimizers[0]
        firsts = [group["params"][0] for group in optimizer.param_groups]
        assert {group["name"] for group in optimizer.param_groups} == {"bias", "norm", "weight"}

        def before(*_) -> None:
            self._before = [value.detach().clone() for value in firsts]

        def after(*_) -> None:
            self.rates.append({group["lr"] for group in optimizer.param_groups})
            self.momenta.append({group.get("momentum", -1.0) for group in optimizer.param_groups})
            rate = optimizer.param_groups[0]["lr"]
            for old, new in zip(self._before, firsts, strict=True):
                if new.grad is None:
                    continue
                expected = old - rate * new.grad
                self.errors.append(float((new - expected).abs().max()))

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)


def test_every_group_takes_the_rates_of_the_ramp(tiny_data: Path, tmp_path: Path, monkeypatch) -> None:
    """With accumulation, over several epochs; the schedule and its warm-up have no say."""
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    plain = {"model.momentum": 0, "model.weight_decay": 0, "trainer.accumulate_grad_batches": 3}
    cli = fitted(options(tiny_data, **plain), watch)
    expected = [1e-4 * 100 ** (step / 9) for step in range(10)]
    assert watch.rates == [{rate} for rate in cli.test.rates]
    assert list(cli.test.rates) == pytest.approx(expected)
    assert len(watch.errors) == 30 and max(watch.errors) < 1e-6, "and the step was taken with that rate"
    assert [point.rate for point in cli.test.points] == pytest.approx(expected)
    assert [point.step for point in cli.test.points] == list(range(10)) and not cli.test.diverged
    assert all(math.isfinite(point.loss) for point in cli.test.points)
    assert list(tmp_path.iterdir()) == [], "nothing is written yet, above all no run folder"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_momentum_is_that_after_the_warm_up(tiny_data: Path, optimizer: str) -> None:
    watch = Watch()
    args = options(tiny_data, **{"model.optimizer": optimizer, "trainer.precision": "bf16-mixed"})
    cli = fitted([*args, "--model.freeze_layers=[0,1]"], watch)
    assert watch.rates == [{rate} for rate in cli.test.rates]
    assert watch.momenta == [{0.937 if optimizer == "sgd" else -1.0}] * 10
    assert cli.model.freezing


def test_the_loss_of_a_step_is_the_mean_over_its_batches(tiny_data: Path) -> None:
    """Eight images in batches of three: 3, 3 and 2, of which two make a step and the rest of the epoch another."""
    args = options(tiny_data, **{"data.batch_size": 3, "trainer.accumulate_grad_batches": 2})
    cli = fitted(args, losses=[1.0, 3.0, 10.0] * 5)
    assert [point.loss for point in cli.test.points] == pytest.approx([2.0, 10.0] * 5)


@pytest.mark.parametrize("bad", [1e5, math.nan])
def test_it_ends_where_the_loss_runs_away(tiny_data: Path, bad: float) -> None:
    watch = Watch()
    cli = fitted(options(tiny_data, **{"find-lr-steps": 40}), watch, losses=[10.0] * 15 + [bad] * 40)
    assert cli.test.diverged and len(watch.rates) == 16
    assert len(cli.test.points) == (16 if math.isfinite(bad) else 15)


def test_the_smoothed_loss_begins_where_the_loss_does() -> None:
    smoother = Smoother(0.9)
    assert [smoother.add(5.0) for _ in range(3)] == pytest.approx([5.0] * 3)
    assert smoother.add(0.0) == pytest.approx(5.0 * (0.9 + 0.81 + 0.729) / (1 + 0.9 + 0.81 + 0.729))


def curve(loss, *, steps: int = 200, low: float = 1e-5, high: float = 1.0) -> list[Point]:
    return [Point(step, rate, loss(rate)) for step, rate in enumerate(ramp(low, high, steps))]


def sigmoid(rate: float, at: float, width: float = 0.4) -> float:
    return 1 / (1 + math.exp((math.log10(rate) - math.log10(at)) / width))


def test_the_steepest_place_is_found_without_the_lag_of_smoothing() -> None:
    for at in (1e-3, 1e-2):
        reading = read_curve(curve(lambda rate, at=at: 10 + 10 * sigmoid(rate, at)), diverged=False)
        assert reading.rate == reading.steepest == pytest.approx(at, rel=0.3)
        assert (reading.diverged, reading.rule) == (None, "where the loss falls fastest")


def test_a_rate_near_the_end_of_the_good_ones_is_not_taken() -> None:
    points = [point for point in curve(lambda rate: 10 + 10 * sigmoid(rate, 0.05)) if point.rate <= 0.2]
    reading = read_curve(points, diverged=True)
    assert reading.diverged == points[-1].rate and reading.steepest is not None and reading.steepest > 0.03
    assert reading.rate == points[-1].rate / 10 and reading.rule.startswith("a tenth")


def test_a_loss_that_does_not_fall_suggests_a_tenth_or_nothing() -> None:
    for loss in (lambda rate: 10 + math.log10(rate), lambda _: 10.0, lambda rate: 10 - 0.01 * math.log10(rate)):
        reading = read_curve(curve(loss), diverged=False)
        assert (reading.rate, reading.steepest) == (None, None)
        assert read_curve(curve(loss), diverged=True).rate == pytest.approx(0.1)


def test_noise_at_the_beginning_is_not_taken_for_a_fall() -> None:
    """A real test of v9-t on blood cells: flat up to 1e-3, falling until 5e-2, then away."""
    points = curve(lambda rate: 12.5 + 3.5 * sigmoid(rate, 7e-3), steps=100)
    noise = torch.randn(100, generator=torch.Generator().manual_seed(1)).tolist()
    noisy = [Point(p.step, p.rate, p.loss + 0.9 * n) for p, n in zip(points, noise, strict=True)]
    ends = [Point(p.step, p.rate, 5000.0 if p.rate > 0.15 else p.loss) for p in noisy if p.rate < 0.3]
    for found in (noisy, ends):
        reading = read_curve(found, diverged=found is ends)
        assert reading.steepest is not None and 2e-3 < reading.steepest < 2.5e-2
    assert max(smoothed(ends)[:70]) < 18, "the end does not bend what comes before"
    assert rounded(0.0186732) == 0.019 and rounded(1.26e-5) == 1.3e-5


def test_the_command(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path for path in tiny_data.rglob("*") if path.suffix != ".cache"}
    more = {"find-lr-steps": 30, "find-lr-max": 0.05, "data.batch_size": 4, "ema.decay": 0.9}
    assert main(["fit", *options(tiny_data, **more), "-o", "out/lr.png"]) == 0
    printed = capsys.readouterr().out
    assert "v9-t at 64x64, sgd, steps of 4 images: 30 steps, rates 0.0001 to 0.05" in printed
    rate = float(printed.split("--model.learning_rate ")[1].split()[0])
    assert 1e-4 <= rate <= 0.05
    with (tmp_path / "out/lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(30))
    assert float(rows[-1]["rate"]) == pytest.approx(0.05) and float(rows[-1]["smoothed"]) < float(rows[0]["smoothed"])
    with Image.open(tmp_path / "out/lr.png") as picture:
        assert picture.size == (900, 500) and len(picture.convert("RGB").getcolors(1 << 20)) > 50
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "lr.png", "lr.csv"}
    assert {path for path in tiny_data.rglob("*") if path.suffix != ".cache"} == before


def test_a_loss_that_never_falls_is_said(tiny_data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "yolo.training.module.YOLOModule.training_step", lambda self, batch, batch_idx: _given(self, 7.0)
    )
    assert main(["fit", *options(tiny_data), "-o", str(tmp_path / "lr.png")]) == 1
    assert "the loss neither falls nor runs away" in capsys.readouterr().err
    assert (tmp_path / "lr.png").is_file()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"find-lr-min": 1}, "--find-lr-min 1 --find-lr-max 0.01: the first has to be"),
        ({"find-lr-min": 0}, "--find-lr-min 0"),
        ({"find-lr-steps": 5}, "--find-lr-steps 5: it takes 10 or more"),
        ({"output": "lr.gif"}, "the name has to end with .png"),
        ({"ckpt_path": "last.ckpt"}, "--ckpt_path: nothing is resumed here"),
        ({"find-lr-stepps": 5}, "stepps"),
    ],
)
def test_mistakes_are_one_line(wrong: dict[str, object], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *options(Path("nowhere"), **wrong)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and text in lines[0]


def test_a_loss_that_runs_away_at_once(tiny_data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "yolo.training.module.YOLOModule.training_step", lambda self, batch, batch_idx: _given(self, math.nan)
    )
    with pytest.raises(YoloError, match=r"ran away after 0 steps, .* lower --find-lr-min \(now 0\.0001\)"):
        run_find_lr(options(tiny_data))
    assert list(tmp_path.iterdir()) == []


def _given(module, loss: float) -> torch.Tensor:
    return sum(value.sum() for value in module.model.parameters()) * 0 + loss


def test_a_wrong_option_is_said_by_the_first_process_only(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = options(tiny_data, **{"model.nonsense": 1})
    with pytest.raises(UsageError, match="nonsense"):
        run_find_lr(args)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as ended:
        run_find_lr(args)
    assert ended.value.code == 0


def test_a_key_press_ends_it_with_the_code_of_the_signal(
    tiny_data: Path, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RangeTest, "on_train_start", stop)
    before = signal.getsignal(signal.SIGINT)  # which Lightning takes away
    try:
        assert run_find_lr(options(tiny_data, **{"model.model_config": small_network})) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())
