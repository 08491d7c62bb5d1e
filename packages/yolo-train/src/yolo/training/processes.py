"""What the processes of one training agree on: who goes first, whether all is well, and what they share."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store  # where processes can wait without a time limit

from yolo.core.errors import UsageError, YoloError
from yolo.core.losses import DetectionLoss
from yolo.training.messages import rank_on_machine

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_POLL = 0.2  # seconds
_PATIENCE = 3.0  # seconds that other processes get to fail alike, or to end
_GONE = r"connection (was )?(closed|reset)|socket|broken pipe|nccl|timed out|timeout"
_turns = 0


class OtherProcessError(YoloError):
    """Another process of the training has stopped."""


@contextmanager
def one_voice() -> Iterator[None]:
    """Where all processes of a machine fail alike, let only its first one say so.

    The others end with code 0: launchers answer any other code by killing the rest, before the first has spoken.
    """
    try:
        yield
    except YoloError:
        if rank_on_machine():
            raise SystemExit(0) from None
        raise


@contextmanager
def first_on_each_machine(trainer: Trainer | None) -> Iterator[bool]:
    """Run a block in the first process of every machine, then, quietly, in the others, then see that all went well.

    There is no time limit to what the first does, unlike with a barrier. What it complains about is not repeated by
    the others, which read the same files.

    Args:
        trainer: None, or of a single process, is as if this were not there.

    Yields:
        Whether this is a first process.

    Raises:
        OtherProcessError: another process could not do it.
    """
    if trainer is None or trainer.world_size == 1 or not dist.is_initialized():
        yield True
        return
    global _turns
    _turns += 1
    store = _get_default_store()
    keys = [f"yolo/turn-{_turns}/{rank}" for rank in range(trainer.world_size)]
    first, fine = trainer.local_rank == 0, False
    log = logging.getLogger("yolo")
    level = log.level
    try:
        if not first:
            if not _all_well(store, [keys[trainer.global_rank - trainer.local_rank]]):
                raise SystemExit(0)  # see one_voice
            log.setLevel(logging.ERROR)
        yield first
        fine = True
    finally:
        log.setLevel(level)
        store.set(keys[trainer.global_rank], "1" if fine else "0")
    if not _all_well(store, keys):
        if first:
            raise OtherProcessError("another process of this training could not begin; its own message says why")
        raise SystemExit(0)


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """See that a training of several processes ends as a whole, and with one message where one is enough.

    An error that the first process of the machine has as well is left to it. Processes that this one started do not
    outlive its failure.

    Raises:
        OtherProcessError: the connection to another process broke.
    """
    try:
        yield
    except BaseException as error:
        several = trainer.world_size > 1 and dist.is_initialized()
        if several and isinstance(error, YoloError) and _said_by_first(trainer, f"{type(error).__name__}: {error}"):
            raise SystemExit(0) from None  # see one_voice
        _end(getattr(trainer.strategy.launcher, "procs", []))
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and re.search(_GONE, str(error).lower()):
            raise OtherProcessError(
                f"process {trainer.global_rank} of {trainer.world_size} lost the connection to another one, whose own "
                f"message says why it stopped ({_first_line(error)})"
            ) from error
        raise


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the values of the first, in place: one message for each type of number."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    with torch.no_grad():
        for held in kinds.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in held])
            dist.broadcast(flat, src=0)
            for tensor, values in zip(held, torch.split(flat, [tensor.numel() for tensor in held]), strict=True):
                tensor.copy_(values.view_as(tensor))


@contextmanager
def one_batch(compute_loss: DetectionLoss, processes: int) -> Iterator[None]:
    """Let a loss divide by the soft scores of the whole batch, of which each process has a part.

    The divisor is the mean over the processes, so that the mean of their losses, and of their gradients, is that of
    the whole batch. A part of it that is not finite is left out: that process alone has a bad loss then, and can be
    named.
    """
    if processes == 1 or not hasattr(compute_loss, "divisor"):  # or a function in its place
        yield
        return

    def divisor(total: Tensor) -> Tensor:
        everything = torch.nan_to_num(total, nan=0.0, posinf=0.0)
        dist.all_reduce(everything)
        return everything.clamp(min=1) / processes

    own, compute_loss.divisor = compute_loss.divisor, divisor
    try:
        yield
    finally:
        compute_loss.divisor = own


def check_norm_sync(trainer: Trainer) -> None:
    """Refuse synchronised norm layers where torch has none, before the first step does.

    Raises:
        UsageError: ``trainer.sync_batchnorm`` on a CPU.
    """
    synchronised = getattr(trainer.strategy, "_layer_sync", None) is not None
    if synchronised and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise UsageError("trainer.sync_batchnorm: torch synchronises norm layers on GPUs only; leave it out on a CPU")


def _all_well(store: Any, keys: list[str]) -> bool:
    """Wait until other processes have said how it went, however long it takes them."""
    while not store.check(keys):
        time.sleep(_POLL)
    return all(value == b"1" for value in store.multi_get(keys))


def _said_by_first(trainer: Trainer, text: str) -> bool:
    """Tell the other processes of this machine of an error; true when the first one has had the same, or is gone."""
    rank, first = trainer.global_rank, trainer.global_rank - trainer.local_rank
    end = time.monotonic() + _PATIENCE
    try:
        store = _get_default_store()
        store.set(f"yolo/error/{rank}", text)
        while rank != first and time.monotonic() < end:
            if store.check([f"yolo/error/{first}"]):
                return bool(store.get(f"yolo/error/{first}") == text.encode())
            time.sleep(_POLL)
    except RuntimeError:  # the store is gone, with the first process of all
        return rank != first
    return False


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End child processes: by waiting, by asking, and, when one is caught in a call to another process, by force."""
    running = [process for process in processes if process.poll() is None]
    for number in (None, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        for process in running:
            if number is not None:
                process.send_signal(number)
        end = time.monotonic() + _PATIENCE
        while running and time.monotonic() < end:
            time.sleep(_POLL / 2)
            running = [process for process in running if process.poll() is None]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]
