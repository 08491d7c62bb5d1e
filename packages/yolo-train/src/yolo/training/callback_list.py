"""Merging the callbacks that exist in every run with a ``trainer.callbacks`` list of a configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar

from yolo.core.errors import UsageError
from yolo.core.plugins import load_target
from yolo.training import callbacks as ours
from yolo.training.callback_sources import CallbackSources, ListedEntry

NAMED_CALLBACKS: dict[str, type[Callback]] = {
    "ema": ours.EMACallback,
    "early_stopping": ours.YOLOEarlyStopping,
    "progress": ours.YOLOProgressBar,
    "summary": ours.TrainingSummaryCallback,
    "dashboard": ours.EvalDashboardCallback,
    "record": ours.RunRecord,
    "pictures": ours.TrainingPictures,
    "rates": ours.RateCurves,
    "guard": ours.NonFiniteGuard,
    "selftest": ours.DeviceSelfTest,
    "interrupt": ours.InterruptCallback,
}
_CHECKPOINT = "yolo.training.callbacks.YOLOCheckpoint"


def settle_listed(config: Namespace, args: Sequence[str]) -> None:
    """Rewrite a parsed ``trainer.callbacks`` list so that nothing stands in two places.

    A callback that exists by name gives the settings that are written in the list to the section of that name, and
    leaves the list. Of two settings of one option the later source wins (files in their order, then the command line),
    and within one source the one by name. Lightning's ModelCheckpoint becomes ours, which takes the same arguments.

    Args:
        config: changed in place.
        args: the command line.

    Raises:
        UsageError: one of our callbacks is listed twice.
    """
    listed = config.trainer.callbacks
    if not listed:
        config.trainer.callbacks = None
        return
    entries = listed if isinstance(listed, list) else [listed]
    sources = CallbackSources.read(args, list(NAMED_CALLBACKS))
    written = sources.entries
    if len(written) != len(entries):  # a way of writing them that we do not know: what was parsed is what was meant
        written = [ListedEntry(len(args), None) for _ in entries]
    rest, taken = [], set()
    for entry, found in zip(entries, written, strict=True):
        kind = _class_of(entry.class_path)
        values = dict(entry.get("init_args") or {})
        explicit = set(values) if found.keys is None else found.keys
        if kind in (ModelCheckpoint, EarlyStopping) and "mode" not in explicit:
            values["mode"] = _mode(values.get("monitor"), values.get("mode"))
            entry["init_args.mode"] = values["mode"]
            explicit = explicit | {"mode"}
        if kind is ModelCheckpoint:
            entry.class_path = _CHECKPOINT
        name = _name_of(kind)
        if name is None or (name in taken and issubclass(kind, EarlyStopping)):
            rest.append(entry)  # a second early stopping watches something else
            continue
        if name in taken:
            raise UsageError(f"trainer.callbacks: {kind.__name__} is listed twice; give it once, or set --{name}.*")
        taken.add(name)
        for key in explicit & values.keys():
            if key in config[name] and not sources.wins_by_name(name, key, found):
                config[name][key] = values[key]
    config.trainer.callbacks = rest or None


def merge_callbacks(
    listed: Sequence[Callback] | Callback, named: Sequence[Callback], *, checkpoints: bool = True, progress: bool = True
) -> list[Callback]:
    """Join what is left of a configuration's list with the callbacks of every run.

    Args:
        listed: from ``trainer.callbacks``; a checkpoint or progress bar there replaces our own, and so does a subclass
            of a callback that exists by name.
        named: the callbacks set by name.
        checkpoints: false leaves all checkpoints out (``trainer.enable_checkpointing``).
        progress: false leaves all progress bars out (``trainer.enable_progress_bar``).
    """
    listed = [listed] if isinstance(listed, Callback) else listed
    named = [own for own in named if not any(isinstance(other, type(own)) for other in listed if _is_derived(other))]
    saving = [callback for callback in listed if isinstance(callback, ModelCheckpoint)]
    if not saving:
        named = [*named, ours.YOLOCheckpoint(save_last=True)]
    elif not any(callback.save_last for callback in saving):
        named = [*named, ours.YOLOCheckpoint(save_last=True, save_top_k=0)]  # or the run could not be resumed
    if any(isinstance(callback, ProgressBar) for callback in listed):
        named = [callback for callback in named if not isinstance(callback, ProgressBar)]
    unwanted = tuple(kind for kind, wanted in ((ModelCheckpoint, checkpoints), (ProgressBar, progress)) if not wanted)
    return [callback for callback in (*named, *listed) if not isinstance(callback, unwanted)]


def answer_place_in_list(args: Sequence[str]) -> None:
    """Raise UsageError for an option such as ``--trainer.callbacks.6.init_args.decay``, with the name to use."""
    for arg in args:
        match = re.match(r"--trainer\.callbacks\.(\d+)(?:\.init_args)?(?:\.(\w+))?", arg)
        if match is None:
            continue
        place, key = int(match[1]), match[2] or ""
        entries = CallbackSources.read([a for a in args if a.startswith("--config=")], list(NAMED_CALLBACKS)).entries
        kind = entries[place].class_path.rpartition(".")[2] if place < len(entries) else ""
        meant = [name for name, own in NAMED_CALLBACKS.items() if kind in _class_names(own)]
        having = [name for name, own in NAMED_CALLBACKS.items() if key in own.__init__.__code__.co_varnames]
        names = meant or ([] if kind else having)
        use = ", ".join(f"--{name}.{key if key and names else '<option>'}" for name in names or NAMED_CALLBACKS)
        told = f"use {use}" if names else f"change it in the file that lists it; those that are set by name are {use}"
        raise UsageError(f"{arg.split('=')[0]}: callbacks are set by name, not by their place in a list: {told}")


def _class_of(class_path: str) -> type[Callback]:
    module, _, name = class_path.rpartition(".")
    kind: type[Callback] = load_target(f"{module}:{name}")
    return kind


def _name_of(kind: type[Callback]) -> str | None:
    if kind is EarlyStopping:
        return "early_stopping"
    return next((name for name, own in NAMED_CALLBACKS.items() if own is kind), None)


def _class_names(own: type[Callback]) -> tuple[str, ...]:
    return (own.__name__, "EarlyStopping") if own is ours.YOLOEarlyStopping else (own.__name__,)


def _is_derived(callback: Callback) -> bool:
    """Whether a callback is of somebody's subclass of ours, which then stands in its place."""
    return type(callback) not in NAMED_CALLBACKS.values()


def _mode(monitor: object, default: object) -> object:
    """The direction in which a metric gets better, where it was not written down.

    Lightning assumes ``min``, which would keep the worst network of all when ``val/mAP`` is watched.
    """
    is_score = isinstance(monitor, str) and monitor.startswith("val/") and "loss" not in monitor
    return "max" if is_score else default
