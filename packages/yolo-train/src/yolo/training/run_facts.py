"""What a run was made of: software, hardware, data, weights, code and command, as plain data without secrets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from yolo.core.plugins import get_manager
from yolo.data.encryption.keys import mask_keys
from yolo.training.checkpoint import dataset_facts, versions
from yolo.training.module import YOLOModule

HIDDEN = "<hidden>"
_SECRET = r"(?:key|token|secret|password|passwd|credentials?)"
_SECRET_NAME = re.compile(rf"{_SECRET}$", re.IGNORECASE)
_SECRET_INSIDE = re.compile(rf"({_SECRET}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}\]&]+)", re.IGNORECASE)
_USER_OF_URL = re.compile(r"(?<=://)[^/\s@]+@")
_PIECE = 1 << 22  # bytes
_GIT_SECONDS = 5
_GIB = 1 << 30


def software() -> dict[str, str | None]:
    """Return versions of Python, of the libraries that numbers come from, and of every plugin's distribution."""
    import cv2

    plugins = {record.distribution: record.version for record in get_manager().plugins if record.version}
    cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found = {**versions(), **plugins, "opencv": cv2.__version__, "cuda": torch.version.cuda}
    found["torch"] = str(torch.__version__)  # which says for what it was built
    return {**found, "cudnn": None if cudnn is None else str(cudnn)}


def hardware(trainer: Trainer) -> dict[str, Any]:
    """Return what the training runs on, and how it is spread."""
    device = trainer.strategy.root_device
    gpus = []
    if device.type == "cuda":
        properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        gpus = [f"{item.name}, {item.total_memory / _GIB:.0f} GiB" for item in properties]
    return {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "gpus": gpus,
        "device": device.type,
        "processes": trainer.world_size,
        "machines": trainer.num_nodes,
        "strategy": type(trainer.strategy).__name__,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def data_facts(module: YOLOModule) -> dict[str, dict[str, Any]]:
    """Return per split that is in use its fingerprint and its numbers of images, boxes and classes.

    The fingerprint is a hash of all names, sizes, boxes and classes; it does not depend on the folder they lie in.
    """
    found = {}
    for split, facts in dataset_facts(module).items():
        found[split] = {
            "images": facts["images"],
            "boxes": facts["objects"],
            "classes": len(module.data.class_names),
            "fingerprint": facts["fingerprint"],
        }
    return found


def weight_facts(module: YOLOModule) -> dict[str, Any]:
    """Return the hash of the network as it is, and of the file that it started from."""
    file = None
    if module.started_from:
        with contextlib.suppress(OSError):
            file = file_facts(module.started_from)
    return {"sha256": hash_of_network(module.model), "file": file}


def hash_of_network(network: nn.Module) -> str:
    """Return sha256 of the names, types, shapes and values of all parameters and buffers, whatever their layout."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_facts(path: str | Path) -> dict[str, Any]:
    """Return path, size and sha256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
        size = file.tell()
    return {"path": str(path), "bytes": size, "sha256": digest.hexdigest()}


def git_facts(folder: Path) -> dict[str, Any] | None:
    """Return commit of a working folder, and whether its files are changed; None without git or a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str:
        # A repository may name programs to run in its configuration; none of them is needed.
        command = [git, "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
        return done.stdout.strip()

    try:
        commit = ask("rev-parse", "HEAD")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    try:
        changed: bool | None = bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):  # of a large repository on a slow disk
        changed = None
    return {"commit": commit, "changed": changed}


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which every key, token, password and the like is covered."""
    shown, hide_next = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_secret = argument.startswith("--") and _SECRET_NAME.search(name) is not None
        if is_secret and equals:
            shown.append(f"{name}={HIDDEN}")
        elif hide_next and not argument.startswith("--"):
            shown.append(HIDDEN)
        else:
            shown.append(_covered(argument))
        hide_next = is_secret and not equals
    return shown


def shown_settings(value: Any) -> Any:
    """Return settings with None in the place of everything whose name says that it is secret."""
    if isinstance(value, dict):
        return {
            name: None if _SECRET_NAME.search(str(name)) and not isinstance(entry, bool) else shown_settings(entry)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [shown_settings(entry) for entry in value]
    return _covered(value) if isinstance(value, str) else value


def _covered(text: str) -> str:
    text = _USER_OF_URL.sub(f"{HIDDEN}@", mask_keys(text))
    return _SECRET_INSIDE.sub(rf"\g<1>{HIDDEN}", text)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB, 1)
    return None
