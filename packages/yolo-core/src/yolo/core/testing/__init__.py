"""A conformance kit for plugins: inherit a test class, set one fixture, and learn whether the plugin is well made.

Needs pytest, which yolo-core does not install. For the things that a plugin registers there are more kits beside the
packages that use them, such as ``yolo.data.testing``.
"""

from __future__ import annotations

from .distributions import fake_distribution
from .plugin import PluginConformance, collect_records

__all__ = ["PluginConformance", "collect_records", "fake_distribution"]
