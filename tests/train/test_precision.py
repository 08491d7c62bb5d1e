"""Mixed precision: the network computes in half precision, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision

from yolo.core import load_model
from yolo.core.decode import decode
from yolo.core.errors import UsageError
from yolo.core.losses import DetectionLoss, LossOutput
from yolo.core.models import Network, build_model
from yolo.core.outputs import BranchOutput, HeadOutput
from yolo.core.weights.bundle import read_checkpoint
from yolo.data.types import Batch
from yolo.training.callbacks import EMACallback, YOLOCheckpoint
from yolo.training.datamodule import YOLODataModule
from yolo.training.metrics import Evaluator
from yolo.training.metrics.detect import detect
from yolo.training.metrics.evaluator import Protocol
from yolo.training.module import YOLOModule
from yolo.training.trainer_cli import make_cli

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))


def rounded(branch: BranchOutput, kind: torch.dtype, back: torch.dtype | None = None) -> BranchOutput:
    """Predictions as a network in that precision gives them, or the same numbers in another type again."""

    def turn(value: torch.Tensor) -> torch.Tensor:
        return value.detach().to(kind).to(back or kind).requires_grad_()

    cls, dist = tuple(map(turn, branch.cls)), tuple(map(turn, branch.dist))
    return BranchOutput(cls, dist, branch.strides, branch.anchors)


@pytest.fixture(scope="module", params=["v9-t", "v7"])
def output(request: pytest.FixtureRequest) -> HeadOutput:
    torch.manual_seed(1)
    if request.param == "v9-t":
        with torch.no_grad():
            found: HeadOutput = build_model("v9-t", 3).train()(torch.rand(2, 3, 128, 128))
        return found
    branch = BranchOutput(
        cls=tuple(torch.randn(2, 3, n, n) * 2 - 3 for n in (16, 8)),
        dist=tuple(torch.randn(2, 4, n, n) for n in (16, 8)),
        strides=(8, 16),
        anchors=((20.0, 30.0), (60.0, 40.0)),
    )
    return HeadOutput(branch)


BOXES = torch.tensor([[5.0, 9, 61, 70], [30, 20, 120, 118], [64, 64, 90, 88], [2, 2, 40, 33], [70, 8, 126, 60]])
TARGETS = BOXES, torch.tensor([0, 2, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 1])


@pytest.mark.parametrize("kind", HALVES)
def test_the_loss_of_rounded_predictions_is_computed_in_float32(output: HeadOutput, kind: torch.dtype) -> None:
    """Whatever the loss adds to the rounding of the predictions themselves would show here."""
    parts = [output.main] + ([output.aux] if output.aux else [])
    halves, floats = (HeadOutput(*(rounded(p, kind, back) for p in parts)) for back in (None, torch.float32))
    with torch.autocast("cpu", kind):
        found: LossOutput = DetectionLoss()(halves, *TARGETS)
    wanted: LossOutput = DetectionLoss()(floats, *TARGETS)
    assert found.total.dtype == torch.float32
    for name in ("total", "box", "cls", "dfl"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(wanted, name)), rel=1e-6), name
    found.total.backward()
    wanted.total.backward()
    for half, single in zip((*halves.main.cls, *halves.main.dist), (*floats.main.cls, *floats.main.dist), strict=True):
        assert half.grad is not None and half.grad.dtype == kind
        torch.testing.assert_close(half.grad, single.grad.to(kind))


@pytest.mark.parametrize("kind", HALVES)
def test_boxes_and_scores_are_decoded_in_float32(output: HeadOutput, kind: torch.dtype) -> None:
    with torch.autocast("cpu", kind):
        found = decode(rounded(output.main, kind))
    wanted = decode(rounded(output.main, kind, torch.float32))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def source(tiny_data: Path) -> YOLODataModule:
    found = YOLODataModule(root=str(tiny_data), image_size=64, batch_size=4, num_workers=0)
    found.setup("validate")
    return found


@pytest.fixture(scope="module")
def overfitted(source: YOLODataModule, small_network: Path) -> tuple[Network, Batch]:
    """A network that knows the validation pictures by heart, and these."""
    (batch,) = source.val_dataloader()
    torch.manual_seed(0)
    network = build_model(small_network, len(source.class_names), image_size=(64, 64)).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        loss = DetectionLoss()(network(batch.images.float() / 255), batch.boxes, batch.labels, batch.image_index)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return network.eval(), batch


def test_the_loss_of_a_network_in_bfloat16_is_near_that_in_float32(overfitted: tuple[Network, Batch]) -> None:
    network, batch = overfitted
    network.train()
    targets = batch.boxes, batch.labels, batch.image_index
    with torch.no_grad():
        wanted = DetectionLoss()(network(batch.images.float() / 255), *targets)
        with torch.autocast("cpu", torch.bfloat16):
            found = DetectionLoss()(network(batch.images.float() / 255), *targets)
    network.eval()
    for name in ("total", "box", "cls", "dfl"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(wanted, name)), rel=0.05), name


class Watch(Callback):
    """Notes types where they matter, and how far each step went."""

    def __init__(self) -> None:
        self.types: set[torch.dtype] = set()
        self.moved: list[float] = []
        self.before = torch.zeros(0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.model.layer(1).register_forward_hook(lambda _, __, out: self.types.add(out.dtype))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.before = self.weights(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.moved.append(float((self.weights(pl_module) - self.before).norm()))

    @staticmethod
    def weights(module: Any) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in module.model.parameters()]).clone()


CLIP = 0.01


def fit(
    data: Path, network: Path, root: Path, kind: str, *, epochs: int = 1, ckpt: Path | None = None
) -> tuple[Trainer, Watch, EMACallback]:
    """Train with steps of exactly the clipped gradient; ``scaled`` is float16 with a loss scale, on the CPU."""
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10))
    module = YOLOModule(
        model_config=str(network), learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0,
        lr_scheduler="step", step_size=99,
    )  # fmt: skip
    source = YOLODataModule(root=str(data), image_size=64, batch_size=4, num_workers=0, close_mosaic_epochs=0)
    watch, ema = Watch(), EMACallback()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False,
        gradient_clip_val=CLIP, limit_val_batches=1, enable_model_summary=False, default_root_dir=root,
        callbacks=[watch, ema, YOLOCheckpoint(dirpath=root, save_last=True)],
        **({"plugins": [scaled]} if kind == "scaled" else {"precision": kind}),
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(module, datamodule=source, ckpt_path=None if ckpt is None else str(ckpt))
    return trainer, watch, ema


@pytest.mark.parametrize(
    ("kind", "computed"), [("bf16-mixed", torch.bfloat16), ("scaled", torch.float16), ("32-true", torch.float32)]
)
def test_a_run_keeps_weights_momenta_averages_and_files_in_float32(
    kind: str, computed: torch.dtype, tiny_data: Path, small_network: Path, tmp_path: Path
) -> None:
    trainer, watch, ema = fit(tiny_data, small_network, tmp_path, kind)
    network = trainer.lightning_module.model
    assert watch.types == {computed}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {v.dtype for v in ema.average.values() if v.is_floating_point()} == {torch.float32}
    stored = read_checkpoint(tmp_path / "last.ckpt").state_dict
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {torch.float32}
    loaded = load_model(tmp_path / "last.ckpt")
    assert loaded(torch.rand(1, 3, 64, 64)).main.cls[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["32-true", "bf16-mixed", "scaled"])
def test_gradients_are_clipped_after_the_scale_is_taken_off(
    kind: str, tiny_data: Path, small_network: Path, tmp_path: Path
) -> None:
    """With a rate of 1 and nothing else, a step is as long as the gradient, which is much longer unclipped."""
    _, watch, _ = fit(tiny_data, small_network, tmp_path, kind)
    assert watch.moved == pytest.approx([CLIP] * 2, rel=0.01)


def test_a_scaled_run_resumes_with_its_scale(tiny_data: Path, small_network: Path, tmp_path: Path) -> None:
    fit(tiny_data, small_network, tmp_path / "a", "scaled")
    resumed, *_ = fit(tiny_data, small_network, tmp_path / "b", "scaled", epochs=2, ckpt=tmp_path / "a" / "last.ckpt")
    whole, *_ = fit(tiny_data, small_network, tmp_path / "c", "scaled", epochs=2)
    scalers = [trainer.precision_plugin.scaler for trainer in (resumed, whole)]
    assert scalers[0].state_dict() == scalers[1].state_dict()
    assert scalers[0].state_dict()["_growth_tracker"] == 4
    states = [trainer.lightning_module.model.state_dict() for trainer in (resumed, whole)]
    assert [name for name, value in states[1].items() if not torch.equal(states[0][name], value)] == []


def test_validation_in_bfloat16_measures_what_float32_measures(
    overfitted: tuple[Network, Batch], source: YOLODataModule
) -> None:
    """Within 2 points of mAP, on a handful of objects."""
    network, batch = overfitted
    protocol = Protocol(0.001, 0.65, 300, (64, 64), "raw")
    found, scores = {}, {}
    for enabled in (False, True):
        evaluator = Evaluator(source.labels("val"))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            detections = detect(network, batch, protocol)
        evaluator.update(batch.ids.tolist(), detections)
        found[enabled] = evaluator.compute(protocol, operating_confidence=0.25).metrics()
        scores[enabled] = float(detections[0].scores[0])
    assert found[False]["val/mAP"] > 0.3, "or this would compare nothing with nothing"
    for name in ("val/mAP", "val/mAP50"):
        assert found[True][name] == pytest.approx(found[False][name], abs=0.02), name
    assert scores[True] != scores[False]


@pytest.mark.parametrize("kind", ["bf16-true", "16-true", "64-true"])
def test_weights_in_another_format_are_refused(kind: str, tiny_data: Path, small_network: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"trainer.precision {kind}: .*use 32-true, 16-mixed or bf16-mixed"):
        fit(tiny_data, small_network, tmp_path, kind)


def test_float16_on_a_cpu_is_bfloat16(tiny_data: Path, small_network: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="AMP with fp16 is not supported on CPU"):
        cli = make_cli(
            ["--trainer.accelerator=cpu", "--trainer.precision=16-mixed", "--trainer.logger=false"]
        )  # fmt: skip
    assert cli.trainer.precision == "bf16-mixed"
