"""A conformance kit for export backends: inherit a test class, name the backend, and learn whether its files are right.

Needs pytest, which yolo-export does not install.
"""

from __future__ import annotations

from yolo.export.testing.backend import BackendContract
from yolo.export.testing.checkpoint import write_random_checkpoint

__all__ = ["BackendContract", "write_random_checkpoint"]
