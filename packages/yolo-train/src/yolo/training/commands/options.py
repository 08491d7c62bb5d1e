"""Options of the commands that measure a checkpoint, and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from yolo.core.errors import UsageError
from yolo.data.config import DataConfig
from yolo.data.config_files import config_path

_DATA_KEYS = {field.name for field in fields(DataConfig)}
_OF_A_TRAINING = {"data_fraction"}  # what was trained on a part is measured on the whole, unless asked otherwise


def build_parser(command: str) -> ArgumentParser:
    """Return the parser of ``yolo validate`` or ``yolo test``; no defaults where a file decides."""
    parser = ArgumentParser(prog=f"yolo {command}", description=f"Measure a checkpoint on the {_split(command)} split.")
    add = parser.add_argument
    add("-c", "--checkpoint", "--model", type=str, required=True, help="Checkpoint or weight file.")
    add("--config", type=str, action="append", help="Configuration file or packaged name; later ones win.")
    add("--batch-size", type=int | None, help="Images per batch (default: 16).")
    add("--conf", "--conf-threshold", type=float | None, help="Smallest score that counts (default: 0.001).")
    add("--iou", "--iou-threshold", type=float | None, help="Overlap at which NMS removes a box (default: 0.6).")
    add("--max-det", type=int | None, help="Most detections per image (default: 300).")
    add("--protocol", type=str | None, help="'official' is conf 0.001, IoU 0.7, 300 detections.")
    add("--conf-prod", type=float, default=0.25, help="Threshold of precision, recall and F1.")
    add(
        "--size",
        type=int | list[int] | None,
        help="Input size; default: the config's, else the checkpoint's, else 640.",
    )
    add("--device", type=str, default="auto", help="auto, cpu, cuda or mps.")
    add("-o", "--output", type=str, default="validation_results", help="Folder of the results.")
    add("--save-json", action="store_true", help="Write results.json and detections.json (the default).")
    add("--no-json", action="store_true", help="Write no JSON.")
    add("--workers", type=int | None, help="Processes that load images (default: 4).")
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _split(command: str) -> str:
    return "test" if command == "test" else "validation"


def given_data_keys(args: Sequence[str]) -> set[str]:
    """Return the names of the ``--data.<key>`` options that stand on a command line."""
    return {arg.partition("=")[0].removeprefix("--data.").split(".")[0] for arg in args if arg.startswith("--data.")}


def read_configs(values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the sections ``data`` and ``model`` of configuration files; later files win key by key.

    Raises:
        UsageError: a file is missing, or is not YAML with sections.
    """
    merged: dict[str, dict[str, Any]] = {"data": {}, "model": {}}
    for value in values:
        path = config_path(value)
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123  # a plain text file
                content = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise UsageError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
        if not isinstance(content, Mapping):
            raise UsageError(f"{path}: expected sections such as `data:` and `model:`")
        for section in merged:
            merged[section] |= content.get(section) or {}
    return merged


def resolve_data(
    parsed: Namespace, given: set[str], configs: Mapping[str, Any], stored: Mapping[str, Any]
) -> DataConfig:
    """Build the data settings: the command line wins over configuration files, those over the checkpoint's own.

    The checkpoint's settings serve only when neither the command line nor a file says where the data is.
    """
    named = bool(given & {"root"} or "root" in configs or "format" in configs)
    kept = _DATA_KEYS - _OF_A_TRAINING
    values = {} if named else {key: value for key, value in stored.items() if key in kept}
    values |= configs
    values |= {key: parsed.data[key] for key in given if key in _DATA_KEYS}
    unknown = sorted(set(values) - _DATA_KEYS)
    if unknown:
        raise UsageError(f"data.{unknown[0]} is not a setting of the data: see `yolo validate --help`")
    for key, value in values.items():
        if isinstance(value, list) and key == "image_size":
            values[key] = tuple(value)
    return DataConfig(**values)
