"""Where in an epoch a run stands, as Lightning's loops write it into a checkpoint, made fit for going on.

Lightning's own way back from a checkpoint leaves validation and the end of an epoch out when the file was written after
the last batch, and takes one batch too many when there was no validation to do. So the counters are settled here before
the loops read them. Written for Lightning 2.6; the tests of a resume go through every place where a run can stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

_TRACKERS = ("total", "current")


@dataclass(frozen=True)
class Position:
    """A place in a training.

    Attributes:
        epoch: epochs that are complete.
        batch: batches of the next one that are done.
    """

    epoch: int
    batch: int


def settle_loops(checkpoint: dict[str, Any], *, validated: bool, batches: int | None, saved_batches: int | None,
                 accumulate: int = 1) -> Position:  # fmt: skip
    """Rewrite the counters of a checkpoint so that Lightning goes on exactly where the file was written.

    Args:
        checkpoint: changed in place.
        validated: whether the validation that was due after the last batch has run.
        batches: in an epoch, of one process; None where that is not known.
        saved_batches: the same when the file was written; another number means another batch size or other data.
        accumulate: batches to an optimiser step.

    Returns:
        Where the run goes on.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, counts = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] >= epochs["current"]["started"] or counts["current"]["processed"] == 0:
        _set(epochs, "processed")
        position = Position(epochs["current"]["processed"], 0)
    else:
        _set(counts, "processed")
        done = counts["current"]["processed"]
        if batches is not None and saved_batches is not None and batches != saved_batches:
            done = min(done * batches // saved_batches // accumulate * accumulate, batches)
            counts["current"].update(dict.fromkeys(counts["current"], done))
            counts["is_last_batch"] = done == batches
        position = Position(epochs["current"]["processed"], done)
        _settle_validation(loops["epoch_loop.val_loop.batch_progress"], validated=validated)
    for state in loops["state_dict"].get("combined_loader", []):
        if isinstance(state, dict) and state.keys() == {"epoch", "batch"}:
            state.update(epoch=position.epoch, batch=position.batch)
    return position


def _set(progress: Mapping[str, Any], key: str) -> None:
    """Let all counters of both trackers say what one of them says."""
    for name in _TRACKERS:
        progress[name].update(dict.fromkeys(progress[name], progress[name][key]))


def _settle_validation(progress: dict[str, Any], *, validated: bool) -> None:
    if validated:
        _set(progress, "completed")
        return
    # What Lightning takes for a validation that was interrupted in its first batch, and does again.
    for name in _TRACKERS:
        progress[name].update(ready=1, started=1, processed=0, completed=0)
    progress["is_last_batch"] = False


def enter_loops(trainer: Trainer, position: Position) -> None:
    """Do at the start of the training what the loops cannot read from their counters.

    Args:
        trainer: with restored loops, about to train.
        position: what :func:`settle_loops` returned.
    """
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    steps = trainer.global_step
    if position.batch == 0:
        # With trainer.max_steps Lightning takes any epoch for an interrupted one.
        for loop in (fit, epoch, epoch.val_loop):
            loop._restarting = False
        epoch._batches_that_stepped = steps
        return
    fetcher = fit._data_fetcher
    assert fetcher is not None
    due = epoch._should_check_val_fx(fetcher)
    # Lightning counts a step for its loggers after the validation that follows it.
    epoch._batches_that_stepped = steps - 1 if due else steps
    if not due and epoch._num_ready_batches_reached():
        epoch.val_loop._has_run = True  # nothing is left of this epoch but its end


def leave_epoch(trainer: Trainer) -> None:
    """Let the next epoch begin like any other, also after one of which only the end was left."""
    trainer.fit_loop.epoch_loop.restarting = False
