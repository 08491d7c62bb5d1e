"""What ``yolo doctor`` looks at. Each function returns findings; only those about devices import torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from yolo.core.plugins import PluginRecord

Level = Literal["ok", "warning", "failed"]

# The rule of yolo.data.workers, which this package cannot import; a test holds the two together.
_FILES_PER_WORKER = 15
_FILES_BESIDE_WORKERS = 1000
_FILES_PER_WORKER_AT_LEAST = 25
_DEFAULT_WORKERS = 8
_LOW_SHARED_MEMORY_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: the heading it belongs to.
        name: what was looked at.
        value: what was found.
        level: ``failed`` when something cannot work.
        hint: what to do about it.
    """

    section: str
    name: str
    value: str
    level: Level = "ok"
    hint: str = ""


def versions(plugins: list[PluginRecord]) -> list[Finding]:
    """Python, the plugins' distributions, and what those require."""
    found = [
        Finding("Versions", "python", f"{platform.python_version()} ({sys.executable})"),
        Finding("Versions", "platform", platform.platform()),
    ]
    members = list(dict.fromkeys(["yolo-core", *(plugin.distribution for plugin in plugins)]))
    needed: dict[str, Finding] = {}
    for member in members:
        found.append(_installed(member, required_by=None))
        for name, optional in _requirements(member):
            finding = _installed(name, required_by=member)
            if name not in members and not (optional and finding.level == "failed"):
                needed.setdefault(name, finding)
    return [*found, *(needed[name] for name in sorted(needed, key=str.lower))]


def devices() -> list[Finding]:
    """What torch can compute on."""
    section = "Devices"
    try:
        import torch
    except Exception as error:  # a broken torch fails in many ways, and this reports them
        return [Finding(section, "torch", f"{type(error).__name__}: {error}", "failed", "Reinstall torch.")]
    found = [Finding(section, "cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        from yolo.core.selftest.known import driver

        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = f"{properties.total_memory / 2**30:.1f} GiB"
            value = f"{properties.name}, {memory}, driver {driver()}"
            found.append(Finding(section, f"cuda:{index}", value))
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        hint = "torch does not see the GPU: compare the driver in 'nvidia-smi' with torch's CUDA version."
        found.append(Finding(section, "cuda", f"not usable (torch for CUDA {torch.version.cuda})", "warning", hint))
    if torch.backends.mps.is_available():
        found.append(Finding(section, "mps", "Apple GPU"))
    if len(found) == 1:
        found.append(Finding(section, "accelerator", "none, everything runs on the CPU"))
    return found


def self_tests(device: str, precisions: Sequence[str]) -> list[Finding]:
    """What a device computes, compared with the CPU: a finding for each precision and layout, or for what differs.

    Raises:
        UsageError: there is no such device.
    """
    from yolo.core.device import pick_device
    from yolo.core.selftest import remember, self_test

    found = []
    for precision in precisions:
        for channels_last in (False, True):
            result = self_test(pick_device(device), precision, channels_last=channels_last)
            remember(result)
            name = f"{result.device} {precision}{' channels_last' * channels_last}"
            worst = result.worst()
            if result.passed:
                most = 100 * max(check.strain for check in worst.values())
                value = f"{len(result.checks)} comparisons, errors up to {most:.0f} % of what is allowed"
                found.append(Finding("Self-test", name, value))
            for part, check in worst.items():
                if not check.passed:
                    found.append(Finding("Self-test", f"{name} {part}", str(check), "failed", result.advice()))
    return found


def plugin_states(plugins: list[PluginRecord]) -> list[Finding]:
    """Whether each plugin works."""
    found = []
    for plugin in plugins:
        works = plugin.status in ("ok", "disabled")
        value = plugin.status if works else f"{plugin.status}: {plugin.error}"
        hint = "" if works else f"Repair or uninstall {plugin.distribution}, or set YOLO_DISABLE_PLUGINS={plugin.name}."
        found.append(Finding("Plugins", plugin.name, value, "ok" if works else "failed", hint))
    return found


def limits() -> list[Finding]:
    """Limits of the system that stop data loading: open files and shared memory."""
    found: list[Finding] = []
    try:
        import resource
    except ImportError:  # Windows has neither.
        return found
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    workers = workers_within(soft)
    enough = unlimited or workers >= _DEFAULT_WORKERS
    wanted = _DEFAULT_WORKERS * _FILES_PER_WORKER + _FILES_BESIDE_WORKERS
    many = f"{workers} worker{'s' * (workers != 1)}"
    value = "unlimited" if unlimited else f"{soft} (enough for {many}), hard limit {hard}"
    hint = "" if enough else f"For the default of {_DEFAULT_WORKERS} workers run: ulimit -n {wanted}"
    found.append(Finding("Limits", "open files", value, "ok" if enough else "warning", hint))
    if os.path.isdir("/dev/shm"):  # noqa: PTH112 - a fixed path of Linux
        free = shutil.disk_usage("/dev/shm").free / 2**30
        enough = free >= _LOW_SHARED_MEMORY_GB
        hint = "" if enough else "Workers pass images through it; in a container run with --ipc=host or --shm-size=8g."
        found.append(Finding("Limits", "shared memory", f"{free:.1f} GiB free", "ok" if enough else "warning", hint))
    return found


def workers_within(limit: int) -> int:
    """How many loader workers training starts, at most, under a limit on open files."""
    return max(1, (limit - _FILES_BESIDE_WORKERS) // _FILES_PER_WORKER, limit // _FILES_PER_WORKER_AT_LEAST)


def _installed(name: str, *, required_by: str | None) -> Finding:
    try:
        return Finding("Versions", name, version(name))
    except PackageNotFoundError:
        hint = f"Needed by {required_by}: pip install '{name}'" if required_by else f"pip install '{name}'"
        return Finding("Versions", name, "not installed", "failed", hint)


def _requirements(distribution: str) -> list[tuple[str, bool]]:
    """What a distribution requires, and whether only under a condition (an extra, a platform)."""
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
        if name:
            found.append((name.group(), ";" in line))
    return found
