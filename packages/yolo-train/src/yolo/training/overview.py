"""What is about to be trained, on what, where and for how long: the lines in front of a training."""

from __future__ import annotations

import logging
import re
import textwrap
from contextlib import nullcontext
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from yolo.core.models import build_model
from yolo.core.models.counts import count
from yolo.core.models.fuse import fuse
from yolo.data.sampler import mixing_epochs
from yolo.training.datamodule import YOLODataModule
from yolo.training.estimate import MemoryEstimate, estimate_memory
from yolo.training.module import YOLOModule
from yolo.training.runs import run_folder
from yolo.training.schedulers.course import schedule_name
from yolo.training.schedulers.warmup import WarmupSchedule
from yolo.training.wording import byte_size, number_of, short_path

logger = logging.getLogger(__name__)

WIDTH = 100
_INDENT = 11
_MOST_NAMES = 12
_FULL = 0.9  # share of a GPU's memory above which a training may not fit


def overview(trainer: Trainer, module: YOLOModule, *, width: int = WIDTH) -> str:
    """Describe a training that is set up, in several lines.

    Every process has to call it: with synchronised norm layers the estimate of the memory is a common effort.

    Args:
        trainer: at the start of a fit.
        module: with its network, data and optimiser.
        width: columns of a line.
    """
    rows = {
        "Model": _model(module),
        "Data": _data(trainer, module),
        "Classes": _classes(module.data.class_names),
        "Loading": _loading(trainer, module),
        "Device": _device(trainer, module),
        "Optimiser": _optimizer(trainer, module),
        "Length": _length(trainer, module),
        "Memory": _memory(trainer, module),
        "Run": _run(trainer, module),
    }
    return "\n".join(_row(name, text, width) for name, text in rows.items() if text)


def _row(name: str, text: str, width: int) -> str:
    """Break a text into lines, but not between a number and its unit."""
    joined = re.sub(r"(?<=[\d.]) (?=(MB|GB|M)\b)", "\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(joined, max(width - _INDENT, 2 * _INDENT), break_long_words=False, break_on_hyphens=False)
    plain = (line.replace("\N{NO-BREAK SPACE}", " ") for line in lines)
    return "\n".join(f"{'' if at else name:<{_INDENT}}{line}" for at, line in enumerate(plain))


def _model(module: YOLOModule) -> str:
    network, (width, height) = module.model, module.data.image_size
    parameters = sum(parameter.numel() for parameter in network.parameters())
    frozen = sum(network.get_parameter(name).numel() for name in module.freezing.parameters)
    with torch.device("meta"):  # nothing is computed, and no random number drawn
        deployed = fuse(build_model(network.spec, network.num_classes))
    counts = count(deployed, image_size=(width, height))
    text = f"{network.spec.name}, {len(network.plan.layers)} layers, {_millions(parameters)} parameters"
    text += f" ({_millions(parameters - frozen)} trained, {_millions(frozen)} frozen)" if frozen else ""
    text += ", auxiliary branch off" if network.has_auxiliary and not network.train_auxiliary else ""
    return f"{text}; deployed {_millions(counts.parameters)} and {counts.flops / 1e9:.1f} GFLOPs at {width}x{height}"


def _data(trainer: Trainer, module: YOLOModule) -> str:
    data = module.data
    train = data.labels("train")
    text = f"{len(train):,} training images with {len(train.boxes):,} boxes, "
    if trainer.limit_val_batches != 0:
        val = data.labels("val")
        text += f"{len(val):,} validation images with {len(val.boxes):,} boxes"
    else:
        text += "no validation"
    return f"{text}; {_place(data)} ({data.config.format})"


def _place(data: YOLODataModule) -> str:
    """The configured folder, or that of the pictures when they are elsewhere, as those of ``synthetic`` are."""
    paths, root = data.labels("train").paths, Path(data.config.root)
    inside = not len(paths) or Path(paths[0]).is_relative_to(root.expanduser().absolute())
    return str(root if inside else short_path(Path(paths[0]).parent))


def _classes(names: tuple[str, ...]) -> str:
    listed = ", ".join(" ".join(name.split()) for name in names[:_MOST_NAMES])
    return f"{len(names)}: {listed}{', ...' if len(names) > _MOST_NAMES else ''}"


def _loading(trainer: Trainer, module: YOLOModule) -> str:
    config = module.data.loading
    parts = [f"batches of {config.batch_size}", number_of(config.num_workers, "worker"), f"cache {config.cache_images}"]
    if config.mosaic_prob > 0:
        epochs = mixing_epochs(trainer.max_epochs, config.close_mosaic_epochs)
        parts.append("mosaics" if epochs is None else f"mosaics for {number_of(epochs, 'epoch')}")
    return ", ".join(parts)


def _device(trainer: Trainer, module: YOLOModule) -> str:
    device = trainer.strategy.root_device
    what = device.type.upper()
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        what = f"{facts.name} ({byte_size(facts.total_memory)})"
    elif device.type == "cpu":
        what = f"CPU ({number_of(torch.get_num_threads(), 'thread')})"
    nodes = f" on {trainer.num_nodes} machines" if trainer.num_nodes > 1 else ""
    how = ", channels last" * module.channels_last + ", compiled" * bool(module.config.compile)
    return f"{trainer.world_size} x {what}{nodes}, precision {trainer.precision}{how}"


def _optimizer(trainer: Trainer, module: YOLOModule) -> str:
    config = module.config
    parts = ["AdamW" if config.optimizer == "adamw" else "SGD", f"rate {config.learning_rate:g}"]
    parts += [f"momentum {config.momentum:g}"] if config.optimizer == "sgd" else []
    parts.append(f"weight decay {config.weight_decay:g}")
    if trainer.gradient_clip_val:
        parts.append(f"gradients clipped at {trainer.gradient_clip_val:g}")
    if module.averaged_state() is not None:
        parts.append("averaged weights (EMA)")
    schedule = schedule_name(config)
    found = next((c.scheduler for c in trainer.lr_scheduler_configs if isinstance(c.scheduler, WarmupSchedule)), None)
    if found is not None:
        schedule += f" to {found.course.rate_at(max(found.course.timeline.end - 1, 0)):.2g}"
        schedule += f" after {number_of(found.warmup_steps, 'step')} of warm-up" if found.warmup_steps else ""
    return f"{', '.join(parts)}; {schedule}"


def _length(trainer: Trainer, module: YOLOModule) -> str:
    steps, epochs = module.data.optimizer_steps_per_epoch(), trainer.max_epochs
    text = f"{number_of(steps, 'step')} an epoch"
    if epochs is not None and epochs >= 0:
        text = f"{number_of(epochs, 'epoch')} of {number_of(steps, 'step')}"
    if trainer.accumulate_grad_batches > 1:
        text += f", each of {trainer.accumulate_grad_batches} batches"
    return text + (f", {number_of(trainer.max_steps, 'step')} at most" if trainer.max_steps >= 0 else "")


def _memory(trainer: Trainer, module: YOLOModule) -> str:
    try:
        found = estimate_memory(
            module.model,
            image_size=module.data.image_size,
            batch_size=module.data.config.batch_size,
            optimizer=module.config.optimizer,
            average=module.averaged_state() is not None,
            processes=trainer.world_size,
            precision=getattr(trainer.precision_plugin, "train_step_context", nullcontext),
        )
    except Exception as error:  # a layer of somebody else's may need larger images; training has to start all the same
        logger.debug("The memory could not be estimated: %s", error)
        return ""
    return _memory_text(found, trainer.strategy.root_device)


def _memory_text(found: MemoryEstimate, device: torch.device) -> str:
    parts = {
        "activations": found.activations, "weights": found.weights, "gradients": found.gradients,
        "optimiser": found.optimizer, "EMA": found.average,
    }  # fmt: skip
    text = f"about {byte_size(found.total)}"
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    text += f" of {byte_size(total)}" if total else ""
    text += f" ({', '.join(f'{name} {byte_size(value)}' for name, value in parts.items() if value)})"
    return text + ("; THIS MAY NOT FIT: lower data.batch_size" if total and found.total > _FULL * total else "")


def _run(trainer: Trainer, module: YOLOModule) -> str:
    text = str(short_path(run_folder(trainer)))
    return f"{text}, goes on from {Path(module.resume_from).name}" if module.resume_from else text


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number:,}"
