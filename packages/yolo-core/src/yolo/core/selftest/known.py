"""Which devices have passed before: small files in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
from pathlib import Path

import torch

from yolo.core.errors import YoloError
from yolo.core.files import write_atomically
from yolo.core.home import yolo_home
from yolo.core.selftest.result import SelfTest

_log = logging.getLogger("yolo.core")
_VERSION = 1  # of the test; what passed an older one is tested again


def numbered(device: torch.device) -> torch.device:
    """The device with its number: ``cuda`` is the current one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def device_name(device: torch.device) -> str:
    """What a device is called by its maker."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine() or device.type


def facts(device: torch.device, precision: str, *, channels_last: bool) -> dict[str, str]:
    """Everything that may change what a device computes, and which device it is."""
    found = {
        "test": str(_VERSION),
        "device": f"{device.type} {device_name(device)}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}, HIP {torch.version.hip}",
        "precision": precision,
        "channels_last": str(channels_last),
        "system": platform.mac_ver()[0] if device.type == "mps" else "",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["card"] = str(getattr(properties, "uuid", ""))  # of two cards of one kind, one may be broken
        found["driver"] = driver()
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]  # untyped in torch
    return found


def is_known(device: torch.device | str, precision: str, *, channels_last: bool = False) -> bool:
    """Whether this very device has passed with this torch, this driver and this precision."""
    known = facts(numbered(torch.device(device)), precision, channels_last=channels_last)
    try:
        return bool(json.loads(_file(known).read_text(encoding="utf-8")) == known)
    except (OSError, ValueError, YoloError):
        return False


def remember(result: SelfTest) -> None:
    """Note that a test passed, in ``self-test/`` of the cache folder; where nothing can be written, it is run again.

    Args:
        result: a failure is not noted.
    """
    if not result.passed:
        return
    known = facts(torch.device(result.device), result.precision, channels_last=result.channels_last)
    try:
        write_atomically(_file(known), json.dumps(known, indent=1).encode())
    except (OSError, YoloError) as error:
        _log.debug("the self-test is not remembered: %s", error)


def _file(known: dict[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return yolo_home() / "self-test" / f"{digest[:20]}.json"


def driver() -> str:
    """The version of NVIDIA's driver, where the system tells; else that of CUDA that it supports."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", text)
    if found:
        return found[0]
    version = getattr(torch._C, "_cuda_getDriverVersion", None)
    return str(version()) if version is not None else ""
