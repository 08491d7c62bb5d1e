"""One line at the end of every epoch: losses, present and best mAP, time."""

from __future__ import annotations

import time

from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.training.module import YOLOModule


class TrainingSummaryCallback(Callback):
    """Prints what an epoch brought, and remembers the best.

    Args:
        enabled: false prints nothing.
        monitor: the metric that says which epoch was best (higher is better).
    """

    def __init__(self, enabled: bool = True, monitor: str = "val/mAP") -> None:
        self.enabled = enabled
        self.monitor = monitor
        self.best = float("-inf")
        self.best_epoch = 0
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is about to be trained, on what, where."""
        if not (self.enabled and trainer.is_global_zero and isinstance(pl_module, YOLOModule)):
            return
        data, network = pl_module.data, pl_module.model
        validation = f"{len(data.labels('val'))} validation" if trainer.limit_val_batches != 0 else "no validation"
        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        width, height = data.image_size
        print(
            f"{network.spec.name} with {network.num_classes} classes, {parameters / 1e6:.1f} M trainable parameters; "
            f"{len(data.labels('train'))} training and {validation} images, {width}x{height}; "
            f"{trainer.num_devices} x {trainer.strategy.root_device.type}, precision {trainer.precision}",
            flush=True,
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line (validation has run by now)."""
        assert isinstance(pl_module, YOLOModule)
        validated = pl_module.metrics_of_epoch()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch + 1
        score = validated.get(self.monitor)
        if score is not None and score > self.best:
            self.best, self.best_epoch = score, epoch
        if not self.enabled or not trainer.is_global_zero:
            return
        losses = "  ".join(
            f"{name} {metrics[f'train/{name}_epoch']:.3f}"
            for name in ("loss", "box", "cls", "dfl")
            if f"train/{name}_epoch" in metrics
        )
        line = f"Epoch {epoch}/{trainer.max_epochs} done in {time.monotonic() - self._started:.0f} s  {losses}"
        if score is not None:
            mark = "new best" if self.best_epoch == epoch else f"best {self.best:.4f} in epoch {self.best_epoch}"
            line += f"  mAP {score:.4f}  mAP50 {validated.get('val/mAP50', 0.0):.4f}  ({mark})"
        print(line, flush=True)

    def state_dict(self) -> dict[str, float | int]:
        """Return the best score and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, float | int]) -> None:
        """Restore the best score of a resumed run."""
        self.best, self.best_epoch = float(state_dict["best"]), int(state_dict["best_epoch"])
