"""Choosing where a network runs."""

from __future__ import annotations

import torch

from yolo.core.errors import UsageError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device that is there: ``"auto"`` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        UsageError: an unknown name, or a device that this machine (or this build of torch) does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f"unknown device {str(device)!r}; use auto, cpu, cuda, cuda:<number> or mps") from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            there = f"there are {count} CUDA devices, counted from 0" if count else "torch sees no CUDA device here"
            raise UsageError(f"device {str(device)!r} is not available: {there}")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not available on this machine")
    return chosen
