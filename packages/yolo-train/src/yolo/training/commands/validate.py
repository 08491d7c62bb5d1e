"""``yolo validate`` and ``yolo test``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo.data.config import DataConfig
    from yolo.data.labels import LabelTable
    from yolo.data.loaders import ImageLoader
    from yolo.training.metrics import Evaluation, Protocol
    from yolo.training.validation.benchmark import Benchmark
    from yolo.training.validation.subject import Subject

_BENCHMARK_PICTURES = 16  # that the runs go through, decoded


def validate(args: Sequence[str]) -> int:
    """Measure a checkpoint or an exported file on the validation split."""
    return _measure("validate", args)


def test(args: Sequence[str]) -> int:
    """Measure a checkpoint or an exported file on the test split."""
    return _measure("test", args)


def _measure(command: str, args: Sequence[str]) -> int:
    from yolo.data.cache.use import open_images
    from yolo.data.config_files import refuse_data_file
    from yolo.data.loader import build_loader
    from yolo.training.commands.options import build_parser
    from yolo.training.evaluate import evaluate
    from yolo.training.limits import settle_loading
    from yolo.training.messages import set_up_messages
    from yolo.training.validation.classes import load_truth
    from yolo.training.validation.files import folder_of
    from yolo.training.validation.outputs import Outputs
    from yolo.training.validation.subject import open_subject
    from yolo.training.validation.subset import choose, describe

    set_up_messages()
    refuse_data_file(args)
    options = build_parser(command).parse_args(list(args))
    _check(options)
    outputs = Outputs(
        folder=Path(options.output), json=not options.no_json, plots=not options.no_plots, report=options.report
    )
    outputs.check()
    split = "test" if command == "test" else "val"
    subject = open_subject(options.checkpoint, device=options.device)
    config = _settings(options, args, split, subject)
    protocol = _protocol(options, config.size, subject.weights)
    truth = load_truth(config, split, subject, num_classes=options.num_classes)
    rows = choose(len(truth), options.num_images)
    table = truth if rows is None else truth.select(rows)
    config = settle_loading(config, [-(-len(table) // config.batch_size)])
    images = open_images(config, {split: truth})
    benchmark = _benchmark(options, subject, table, images, protocol)
    evaluation, evaluator = evaluate(
        subject.predict,
        build_loader(config, table, images=images, training=False),
        truth,
        protocol,
        device=subject.device,
        operating_confidence=options.conf_prod,
        rows=rows,
    )
    subset = describe(len(table), len(truth), split, config.data_fraction)
    root = folder_of(table, config.folder)
    _print(options, evaluation, benchmark, subset=subset, root=root)
    facts = {
        "command": command,
        "subset": subset,
        "checkpoint": _checkpoint_facts(subject),
        "data": {
            "root": str(root),
            "format": config.format,
            "split": split,
            "objects": len(table.labels),
            "classes": list(table.class_names),
        },
        "benchmark": None if benchmark is None else benchmark.as_dict(),
        "versions": _versions(),
    }
    detections = evaluator.coco_detections()
    written = outputs.write(subject.stem, evaluation, detections, table, images, root=root, facts=facts)
    if written:
        print(f"\nWritten: {', '.join(map(str, written))}")
    return 0


def _check(options: Any) -> None:
    """Refuse what no measurement can be made with, in the words of the option."""
    for name in ("conf", "iou", "conf_prod"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}: it has to be from 0 to 1")
    least = {"num_images": 1, "num_classes": 1, "max_det": 1, "batch_size": 1, "workers": 0}
    for name, low in (least | {"benchmark_warmup": 0, "benchmark_runs": 1}).items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise UsageError(f"--{name.replace('_', '-')} is {value}: it has to be {low} or more")
        if value is not None and name.startswith("benchmark") and not options.benchmark:
            raise UsageError(f"--{name.replace('_', '-')} does nothing without --benchmark")
    for what in ("plots", "json"):
        if getattr(options, f"save_{what}") and getattr(options, f"no_{what}"):
            raise UsageError(f"--save-{what} and --no-{what} say the opposite: give one of them")


def _settings(options: Any, args: Sequence[str], split: str, subject: Subject) -> DataConfig:
    """Settings of the data, of which size, batch size and workers are final."""
    from yolo.data.config_files import option_keys
    from yolo.training.commands.options import data_options, given_data_keys, resolve_data
    from yolo.training.validation.places import Places

    configs, own = options.config or [], data_options(args)
    names = ("coco_root", "ann_file", "images_dir", "labels_dir", "data_format")
    places = Places(**{name: getattr(options, name) for name in names})
    own = [*places.as_data_options(split, given=given_data_keys(configs, own), typed=option_keys(own)), *own]
    stored, given = subject.extra.get("data", {}), given_data_keys(configs, own)
    config = resolve_data(configs, own, stored)
    if not stored and "root" not in given and not config.folder.exists():
        raise UsageError(f"{subject.path} does not know where its data is: add --data.root, or --config with data.root")
    return replace(
        config,
        image_size=_size(options.size, config, subject, typed="image_size" in option_keys(own)),
        batch_size=_first(options.batch_size, config.batch_size if "batch_size" in given else None, 16),
        num_workers=_first(options.workers, config.num_workers if "num_workers" in given else None, 4),
    )


def _size(option: str | None, config: DataConfig, subject: Subject, *, typed: bool) -> tuple[int, int]:
    """Option, else command line or configuration, else the checkpoint; an exported file has one size."""
    from yolo.cli.output import note
    from yolo.core.image_size import check_image_size

    wanted = None if config.image_size is None else config.size
    if option is not None:
        try:
            wanted = check_image_size(option.strip("[] "))
        except UsageError as error:
            raise UsageError(f"--size {option}: {error}") from None
    if wanted is None or not subject.fixed_size or wanted == subject.image_size:
        return wanted or subject.image_size
    own, asked = (f"{width}x{height}" for width, height in (subject.image_size, wanted))
    if option is not None or typed:
        name = "--size" if option is not None else "--data.image_size"
        raise UsageError(f"{name}: {subject.path} takes {own} only, not {asked}; leave {name} out, or export it again")
    note(f"{subject.path} takes {own} only: the image size of the configuration, {asked}, is not used")
    return subject.image_size


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _protocol(options: Any, size: tuple[int, int], weights: str) -> Protocol:
    from yolo.cli.output import note
    from yolo.training.metrics import Protocol

    presets = {None: (0.001, 0.6, 300), "official": (0.001, 0.7, 300)}
    if options.protocol not in presets:
        raise UsageError(f"--protocol {options.protocol}: the only named protocol is 'official'")
    confidence, iou, most = presets[options.protocol]
    confidence = _first(options.conf, confidence)
    if confidence > options.conf_prod:
        note(
            f"--conf {confidence:g} is above --conf-prod {options.conf_prod:g}: precision, recall and F1 are those at "
            f"{confidence:g}"
        )
    return Protocol(confidence, _first(options.iou, iou), _first(options.max_det, most), size, weights)


def _benchmark(
    options: Any, subject: Subject, table: LabelTable, images: ImageLoader, protocol: Protocol
) -> Benchmark | None:
    """Time the detector as a product would use it, which keeps what is above the production threshold."""
    from yolo.training.validation.benchmark import run_benchmark

    if not options.benchmark:
        return None
    runs = _first(options.benchmark_runs, 100)
    pictures: list[NDArray[np.uint8]] = [
        images.read(table.path(index)) for index in range(min(len(table), runs, _BENCHMARK_PICTURES))
    ]
    return run_benchmark(
        subject,
        pictures,
        replace(protocol, confidence=options.conf_prod),
        warmup=_first(options.benchmark_warmup, 10),
        runs=runs,
    )


def _print(options: Any, evaluation: Evaluation, benchmark: Benchmark | None, *, subset: str, root: Path) -> None:
    from yolo.training.metrics.tables import print_dashboard, stats_lines
    from yolo.training.validation.benchmark import print_benchmark

    print_dashboard(evaluation, info=[f"model: {Path(options.checkpoint).name}"])
    print(f"{options.checkpoint} on {subset} of {root}; {evaluation.protocol}")
    print("\n".join(stats_lines(evaluation)))
    if benchmark is not None:
        print()
        print_benchmark(benchmark)


def _checkpoint_facts(subject: Subject) -> dict[str, Any]:
    known = ("epoch", "architecture", "checkpoint_sha256")
    return {
        "path": str(subject.path),
        "format": subject.format,
        "bytes": subject.bytes,
        "parameters": subject.parameters,
        "classes": list(subject.class_names),
        **{key: subject.extra[key] for key in known if key in subject.extra},
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("yolo-core", "yolo-data", "yolo-train", "torch")}
