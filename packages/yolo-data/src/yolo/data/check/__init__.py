"""The data-set doctor: what is in a data set, what is wrong with it, and a repaired copy."""

from __future__ import annotations

from yolo.data.check.inspect import Inspection, check_dataset, inspect_dataset
from yolo.data.check.repair import copy_settings, write_repaired
from yolo.data.check.result import DatasetReport, SplitFacts
from yolo.data.formats.report import Finding

__all__ = [
    "DatasetReport",
    "Finding",
    "Inspection",
    "SplitFacts",
    "check_dataset",
    "copy_settings",
    "inspect_dataset",
    "write_repaired",
]
