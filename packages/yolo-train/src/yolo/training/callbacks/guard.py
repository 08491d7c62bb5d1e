"""Numbers that are not finite: found before they reach the weights, explained, and kept for another look."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from yolo.core.errors import YoloError
from yolo.core.losses.config import LossConfig
from yolo.core.weights.bundle import ModelBundle
from yolo.data.types import Batch
from yolo.training.examine import Examination, examine
from yolo.training.module import YOLOModule
from yolo.training.replay import Circumstances, Replay
from yolo.training.runs import run_folder

logger = logging.getLogger(__name__)

_CALIBRATION = 30  # steps in a row that a loss scaler may leave out: it halves its scale each time, from 2^16


class NonFiniteError(YoloError):
    """The loss or the gradient of a training is NaN or infinite."""


class NonFiniteGuard(Callback):
    """Watch the loss of every batch and the gradient of every step; NaN or infinity in either ends the training.

    The batch and the weights go into a file of the run folder, which ``yolo replay`` runs again, and the message names
    the first module with an output that is not finite. To find it, the batch is run once more under observation; as
    long as all is well, nothing but two numbers a step is looked at. Weights, optimiser and averages are never
    touched by such a batch.

    Under ``16-mixed`` infinite gradients belong to the calibration of the loss scale, and steps with them are left out
    anyway; they count when 30 steps in a row have them.

    Args:
        enabled: false looks at nothing.
        action: ``stop`` ends the training with an error; ``skip`` leaves the step out and goes on.
        most_skipped: steps in a row that may be left out.
        check_gradients: look at gradients as well as at losses.
        most_files: batches that are written, of one run.
    """

    def __init__(
        self,
        enabled: bool = True,
        action: Literal["stop", "skip"] = "stop",
        most_skipped: int = 10,
        check_gradients: bool = True,
        most_files: int = 3,
    ) -> None:
        self.enabled = enabled
        self.action = action
        self.most_skipped = most_skipped
        self.check_gradients = check_gradients
        self.most_files = most_files
        self.skipped = 0
        self._in_a_row = 0
        self._calibrating = 0
        self._files = 0
        self._batch: tuple[Batch, int] | None = None
        self._bad: tuple[Batch, int] | None = None
        self._loss: _Flag | None = None
        self._kept: dict[str, Tensor] = {}
        self._kept_at = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Remember the batch; and, where steps are skipped, the buffers, which a forward pass moves."""
        if not self.enabled:
            return
        self._batch = batch, batch_idx
        if self.action == "skip" and self._kept_at != trainer.global_step:
            assert isinstance(pl_module, YOLOModule)
            self._kept_at = trainer.global_step
            self._keep_buffers(pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Ask whether the loss is finite; the answer is read when the backward pass is under way."""
        if self.enabled:
            self._loss = _Flag(loss.detach().isfinite())

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the first batch of a step whose loss is not finite."""
        if self._loss is not None and not self._loss.read():
            self._bad = self._bad or self._batch
        self._loss = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Let the step happen, or not; all processes decide alike."""
        if not self.enabled or self._batch is None:
            return
        assert isinstance(pl_module, YOLOModule)
        fine = self._bad is None
        if trainer.world_size > 1:
            fine = trainer.strategy.reduce_boolean_decision(fine, all=True)
        reason = "loss"
        if fine and self.check_gradients:
            reason, fine = "gradient", self._gradients_are_fine(trainer, pl_module)
        if fine:
            self._in_a_row = 0
            return
        text, hopeless = self._explain(trainer, pl_module, reason)
        self._bad = None
        if hopeless:
            raise NonFiniteError(text)
        if self.action == "stop" or self._in_a_row >= self.most_skipped:
            row = f" This is step {self._in_a_row + 1} of that kind in a row (guard.most_skipped)."
            raise NonFiniteError(text + (row if self.action == "skip" else ""))
        self._leave_out(pl_module)
        if trainer.is_global_zero:
            logger.warning("Step left out: %s", text)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Let go of the batch."""
        self._batch = None

    def _gradients_are_fine(self, trainer: Trainer, module: YOLOModule) -> bool:
        gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
        fine = not gradients or _all_finite(gradients)
        if getattr(trainer.precision_plugin, "scaler", None) is None or fine:
            self._calibrating = 0
            return fine
        self._calibrating += 1
        return self._calibrating <= _CALIBRATION

    def _explain(self, trainer: Trainer, module: YOLOModule, reason: str) -> tuple[str, bool]:
        """Run the batch again under observation, save it, and say what is known: the same in all processes.

        Returns:
            The text, and whether the weights themselves are not finite, so that no further step can be.
        """
        chosen = self._bad or self._batch
        assert chosen is not None
        batch, position = chosen
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        facts = Circumstances(
            reason=reason,
            epoch=trainer.current_epoch + 1,
            batch=position + 1,
            step=trainer.global_step + 1,
            precision=str(trainer.precision),
            factor=len(batch.images) * trainer.world_size * scale / trainer.accumulate_grad_batches,
            device=str(module.device),
            files=_files(module, batch),
            held_norms=tuple(name for name, part in module.model.named_modules() if not part.training),
        )
        found = _examined(trainer, module, batch, facts.factor)
        guilty = self._bad is not None or found is None or not found.finite
        guilts = _gathered(trainer, guilty)
        speaker = guilts.index(True) if any(guilts) else 0
        written = ""
        if guilty or trainer.global_rank == speaker:
            written = self._save(trainer, module, batch, facts)
        parts = [f"{facts}: the {reason} is not finite", *_findings(trainer, found)]
        hopeless = found is not None and bool(found.weights)
        text = f"{'; '.join(parts)}. {written} {self._advice(trainer, module, hopeless=hopeless)}"
        said: tuple[str, bool] = _gathered(trainer, (text, hopeless))[speaker]
        return said

    def _save(self, trainer: Trainer, module: YOLOModule, batch: Batch, facts: Circumstances) -> str:
        if module.data.images.confidential:
            return "The batch is not written: the images are encrypted, and it would be in clear."
        if getattr(trainer, "fast_dev_run", False):
            return "The batch is not written: a fast_dev_run writes nothing."
        if self._files >= self.most_files:
            return f"The batch is not written: there are {self._files} already (guard.most_files)."
        self._files += 1
        rank = f"-rank-{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = run_folder(trainer) / "nonfinite" / f"epoch-{facts.epoch}-step-{facts.step}{rank}.pt"
        bundle = ModelBundle(
            architecture=module.model.spec.to_dict(),
            state_dict=module.model.state_dict(),
            class_names=module.data.class_names,
            image_size=module.data.image_size,
            extra={"weights": "raw"},
        )
        settings = LossConfig(**{key: getattr(module.config, key) for key in LossConfig.__dataclass_fields__})
        share = getattr(module.compute_loss, "aux_weight", 0.0) if module.model.train_auxiliary else 0.0
        settings = replace(settings, aux_loss_weight=share)  # as it was in this step: it may be annealed
        try:
            Replay(batch, bundle, settings, facts).save(path)
        except OSError as error:
            return f"The batch could not be written: {path}: {error.strerror or error}."
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"Look at every module with 'yolo replay {shown}'."

    def _advice(self, trainer: Trainer, module: YOLOModule, *, hopeless: bool) -> str:
        clip = trainer.gradient_clip_val
        hints = [f"a lower model.learning_rate (now {module.config.learning_rate:g})"]
        hints.append(f"trainer.gradient_clip_val (now {'not set' if clip is None else f'{clip:g}'})")
        if "16" in str(trainer.precision):
            hints.append(f"trainer.precision 32 (now {trainer.precision})")
        text = f"What helps: {', '.join(hints)}."
        if hopeless:
            return f"Go on from an earlier checkpoint (--ckpt_path). {text}"
        return text if self.action == "skip" else f"{text} guard.action skip leaves such steps out."

    def _keep_buffers(self, module: YOLOModule) -> None:
        buffers = dict(module.model.named_buffers())
        if self._kept.keys() != buffers.keys():
            self._kept = {name: value.clone() for name, value in buffers.items()}
        elif buffers:
            with torch.no_grad():
                torch._foreach_copy_(list(self._kept.values()), [buffers[name] for name in self._kept])

    def _leave_out(self, module: YOLOModule) -> None:
        """Make the step one that changes nothing: an optimiser passes parameters without a gradient over."""
        for parameter in module.model.parameters():
            parameter.grad = None
        with torch.no_grad():
            for name, value in module.model.named_buffers():
                value.copy_(self._kept[name])
        self.skipped += 1
        self._in_a_row += 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many steps were left out."""
        if self.skipped and trainer.is_global_zero:
            logger.warning("%d of %d steps were left out: not finite.", self.skipped, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row, "files": self._files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters."""
        self.skipped, self._in_a_row = int(state_dict["skipped"]), int(state_dict["in_a_row"])
        self._files = int(state_dict["files"])


def _examined(trainer: Trainer, module: YOLOModule, batch: Batch, factor: float) -> Examination | None:
    """Run a batch under observation; None where there is no memory for it."""
    context = trainer.precision_plugin.train_step_context
    try:
        return examine(module.model, batch, module.compute_loss, factor=factor, precision=context)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _findings(trainer: Trainer, found: Examination | None) -> list[str]:
    if found is None:
        return ["the batch did not fit into memory a second time"]
    texts = [", ".join(f"{name} {value:.4g}" for name, value in found.losses.items()), str(found)]
    if found.finite and trainer.accumulate_grad_batches > 1:
        texts.append("an earlier batch of the accumulation may be the cause")
    return texts


def _gathered(trainer: Trainer, value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


class _Flag:
    """A truth value on its way from the device; reading it waits for what was computed before it, not after."""

    def __init__(self, value: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types for it
            self._event.record()
        else:
            self._value = value

    def read(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._value)


def _all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether no number is NaN or infinite. A sum of squares is fastest; where it overflows, the largest tells."""
    return any(
        bool(torch.stack(torch._foreach_norm(list(gradients), order)).isfinite().all()) for order in (2, math.inf)
    )


def _files(module: YOLOModule, batch: Batch) -> tuple[str, ...]:
    table = module.data.labels("train")
    return tuple(table.path(index) for index in batch.ids.tolist() if 0 <= index < len(table))
