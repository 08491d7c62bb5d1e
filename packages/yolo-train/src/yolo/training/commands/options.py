"""Options of the commands that measure a checkpoint, and where each value comes from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from jsonargparse import ArgumentParser

from yolo.data.config import DataConfig
from yolo.data.config_files import data_settings, option_keys, read_config
from yolo.data.option_errors import tell_plainly

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
    tell_plainly(parser)
    return parser


def _split(command: str) -> str:
    return "test" if command == "test" else "validation"


def data_options(args: Sequence[str]) -> list[str]:
    """Return what a command line says about the data: the ``--data.<key>`` options with their values."""
    found: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg.startswith(("--data.", "--data=")) or arg == "--data":
            found += [arg] if "=" in arg else [arg, *itertools.islice(remaining, 1)]
    return found


def given_data_keys(configs: Sequence[str], options: Sequence[str]) -> set[str]:
    """Return the keys of the data section that files or the options of a command line give."""
    return {*option_keys(options), *(key for value in configs for key in read_config(value).get("data") or {})}


def resolve_data(configs: Sequence[str], options: Sequence[str], stored: Mapping[str, Any]) -> DataConfig:
    """Build the data settings: the command line wins over configuration files, those over the checkpoint's own.

    The checkpoint's settings serve only when neither the command line nor a file says where the data is.

    Args:
        configs: paths or packaged names; later ones win key by key.
        options: as :func:`data_options` returns them.
        stored: settings of the checkpoint.

    Raises:
        UsageError: a file cannot be used, or a key or value is wrong.
    """
    if given_data_keys(configs, options) & {"root", "format"}:
        return data_settings(configs, options)
    kept = {field.name for field in fields(DataConfig)} - _OF_A_TRAINING
    return data_settings(configs, options, base={key: value for key, value in stored.items() if key in kept})
