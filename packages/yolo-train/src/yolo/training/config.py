"""Settings of a training run that belong to the model: small groups with flat keys (``--model.<key>``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from yolo.core.errors import UsageError
from yolo.core.losses.config import LossConfig


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which network is trained, from which weights.

    Args:
        model_config: a published network (``v9-t`` to ``v9-e``, ``gelan-t`` to ``gelan-e``, ``rd-9c``, ``v7``; see
            ``yolo models``) or the path of a layer list.
        num_classes: number of classes; taken from the data when not given, and has to agree with it.
        image_size: side, or [width, height], in pixels; the same setting as data.image_size.
        weight_path: weights to start from: a checkpoint of ours, a state dict, an official file or safetensors (.ckpt,
            .pt, .pth, .safetensors); true fetches the published weights of model_config; null trains from scratch.
        transfer_classes: let a class of the data start from the weights of the class of the same name in weight_path,
            wherever it stands there; false copies class layers in order if the numbers agree, else starts them fresh.
        force_weights: go on even if less than half of the parameters are in weight_path.
        verbose_weights: name every tensor in the table of what weight_path was good for.
    """

    model_config: str = "v9-c"
    num_classes: int | None = None
    image_size: int | list[int] | None = None
    weight_path: bool | str | None = None
    transfer_classes: bool = True
    force_weights: bool = False
    verbose_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser; weights decay, norm parameters and biases do not.

    Args:
        optimizer: ``sgd`` (with Nesterov momentum) or ``adamw``.
        learning_rate: rate after the warm-up, which the schedule multiplies; 0.01 is for SGD, try 0.001 for AdamW.
        momentum: momentum of SGD after the warm-up; 0 is plain SGD.
        weight_decay: decay of convolution weights; it does not depend on batch size or accumulation.
        adamw_betas: running-average factors of AdamW.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 5e-4
    adamw_betas: Sequence[float] = (0.9, 0.999)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The course of the learning rate, with a warm-up in front.

    Args:
        lr_scheduler: ``cosine``, ``linear``, ``step``, ``one_cycle``, another registered schedule, or ``class_path``
            and ``init_args`` of one.
        lr_min_factor: the last rate as a fraction of learning_rate (``step`` never falls below it; ``one_cycle`` has
            its own last rate).
        lr_extend: when a resumed run gets another length, ``continue`` the rest of the schedule from the rate reached
            until the new end, or ``stretch`` the whole schedule over the new length, which makes the rate jump.
        step_size: epochs between two drops of ``step``.
        step_gamma: factor of a drop of ``step``.
        one_cycle_pct_start: share of the training in which the rate of ``one_cycle`` climbs.
        one_cycle_div_factor: ``one_cycle`` starts from learning_rate / one_cycle_div_factor.
        one_cycle_final_div_factor: ``one_cycle`` ends at its first rate / one_cycle_final_div_factor.
        warmup_epochs: epochs over which the rate climbs from zero (biases under SGD: falls from warmup_bias_lr).
        warmup_momentum: momentum at the first step.
        warmup_bias_lr: rate of the biases at the first step.
    """

    lr_scheduler: str | dict[str, Any] = "cosine"
    lr_min_factor: float = 0.01
    lr_extend: Literal["continue", "stretch"] = "continue"
    step_size: int = 30
    step_gamma: float = 0.1
    one_cycle_pct_start: float = 0.3
    one_cycle_div_factor: float = 25.0
    one_cycle_final_div_factor: float = 10000.0
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """What is not trained; see ``docs/how-to/train.md``.

    Args:
        freeze_backbone: leave the layers of the section ``backbone`` as they are.
        freeze_layers: further layers to leave as they are: sections (``neck``), numbers and ranges of layers counted
            from 0 as in parameter names (``3``, ``0-4``), tags (``B3``), or patterns of parameter names
            (``*.class_conv.*``).
        freeze_until_epoch: epochs after which all that is frozen is trained as well; 0 keeps it frozen.
    """

    freeze_backbone: bool = False
    freeze_layers: list[int | str] | int | str | None = None
    freeze_until_epoch: int = 0

    def frozen_layers(self) -> tuple[str, ...]:
        """Return the entries of ``freeze_layers`` as text."""
        given = self.freeze_layers
        entries = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
        return tuple(str(entry).strip() for entry in entries)


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """How the network is computed; see ``docs/how-to/train.md``. None of it changes what is learned, or files.

    Args:
        channels_last: let images and convolutions lie channels last in memory; null does so where it is faster.
        compile: run the network through ``torch.compile`` in training: true, or one of its modes. The first steps take
            minutes then; where there is no compiler, a warning says so.
    """

    channels_last: bool | None = None
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """The auxiliary branch, of which aux_loss_weight is the share in the loss.

    Args:
        aux_anneal_epochs: epochs over which the share falls from aux_loss_weight to 0, after which the branch is not
            computed any more; 0 keeps it to the end.
    """

    aux_anneal_epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class NMSConfig:
    """Non-maximum suppression in validation and prediction.

    Args:
        nms_conf_threshold: smallest score of a prediction, for inference and for precision, recall and F1.
        nms_val_conf_threshold: smallest score that counts towards mAP (low, so that the whole curve is seen).
        nms_iou_threshold: boxes of one class that overlap more than this are one object.
        nms_max_detections: most detections kept in an image.
    """

    nms_conf_threshold: float = 0.25
    nms_val_conf_threshold: float = 0.001
    nms_iou_threshold: float = 0.65
    nms_max_detections: int = 300


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Pictures of every validation of ``yolo fit``.

    Args:
        save_metrics_plots: draw precision, recall and F1 curves and the confusion matrix after every validation.
        metrics_plots_dir: folder of the folders ``epoch_<N>``, a relative one in the run folder; ``metrics`` when not
            given.
    """

    save_metrics_plots: bool = True
    metrics_plots_dir: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelConfig(
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
    FreezeConfig,
    LossConfig,
    AuxiliaryConfig,
    SpeedConfig,
    NMSConfig,
    PlotConfig,
):
    """Everything below ``model:`` in a configuration file."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        self.check_loss("model.")
        positive = ("learning_rate", "nms_max_detections", "step_size", "step_gamma")
        for key in (*positive, "one_cycle_div_factor", "one_cycle_final_div_factor"):
            if not 0 < getattr(self, key) < math.inf:
                raise UsageError(f"model.{key} is {getattr(self, key)}; it has to be above 0")
        not_negative = ("weight_decay", "warmup_epochs", "warmup_bias_lr", "lr_min_factor")
        for key in (*not_negative, "freeze_until_epoch", "aux_anneal_epochs"):
            if not 0 <= getattr(self, key) < math.inf:
                raise UsageError(f"model.{key} is {getattr(self, key)}; it cannot be negative")
        for key in ("momentum", "warmup_momentum"):
            if not 0 <= getattr(self, key) < 1:
                raise UsageError(f"model.{key} is {getattr(self, key)}; it has to be at least 0 and below 1")
        for key in ("nms_conf_threshold", "nms_val_conf_threshold", "nms_iou_threshold", "one_cycle_pct_start"):
            if not 0 <= getattr(self, key) <= 1:
                raise UsageError(f"model.{key} is {getattr(self, key)}; it has to be between 0 and 1")
        if len(self.adamw_betas) != 2:
            raise UsageError(f"model.adamw_betas has {len(self.adamw_betas)} numbers; give two, as in [0.9, 0.999]")
        if not all(0 <= beta < 1 for beta in self.adamw_betas):
            raise UsageError(f"model.adamw_betas is {list(self.adamw_betas)}; both have to be at least 0 and below 1")
