"""The Lightning module: network, loss and evaluation, and nothing of where data comes from."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from yolo.core.errors import YoloError
from yolo.core.losses import DetectionLoss, LossOutput
from yolo.core.models import Network, build_model, load_spec
from yolo.core.outputs import HeadOutput
from yolo.data.types import Batch
from yolo.training.auxiliary import Auxiliary, plan_auxiliary
from yolo.training.compiling import CompiledNetwork, compiled
from yolo.training.config import ModelConfig
from yolo.training.datamodule import YOLODataModule
from yolo.training.freezing import Freezing, plan_freezing, wrap_again
from yolo.training.host_memory import KeptMemory
from yolo.training.layout import channels_last, contiguous, is_faster, like_parameters
from yolo.training.metrics import Detected, Evaluation, Evaluator, Protocol
from yolo.training.metrics.detect import detect
from yolo.training.metrics.gather import evaluate_together
from yolo.training.optim import build_optimizer, check_optimizer, settle_groups
from yolo.training.precision import check_precision
from yolo.training.pretrained import resumed_spec, start_from, weight_file
from yolo.training.processes import check_norm_sync, first_on_each_machine, one_batch, share_from_first
from yolo.training.runs import settle_folder
from yolo.training.schedulers import TrainingLength, build_schedule
from yolo.training.trainer_options import check_validation

logger = logging.getLogger(__name__)


class YOLOModule(LightningModule):
    """Trains a YOLO detector."""

    model: Network

    def __init__(self, **kwargs: Any) -> None:
        """Take the settings; the network is built in :meth:`setup`, when the classes are known.

        Args:
            **kwargs: fields of :class:`~yolo.training.config.ModelConfig`.
        """
        super().__init__()
        self.config = ModelConfig(**kwargs)
        self.compute_loss = DetectionLoss(self.config)
        self.freezing = Freezing()
        self.auxiliary = Auxiliary()
        self._frozen = False
        self._compiled: CompiledNetwork | None = None
        self.started_from: str | None = None
        self.resume_from: str | None = None  # Lightning tells setup() nothing of the checkpoint given to fit()
        self.operating_confidence = self.config.nms_conf_threshold
        self.evaluation: Evaluation | None = None
        self._evaluated_epoch = -1
        self._restored_metrics: dict[str, float] = {}
        self._evaluator: Evaluator | None = None

    @property
    def data(self) -> YOLODataModule:
        """The data this module is trained on."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, YOLODataModule):
            raise YoloError("YOLOModule needs a YOLODataModule: trainer.fit(module, datamodule=YOLODataModule(...))")
        return data

    def setup(self, stage: str) -> None:
        """Build the network for the classes and the image size of the data."""
        if stage == "fit":
            check_precision(self.trainer)
            check_validation(self.trainer, self.data.batches_per_epoch)
        check_norm_sync(self.trainer)
        settle_folder(self.trainer)
        if hasattr(self, "model"):
            return
        with first_on_each_machine(self.trainer):
            self._build()
        self.freezing = plan_freezing(self.model, self.config)
        self.auxiliary = plan_auxiliary(self.model, self.config, self.freezing)
        # Before DDP looks at the parameters; which epoch it is, is known when the training starts.
        self._frozen = bool(self.freezing)
        self.freezing.set_gradients(self.model, frozen=True)
        self._leave_auxiliary_out(epoch=0)
        if self.channels_last:
            channels_last(self.model)
        self._compiled = compiled(self.model, self.config.compile)

    @property
    def channels_last(self) -> bool:
        """Whether images and convolutions lie channels last in memory."""
        wanted = self.config.channels_last
        return is_faster(self.trainer.strategy.root_device) if wanted is None else wanted

    def _build(self) -> None:
        data = self.data
        data.check_classes(self.config.num_classes)
        self.resume_from = self.resume_from or (str(self.trainer.ckpt_path) if self.trainer.ckpt_path else None)
        spec = load_spec(self.config.model_config)
        if self.resume_from:
            # A resumed run gets layers and weights from the checkpoint, whatever it once started from.
            spec = resumed_spec(self.resume_from, spec, class_names=data.class_names)
            self.model = build_model(spec, len(data.class_names), image_size=data.image_size)
        elif self.config.weight_path:
            self.started_from = weight_file(self.config.weight_path, self.config.model_config)
            self.model = start_from(
                self.started_from,
                spec,
                num_classes=len(data.class_names),
                image_size=data.image_size,
                class_names=data.class_names,
                by_name=self.config.transfer_classes,
                force=self.config.force_weights,
                verbose=self.config.verbose_weights,
            )
        else:
            self.model = build_model(spec, len(data.class_names), image_size=data.image_size)

    def train(self, mode: bool = True) -> YOLOModule:
        """Go into training mode, but for the norm layers that are frozen, or out of it."""
        super().train(mode)
        if mode and self._frozen:
            self.freezing.set_norms(self.model, frozen=True)
        return self

    def on_train_start(self) -> None:
        """Settle what a resumed run knows only now: whether layers are still frozen, and its optimiser's groups."""
        for optimizer in self.trainer.optimizers:
            settle_groups(optimizer, self.config)
            like_parameters(optimizer)
        if self.freezing.holds_in(self.trainer.current_epoch):
            _tell(self.freezing.table(self.model))
        self._freeze_or_release()

    def on_train_epoch_start(self) -> None:
        """Release the frozen layers when their time has come."""
        self._freeze_or_release()

    def _freeze_or_release(self) -> None:
        epoch = self.trainer.current_epoch
        changed = self._leave_auxiliary_out(epoch)
        if self.freezing:
            self._frozen = self.freezing.holds_in(epoch)
            self.freezing.set_norms(self.model, frozen=self._frozen)
            if self.freezing.set_gradients(self.model, frozen=self._frozen):
                changed = True
                if not self._frozen:
                    count = sum(self.model.get_parameter(name).numel() for name in self.freezing.parameters)
                    _tell(f"Epoch {epoch + 1}: the {count:,} frozen parameters are trained from here on.")
        if changed:
            wrap_again(self.trainer.strategy)

    def _leave_auxiliary_out(self, epoch: int) -> bool:
        """Compute the auxiliary branch no longer when its share is 0; whether that is new."""
        if self.auxiliary.computed_in(epoch) or not self.auxiliary.parameters:
            return False
        # What is frozen until an epoch must not be released with the rest.
        self.freezing = self.freezing.without(self.auxiliary.parameters)
        changed = self.auxiliary.set(self.model, computed=False)
        if changed:
            _tell(f"Epoch {epoch + 1}: the auxiliary branch is not computed{' from here on' * (epoch > 0)}.")
        return changed

    def forward(self, images: torch.Tensor) -> HeadOutput:
        """Run the network on float images ``[B, 3, H, W]`` in 0..1, compiled in training where that is asked for."""
        output: HeadOutput = (self._compiled if self._compiled and self.training else self.model)(images)
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return what is differentiated: the loss per sample, times local batch size and number of processes.

        DDP averages gradients over processes; the product undoes that, and the processes divide their terms by the
        same number, so that the step does not depend on how a batch is spread.
        """
        self._set_share_of_auxiliary(batch_idx)
        images = batch.images
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        output = self(images.float() / 255)
        processes = self.trainer.world_size
        with one_batch(self.compute_loss, processes):
            loss: LossOutput = self.compute_loss(output, batch.boxes, batch.labels, batch.image_index)
        size = len(batch.images)
        self._log_terms({"loss": loss.total.detach(), "box": loss.box, "cls": loss.cls, "dfl": loss.dfl}, size)
        return loss.total * size * processes

    def _set_share_of_auxiliary(self, batch_idx: int) -> None:
        if self.auxiliary.annealed:
            epochs = self.trainer.current_epoch + batch_idx / self.trainer.num_training_batches
            self.compute_loss.aux_weight = self.auxiliary.weight_at(epochs)

    def _log_terms(self, terms: dict[str, torch.Tensor], size: int) -> None:
        """Log steps of the first process, which costs no exchange, and means of an epoch over all processes."""
        if self.trainer.world_size == 1:
            named = {f"train/{name}": term for name, term in terms.items()}
            self.log_dict(named, on_step=True, on_epoch=True, batch_size=size)
            return
        # One call for both would let Lightning wait for all processes in every step.
        steps = {f"train/{name}_step": term for name, term in terms.items()}
        self.log_dict(steps, on_step=True, on_epoch=False)
        means = {f"train/{name}_epoch": term for name, term in terms.items()}
        means["train/loss"] = terms["loss"]  # its second name with one process, which callbacks may watch
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and schedule; the schedule moves once per optimiser step."""
        resting = self.freezing.parameters | self.auxiliary.parameters
        optimizer = build_optimizer(self.model, self.config, frozen=resting)
        length = TrainingLength.of(self.trainer, self.data.optimizer_steps_per_epoch())
        schedule = build_schedule(optimizer, self.config, length)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Go one optimiser step on."""
        scheduler.step()

    def configure_callbacks(self) -> list[Callback]:
        """Let every training keep what an exact resume needs, and the memory of its steps."""
        from yolo.training.callbacks.resume_point import ResumePoint

        return [ResumePoint(), KeptMemory()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that the run to go on with used the same kind of optimiser."""
        check_optimizer(checkpoint, self.config)

    def protocol(self, *, weights: str) -> Protocol:
        """Return the thresholds of validation."""
        config = self.config
        return Protocol(
            config.nms_val_conf_threshold,
            config.nms_iou_threshold,
            config.nms_max_detections,
            self.data.image_size,
            weights,
        )

    def on_validation_epoch_start(self) -> None:
        """Begin a new evaluation, of one network: norm statistics differ between processes after a training step."""
        share_from_first(self.model.buffers())
        self._evaluator = Evaluator(self.data.labels("val"))

    @property
    def detections(self) -> dict[int, Detected]:
        """What the validation under way has found in this process, by index of the image in the split."""
        return self._evaluator.found if self._evaluator else {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the detections of a batch, in pixels of the original pictures."""
        assert self._evaluator is not None
        self._evaluator.update(batch.ids.tolist(), detect(self.model, batch, self.protocol(weights="")))

    def on_validation_epoch_end(self) -> None:
        """Evaluate, unless this is Lightning's sanity check, which sees only a few images."""
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is None or self.trainer.sanity_checking:
            return
        self.evaluation = self._evaluate(evaluator)
        self._evaluated_epoch = self.trainer.current_epoch
        self.log_dict(self.evaluation.metrics())

    def _evaluate(self, evaluator: Evaluator) -> Evaluation:
        """Come to the numbers of the detections of all processes; every process gets the same ones."""
        protocol = self.protocol(weights="ema" if self.averaged_state() is not None else "raw")
        if self.trainer.world_size == 1:
            return evaluator.compute(protocol, operating_confidence=self.operating_confidence)
        return evaluate_together(
            evaluator, protocol, operating_confidence=self.operating_confidence, device=self.device
        )

    def metrics_of_epoch(self) -> dict[str, float]:
        """Return the validation metrics of the present epoch; none when it was not validated.

        ``trainer.callback_metrics`` keeps the values of earlier epochs.
        """
        if self._evaluated_epoch != self.trainer.current_epoch:
            return {}
        return self.evaluation.metrics() if self.evaluation else dict(self._restored_metrics)

    def restore_metrics(self, metrics: dict[str, float]) -> None:
        """Take the metrics of the present epoch, which an earlier process has validated."""
        self._restored_metrics = dict(metrics)
        self._evaluated_epoch = self.trainer.current_epoch

    def averaged_state(self) -> dict[str, torch.Tensor] | None:
        """Return the averaged weights of the EMA callback, None without one."""
        for callback in getattr(self.trainer, "callbacks", []):
            average = getattr(callback, "average", None)
            if isinstance(average, dict):
                return average
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that prediction, validation and export need: one file is enough on another machine."""
        from yolo.training.checkpoint import add_bundle

        add_bundle(checkpoint, self)
        if self.channels_last:
            contiguous(checkpoint)


@rank_zero_only
def _tell(text: str) -> None:
    logger.info("%s", text)
