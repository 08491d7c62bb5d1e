"""The plugin contract: what an installed distribution may add to yolo, and how it says so.

A plugin is a light module of hook implementations, named by an entry point in the group ``yolo.plugins``. Each hook
yields frozen records whose ``target`` is a string, so that finding plugins imports nothing heavy. See
:mod:`yolo.core.plugins.hookspecs` for the seven hooks, and :mod:`yolo.core.testing` for a test class to inherit.

Importing this package does not import torch.
"""

from __future__ import annotations

from .discovery import ENTRY_POINT_GROUP
from .errors import MissingRequirementError, PluginError
from .hookspecs import HOOKS, KINDS, PROJECT, hookimpl
from .manager import PluginManager, get_manager, registry, reset_manager
from .records import (
    AugmentationSpec,
    CommandSpec,
    ConfigSpec,
    DatasetFormatSpec,
    ExportBackendSpec,
    ImageLoaderSpec,
    LRSchedulerSpec,
    PluginSpec,
)
from .registry import Registry
from .resolve import resolve
from .settings import Settings
from .status import PluginRecord
from .suggest import did_you_mean
from .targets import load_target

__all__ = [
    "ENTRY_POINT_GROUP",
    "HOOKS",
    "KINDS",
    "PROJECT",
    "AugmentationSpec",
    "CommandSpec",
    "ConfigSpec",
    "DatasetFormatSpec",
    "ExportBackendSpec",
    "ImageLoaderSpec",
    "LRSchedulerSpec",
    "MissingRequirementError",
    "PluginError",
    "PluginManager",
    "PluginRecord",
    "PluginSpec",
    "Registry",
    "Settings",
    "did_you_mean",
    "get_manager",
    "hookimpl",
    "load_target",
    "registry",
    "reset_manager",
    "resolve",
]
