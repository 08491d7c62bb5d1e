"""Options of the commands that measure a checkpoint, and where each value comes from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

from jsonargparse import ArgumentParser

from yolo.data.config import DataConfig
from yolo.data.config_files import data_settings, option_keys, read_config
from yolo.data.option_errors import tell_plainly

# What was trained on a part is measured on the whole, and measuring builds no cache, unless it is asked to.
_OF_A_TRAINING = {"data_fraction", "cache_refresh"}


def build_parser(command: str) -> ArgumentParser:
    """Return the parser of ``yolo validate`` or ``yolo test``; no defaults where a file decides."""
    split = _split(command)
    parser = ArgumentParser(
        prog=f"yolo {command}",
        description=f"Measure a checkpoint or an exported file on the {split} split.",
        allow_abbrev=False,  # a misspelt option is an error, not another one
    )
    add = parser.add_argument
    add(
        *("-c", "--checkpoint", "--model"),
        type=str,
        required=True,
        help="Checkpoint, weight file, or exported file (.onnx, .tflite, SavedModel folder).",
    )
    add("--config", type=str, action="append", help="Configuration file or packaged name; later ones win.")
    _add_protocol(parser)
    _add_places(parser, split)
    add("--device", type=str, default="auto", help="auto, cpu, cuda or mps.")
    add("--batch-size", type=int | None, help="Images per batch (default: the config's, else 16).")
    add("--workers", type=int | None, help="Processes that load images (default: the config's, else 4).")
    folder = "test_results" if command == "test" else "validation_results"
    add("-o", "--output", type=str, default=folder, help="Folder of the results.")
    add("--save-plots", action="store_true", help="Draw curves and the confusion matrix (the default).")
    add("--no-plots", action="store_true", help="Draw none.")
    add("--save-json", action="store_true", help="Write metrics, detections, truth and the classes (the default).")
    add("--no-json", action="store_true", help="Write none of these.")
    add(
        "--report",
        type=str | None,
        nargs="?",
        const="",
        help="Write a report of one HTML file, to this path (default: into --output).",
    )
    add("--benchmark", action="store_true", help="Measure latency, memory and size as well.")
    add("--benchmark-warmup", type=int | None, help="Runs that do not count (default: 10).")
    add("--benchmark-runs", type=int | None, help="Runs that count (default: 100).")
    parser.add_class_arguments(DataConfig, "data")
    tell_plainly(parser)
    return parser


def _add_protocol(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--conf", "--conf-threshold", type=float | None, help="Only scores above it count (default: 0.001).")
    add("--iou", "--iou-threshold", type=float | None, help="Overlap at which NMS removes a box (default: 0.6).")
    add("--max-det", type=int | None, help="Most detections per image (default: 300).")
    add("--protocol", type=str | None, help="'official' is conf 0.001, IoU 0.7, 300 detections.")
    add("--conf-prod", type=float, default=0.25, help="Threshold of precision, recall and F1.")
    add(
        "--size",
        type=str | None,
        help="Input size, 640 or 640x384; default: the config's, else the checkpoint's, else 640.",
    )


def _add_places(parser: ArgumentParser, split: str) -> None:
    add = parser.add_argument
    add("--num-images", type=int | None, help="Measure so many images, evenly spread (default: all).")
    add("--num-classes", type=int | None, help="Number of classes to expect of the model and the data.")
    add("--images-dir", type=str | None, help=f"Folder of the {split} images.")
    add("--labels-dir", type=str | None, help="Folder of their YOLO label files.")
    add("--ann-file", type=str | None, help="Their COCO json; wins over --coco-root.")
    add("--coco-root", type=str | None, help="Folder with annotations/instances_val2017.json and val2017/.")
    add("--data-format", type=Literal["auto", "coco", "yolo"] | None, help="Layout of the labels.")


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

    The checkpoint's settings serve only when neither the command line nor a file says where the data is. Whether caches
    are to be built anew, files and checkpoints say for a training: it counts here only on the command line.

    Args:
        configs: paths or packaged names; later ones win key by key.
        options: as :func:`data_options` returns them.
        stored: settings of the checkpoint.

    Raises:
        UsageError: a file cannot be used, or a key or value is wrong.
    """
    base = None
    if not given_data_keys(configs, options) & {"root", "format"}:
        kept = {field.name for field in fields(DataConfig)} - _OF_A_TRAINING
        base = {key: value for key, value in stored.items() if key in kept}
    config = data_settings(configs, options, base=base)
    return config if "cache_refresh" in option_keys(options) else replace(config, cache_refresh=False)
