"""The folder of what is made or fetched on first use."""

from __future__ import annotations

import os
from pathlib import Path

from yolo.core.errors import YoloError


def yolo_home() -> Path:
    """Where weights, drawn data sets and the converter are kept: ``$YOLO_HOME``, else ``~/.cache/yolo``.

    Raises:
        YoloError: there is no home folder.
    """
    home = os.environ.get("YOLO_HOME")
    try:
        return (Path(home).expanduser() if home else Path.home() / ".cache" / "yolo").absolute()
    except RuntimeError as error:
        raise YoloError("there is no home folder to keep files in; set YOLO_HOME to a folder") from error
