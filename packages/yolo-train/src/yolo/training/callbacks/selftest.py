"""The first use of a device in a precision begins with a comparison with the CPU."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.core.errors import YoloError
from yolo.core.selftest import PRECISIONS, is_known, remember, self_test
from yolo.training.module import YOLOModule

logger = logging.getLogger(__name__)


class SelfTestError(YoloError):
    """A device computes something else than the CPU does."""


class DeviceSelfTest(Callback):
    """Compare the device with float32 on the CPU before the first training on it: a second, once.

    A pass is remembered for that device, precision, memory layout, driver and torch. Every process tests its own
    device, and where one fails, all of them say so. Nothing random is drawn. The CPU in float32 is not compared with
    itself. ``yolo doctor --self-test`` tests at any time.

    Args:
        enabled: false tests nothing.
        action: ``stop`` ends the training with an error where a device fails; ``warn`` goes on.
    """

    def __init__(self, enabled: bool = True, action: Literal["stop", "warn"] = "stop") -> None:
        self.enabled = enabled
        self.action = action

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Test before anything is built."""
        device, precision = trainer.strategy.root_device, str(trainer.precision)
        needless = device.type == "cpu" and precision == "32-true"
        if not self.enabled or stage != "fit" or needless or precision not in PRECISIONS:
            return
        assert isinstance(pl_module, YOLOModule)
        found = _gathered(trainer, _tested(device, precision, channels_last=pl_module.channels_last))
        failures = list(dict.fromkeys(text for text in found if text))
        if not failures:
            return
        more = f" ({len(failures) - 1} other devices fail, too.)" if len(failures) > 1 else ""
        text = f"The self-test failed: {failures[0]}{more}"
        if self.action == "stop":
            raise SelfTestError(f"{text} --selftest.action warn trains all the same.")
        if trainer.is_global_zero:
            logger.warning("%s", text)


def _tested(device: torch.device, precision: str, *, channels_last: bool) -> str:
    """What is wrong with a device; empty where nothing is."""
    if is_known(device, precision, channels_last=channels_last):
        return ""
    result = self_test(device, precision, channels_last=channels_last)
    if not result.passed:
        return str(result)
    remember(result)
    logger.info("Self-test: %s.", result)
    return ""


def _gathered(trainer: Trainer, text: str) -> list[str]:
    """The texts of all processes, by rank: one that stops alone would leave the others waiting."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return [text]
    texts: list[Any] = [""] * trainer.world_size
    torch.distributed.all_gather_object(texts, text)
    return texts
