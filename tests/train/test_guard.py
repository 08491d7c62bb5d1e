"""Numbers that are not finite stop a training with an explanation, or cost it one step, and can be looked at again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from lightning.pytorch import Callback

from yolo.core.errors import YoloError
from yolo.core.losses import DetectionLoss
from yolo.core.models import build_model
from yolo.core.weights.bundle import read_checkpoint
from yolo.data.types import Batch
from yolo.training.callbacks import NonFiniteError, NonFiniteGuard
from yolo.training.commands.replay import replay
from yolo.training.examine import examine
from yolo.training.replay import Replay
from yolo.training.trainer_cli import make_cli

CONV = "2.conv1.conv.weight"


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.close_mosaic_epochs": 1, "model.model_config": "v9-t", "model.warmup_epochs": 0, "ema.tau": 3,
        "trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 0,
        "trainer.limit_val_batches": 0, "record.enabled": "false", "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


class Break(Callback):
    """Makes the numbers of one batch overflow, in a convolution or in the loss, and notes what happens."""

    def __init__(self, kind: str, at: int = 1, times: int = 1) -> None:
        self.kind, self.at, self.times = kind, at, times
        self.weights: list[dict[str, torch.Tensor]] = []
        self.momenta: list[torch.Tensor] = []

    def on_fit_start(self, trainer, pl_module) -> None:
        original = pl_module.compute_loss

        def loss(output, *args):
            found = original(output, *args)
            if not self.active:
                return found
            if self.kind == "loss":
                return replace(found, total=found.total * float("nan"), box=found.box * float("nan"))
            if self.kind == "gradient":
                sharp = output.main.cls[0] - output.main.cls[0].detach()
                return replace(found, total=found.total + sharp.abs().sqrt().sum())
            return found

        pl_module.compute_loss = loss

    @property
    def active(self) -> bool:
        return self.at <= len(self.weights) < self.at + self.times

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.active and self.kind == "weights":
            with torch.no_grad():
                pl_module.model.get_parameter(CONV)[0, 0] = float("inf")
        if self.active and self.kind == "overflow":
            with torch.no_grad():
                self.good = pl_module.model.get_parameter(CONV).clone()
                pl_module.model.get_parameter(CONV).fill_(3e38)

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        if self.active and self.kind == "overflow":
            with torch.no_grad():
                pl_module.model.get_parameter(CONV).copy_(self.good)
        self.weights.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})


def train(data: Path, root: Path, broken: Break, **more: object):
    cli = make_cli(options(data, root, **more))
    cli.trainer.callbacks.insert(0, broken)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli


def files(root: Path) -> list[Path]:
    return sorted((root / "yolo" / "version_0" / "nonfinite").glob("*"))


@pytest.mark.parametrize(
    ("kind", "reason", "clause"),
    [
        ("overflow", "loss", r"the first output that is not finite is that of '2\.conv1\.conv' \(Conv2d, from finite"),
        ("weights", "loss", r"the weights were not finite before this batch: '2\.conv1\.conv\.weight'"),
        ("loss", "loss", r"every output of the network is finite, but the box loss is not"),
        (
            "gradient",
            "gradient",
            r"the gradient is not, first at the output of '22\.heads\.0\.class_conv\.2' \(Conv2d\)",
        ),
    ],
)
def test_it_stops_and_says_where(kind: str, reason: str, clause: str, tiny_data: Path, tmp_path: Path) -> None:
    broken = Break(kind)
    with pytest.raises(NonFiniteError, match=clause) as caught:
        train(tiny_data, tmp_path, broken)
    text = str(caught.value)
    assert f"Epoch 1, batch 2 (optimiser step 2): the {reason} is not finite"[1:] in text
    assert "model.learning_rate (now 0.01)" in text
    assert ("--ckpt_path" in text) == (kind == "weights")
    assert ("guard.action skip" in text) == (kind != "weights")
    (path,) = files(tmp_path)
    assert path.name == "epoch-1-step-2.pt"
    assert f"yolo replay {path}" in text
    stored = Replay.load(path)
    assert stored.batch.images.shape == (2, 3, 64, 64)
    assert len(stored.circumstances.files) == 2
    if kind in ("overflow", "weights"):  # the loss itself is broken by this test only
        assert clause.replace("\\", "").split(":")[0][:40] in str(stored.run(torch.device("cpu")))


def test_the_weights_in_the_file_are_those_before_the_step(tiny_data: Path, tmp_path: Path) -> None:
    broken = Break("loss")
    with pytest.raises(NonFiniteError):
        train(tiny_data, tmp_path, broken)
    (path,) = files(tmp_path)
    saved = Replay.load(path).model.state_dict
    assert all(
        torch.equal(saved[name], value)
        for name, value in broken.weights[0].items()
        if "num_b" not in name and "running" not in name
    )
    assert read_checkpoint(path).class_names == ("circle", "square", "triangle", "star")


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("overflow", "sgd"), ("loss", "adamw"), ("gradient", "sgd"), ("gradient", "adamw")]
)
def test_a_skipped_step_changes_nothing(kind: str, optimizer: str, tiny_data: Path, tmp_path: Path) -> None:
    broken = Break(kind)
    cli = train(tiny_data, tmp_path, broken, **{"guard.action": "skip", "model.optimizer": optimizer})
    assert cli.trainer.global_step == 4
    before, after = broken.weights[0], broken.weights[1]
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == []
    assert all(value.isfinite().all() for value in broken.weights[-1].values())
    assert any(not torch.equal(broken.weights[2][name], value) for name, value in after.items())
    assert all(value.isfinite().all() for value in cli.model.averaged_state().values())
    state = cli.trainer.optimizers[0].state
    assert all(value.isfinite().all() for entry in state.values() for value in entry.values() if value is not None)
    guard = next(c for c in cli.trainer.callbacks if isinstance(c, NonFiniteGuard))
    assert guard.skipped == 1
    assert len(files(tmp_path)) == 1


def test_it_does_not_skip_for_ever_and_fills_no_disk(tiny_data: Path, tmp_path: Path) -> None:
    more = {"guard.action": "skip", "guard.most_skipped": 2, "guard.most_files": 1}
    with pytest.raises(NonFiniteError, match="step 3 of that kind in a row"):
        train(tiny_data, tmp_path, Break("loss", at=0, times=9), **more)
    assert len(files(tmp_path)) == 1


def test_weights_that_are_not_finite_cannot_be_skipped(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="weights were not finite"):
        train(tiny_data, tmp_path, Break("weights"), **{"guard.action": "skip"})


def test_under_accumulation_the_batch_that_was_bad_is_kept(tiny_data: Path, tmp_path: Path) -> None:
    more = {"trainer.accumulate_grad_batches": 2}
    with pytest.raises(NonFiniteError, match=r"epoch 1, batch 3 \(optimiser step 2\)"):
        train(tiny_data, tmp_path, Break("loss", at=2), **more)
    broken = Break("loss", at=2)
    cli = train(tiny_data, tmp_path / "skip", broken, **more, **{"guard.action": "skip"})
    assert cli.trainer.global_step == 2
    assert all(torch.equal(broken.weights[-1][name], value) for name, value in broken.weights[1].items())


def test_it_can_be_switched_off(tiny_data: Path, tmp_path: Path) -> None:
    broken = Break("loss", at=3)
    train(tiny_data, tmp_path, broken, **{"guard.enabled": "false"})
    assert not broken.weights[-1][CONV].isfinite().all()
    broken = Break("gradient", at=3)
    train(tiny_data, tmp_path / "g", broken, **{"guard.check_gradients": "false"})
    assert not broken.weights[-1][CONV].isfinite().all()


def test_a_run_with_the_guard_is_the_run_without_it(tiny_data: Path, tmp_path: Path) -> None:
    runs = [
        train(tiny_data, tmp_path / str(at), Break("none"), **more)
        for at, more in enumerate(({}, {"guard.action": "skip"}, {"guard.enabled": "false"}))
    ]
    first, *others = (run.model.model.state_dict() for run in runs)
    assert all(torch.equal(other[name], value) for other in others for name, value in first.items())
    assert not files(tmp_path / "0")


def test_frozen_norms_are_held_when_it_is_run_again(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        train(tiny_data, tmp_path, Break("loss"), **{"model.freeze_layers": "0-1"})
    (path,) = files(tmp_path)
    assert Replay.load(path).circumstances.held_norms == ("0.bn", "1.bn")


def test_encrypted_pictures_are_not_written_in_clear(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo.data.loaders import DefaultImageLoader

    monkeypatch.setattr(DefaultImageLoader, "confidential", True, raising=False)
    with pytest.raises(NonFiniteError, match="not written: the images are encrypted"):
        train(tiny_data, tmp_path, Break("loss"))
    assert not files(tmp_path)


def test_an_examination_leaves_no_trace() -> None:
    torch.manual_seed(0)
    network = build_model("v9-t", 4, image_size=(64, 64))
    network.get_parameter("0.conv.weight").grad = torch.ones_like(network.get_parameter("0.conv.weight"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = a_batch()
    result = examine(network, batch, DetectionLoss())
    assert result.finite
    assert "everything is finite" in str(result)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    grads = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert grads == {"0.conv.weight"}
    assert all(not p._backward_hooks for p in network.parameters())
    assert all(not module._forward_hooks for module in network.modules())
    names = [module.name for module in result.modules]
    assert names.index("0.conv") < names.index("0.bn") < names.index("0") < names.index("22")


def a_batch() -> Batch:
    return Batch(
        images=torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8),
        boxes=torch.tensor([[4.0, 4.0, 40.0, 40.0]]),
        labels=torch.tensor([1]),
        image_index=torch.tensor([0]),
        ids=torch.tensor([0, 1]),
        source_sizes=torch.tensor([[64, 64], [64, 64]]),
        matrices=torch.eye(3, dtype=torch.float64).expand(2, 3, 3).clone(),
    )


@pytest.fixture(scope="module")
def stopped(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stopped")
    with pytest.raises(NonFiniteError):
        train(tiny_data, root, Break("overflow"))
    return files(root)[0]


def test_replay_reports_every_module(stopped: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(replay, [str(stopped), "--device", "cpu", "--picture", str(tmp_path / "b.jpg")])
    assert run.exit_code == 0, run.output
    lines = run.output.splitlines()
    assert lines[0].startswith("Epoch 1, batch 2 (optimiser step 2): the loss was not finite, on cpu in 32-true")
    row = next(line.split() for line in lines if line.startswith("2.conv1.conv "))
    assert row[1] == "Conv2d"
    assert int(row[-1]) > 0
    assert "The first output that is not finite is that of '2.conv1.conv' (Conv2d, from finite input)." in lines
    assert (tmp_path / "b.jpg").read_bytes()[:2] == b"\xff\xd8"
    short = len(lines)
    every = CliRunner().invoke(replay, [str(stopped), "--device", "cpu", "--all"]).output.splitlines()
    assert len(every) > short + 100


def test_replay_in_another_precision_compares_with_float32(stopped: Path) -> None:
    run = CliRunner().invoke(replay, [str(stopped), "--device", "cpu", "--precision", "bf16-mixed", "--json"])
    assert run.exit_code == 0, run.output
    content = json.loads(run.output)
    assert set(content["runs"]) == {"bf16-mixed", "32-true"}
    assert content["runs"]["32-true"]["finite"] is False
    assert content["circumstances"]["step"] == 2
    assert "NaN" not in run.output
    assert "Infinity" not in run.output


def test_other_files_are_refused_by_name(stopped: Path, trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(YoloError, match="holds no batch to run again"):
        Replay.load(trained_run / "checkpoints" / "last.ckpt")
    with pytest.raises(YoloError, match="does not exist"):
        Replay.load(tmp_path / "gone.pt")
    content = torch.load(stopped, weights_only=True)
    for key, value in {"images": None, "labels": torch.zeros(99, dtype=torch.int64), "boxes": torch.zeros(3)}.items():
        broken = {**content, "replay": {**content["replay"], "batch": {**content["replay"]["batch"], key: value}}}
        torch.save(broken, tmp_path / "broken.pt")
        with pytest.raises(YoloError, match=r"broken\.pt"):
            Replay.load(tmp_path / "broken.pt")
    torch.save({**content, "replay": {**content["replay"], "format": 99}}, tmp_path / "newer.pt")
    with pytest.raises(YoloError, match="newer version"):
        Replay.load(tmp_path / "newer.pt")


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"replay": {"format": 1, "batch": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(YoloError):
        Replay.load(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


def test_a_loss_scaler_may_calibrate(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    guard = NonFiniteGuard()
    network = torch.nn.Linear(2, 2)
    module = SimpleNamespace(model=network)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    assert [guard._gradients_are_fine(trainer, module) for _ in range(31)] == [True] * 30 + [False]
    network.zero_grad()
    network.weight.grad = torch.full_like(network.weight, 3e38)  # finite, but the sum of its squares is not
    assert guard._gradients_are_fine(trainer, module)
    trainer.precision_plugin.scaler = None
    network.weight.grad[0, 0] = float("nan")
    assert not guard._gradients_are_fine(trainer, module)
