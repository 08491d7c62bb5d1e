"""``yolo validate`` and ``yolo test``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo.core.errors import UsageError

if TYPE_CHECKING:
    from yolo.core.weights.bundle import ModelBundle
    from yolo.data.config import DataConfig


def validate(args: Sequence[str]) -> int:
    """Measure a checkpoint on the validation split."""
    return _measure("validate", args)


def test(args: Sequence[str]) -> int:
    """Measure a checkpoint on the test split."""
    return _measure("test", args)


def _measure(command: str, args: Sequence[str]) -> int:
    from yolo.core.device import pick_device
    from yolo.core.weights.load import load_bundle
    from yolo.data.cache.use import open_images
    from yolo.data.formats import load_labels
    from yolo.data.loader import build_loader
    from yolo.training.commands.options import build_parser, data_options, given_data_keys, resolve_data
    from yolo.training.evaluate import evaluate_network
    from yolo.training.limits import settle_loading
    from yolo.training.messages import set_up_messages
    from yolo.training.metrics.tables import print_classes, stats_lines

    set_up_messages()
    options = build_parser(command).parse_args(list(args))
    configs, own = options.config or [], data_options(args)
    bundle = load_bundle(options.checkpoint)
    given = given_data_keys(configs, own)
    config = resolve_data(configs, own, bundle.extra.get("data", {}))

    def given_value(key: str) -> Any:
        return getattr(config, key) if key in given else None

    size = _size(options.size, config, bundle)
    config = replace(
        config,
        image_size=size,
        batch_size=_first(options.batch_size, given_value("batch_size"), 16),
        num_workers=_first(options.workers, given_value("num_workers"), 4),
    )
    split = "test" if command == "test" else "val"
    table = load_labels(config, split)
    config = settle_loading(config, [-(-len(table) // config.batch_size)])
    if len(table.class_names) != len(bundle.class_names):
        raise UsageError(
            f"{options.checkpoint} knows {len(bundle.class_names)} classes, but the data has {len(table.class_names)}"
        )
    protocol = _protocol(options, size, bundle.extra.get("weights", "raw"))
    device = pick_device(options.device)
    evaluation, evaluator = evaluate_network(
        bundle.build(name=options.checkpoint).to(device),
        build_loader(config, table, images=open_images(config, {split: table}), training=False),
        table,
        protocol,
        device=str(device),
        operating_confidence=options.conf_prod,
    )
    print(f"{options.checkpoint} on {len(table)} images of {config.root} ({split}); {protocol}")
    print("\n".join(stats_lines(evaluation)))
    print_classes(evaluation, 10)
    if not options.no_json:
        _write_json(Path(options.output), evaluation.as_dict(), evaluator.coco_detections())
    return 0


def _size(option: int | list[int] | None, config: DataConfig, bundle: ModelBundle) -> tuple[int, int]:
    """Option, else command line or configuration, else the checkpoint (which always has one)."""
    if option is not None:
        return (option, option) if isinstance(option, int) else (option[0], option[1 % len(option)])
    return bundle.image_size if config.image_size is None else config.size


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _protocol(options: Any, size: tuple[int, int], weights: str) -> Any:
    from yolo.training.metrics import Protocol

    presets = {None: (0.001, 0.6, 300), "official": (0.001, 0.7, 300)}
    if options.protocol not in presets:
        raise UsageError(f"--protocol {options.protocol}: the only named protocol is 'official'")
    confidence, iou, most = presets[options.protocol]
    return Protocol(
        confidence if options.conf is None else options.conf,
        iou if options.iou is None else options.iou,
        most if options.max_det is None else options.max_det,
        size,
        weights,
    )


def _write_json(folder: Path, results: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    from yolo.core.files import write_atomically

    write_atomically(folder / "results.json", json.dumps(results, indent=2).encode())
    write_atomically(folder / "detections.json", json.dumps(detections).encode())
    print(f"Written: {folder}/results.json, {folder}/detections.json (COCO result format)")
