"""``yolo export``: write a trained model to files for other runtimes, and prove that they still are the same model."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from yolo.cli.output import note, print_table

if TYPE_CHECKING:
    from yolo.export.exporter import ExportResult
    from yolo.export.parity import Difference, ParityReport

_FULL = ("fp32", "none")


@click.command("export")
@click.option(
    "--checkpoint",
    "-c",
    required=True,
    type=click.Path(path_type=Path),
    help="Trained model (.ckpt), or plain weights (.pt, .pth, .safetensors).",
)
@click.option(
    "--format",
    "-f",
    "formats",
    multiple=True,
    default=("onnx",),
    show_default="onnx",
    help="File format; several with commas, or given again. 'yolo plugins --hook yolo_export_backends' lists them.",
)
@click.option(
    "--output",
    "-o",
    show_default="beside the checkpoint",
    help="File to write, or a folder/ to put it in; a folder for several formats.",
)
@click.option(
    "--size",
    show_default="the checkpoint's, else 640",
    help="Input size of the network: 640, or width x height as 640x384.",
)
@click.option("--device", default="auto", show_default=True, help="Where PyTorch computes for the comparison.")
@click.option("--opset", type=int, show_default="17", help="ONNX: version of the operator set.")
@click.option("--simplify/--no-simplify", default=False, help="ONNX: fold constants and merge nodes.")
@click.option("--dynamic-batch/--no-dynamic-batch", default=False, help="Take any number of images per call.")
@click.option("--dynamic-size/--no-dynamic-size", default=False, help="Take any size in multiples of 32.")
@click.option("--half/--no-half", default=False, help="ONNX: float16 inside, float32 at the input and the output.")
@click.option("--nms/--no-nms", default=False, help="ONNX: a second output 'detections', after suppression.")
@click.option(
    "--quantization",
    "-q",
    type=click.Choice([*_FULL, "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="TFLite: precision of the file.",
)
@click.option("--int8-io/--no-int8-io", default=False, help="TFLite int8: integers at the input and the outputs too.")
@click.option(
    "--keep-float", multiple=True, metavar="LAYER", help="TFLite int8: layers that stay float; names or patterns."
)
@click.option(
    "--calibration-images",
    metavar="PATH",
    help="Folder of real pictures, or YAML file of a data set: for int8, and for the comparison.",
)
@click.option("--num-calibration", type=int, default=100, show_default=True, help="Pictures to draw from there.")
@click.option("--calibration-seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option(
    "--xnnpack-optimize/--no-xnnpack-optimize",
    default=True,
    show_default=True,
    help="TFLite: rewrite the graph for XNNPACK; the function stays the same.",
)
@click.option(
    "--activation",
    type=click.Choice(["hard-swish"]),
    help="Replace SiLU. This is another function: fine-tune the network with it.",
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare every file with the checkpoint.")
@click.option("--bundle/--no-bundle", default=False, help="Add what is needed to use the file elsewhere.")
@click.option("--model", help="For plain weights: the network they belong to, a name such as v9-c or a YAML file.")
def export(
    checkpoint: Path,
    formats: tuple[str, ...],
    output: str | None,
    size: str | None,
    model: str | None,
    quantization: str,
    **asked: Any,
) -> None:
    """Write a trained model to files for other runtimes.

    Each file is loaded again and compared with the checkpoint, detection by detection, on real pictures before it is
    put in its place; if it detects anything else, it is not kept and the exit code is 1. What it was made from, and the
    figures of the comparison, are in a .manifest.json beside it.
    """
    from yolo.cli.notes import shown_notes
    from yolo.core.plugins import registry
    from yolo.export.backends.base import ExportOptions

    names = [name.strip() for value in formats for name in value.split(",") if name.strip()]
    options = ExportOptions(quantization="none" if quantization in _FULL else quantization, **asked)
    options.check()
    for name in names:  # an unknown name or a missing extra is told before torch is imported
        registry("export_backends").load(name)
    from yolo.export.exporter import export_models

    if options.activation is not None:
        note("Warning: --activation hard-swish makes another function of the network; fine-tune it with Hardswish.")
    with shown_notes(), _cleaning_up_when_ended():
        export_models(
            checkpoint,
            formats=names,
            output=output,
            image_size=size,
            options=options,
            architecture=model,
            on_start=lambda name, target: note(f"Exporting {checkpoint} as {name} ..."),
            on_done=_report,
        )


@contextmanager
def _cleaning_up_when_ended() -> Iterator[None]:
    """Make an exception of what would end the process at once, so that nothing half-made stays behind."""

    def end(number: int, _: FrameType | None) -> None:
        note(f"Ended by {signal.Signals(number).name}.")
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    for number in known:
        if before[number] not in (None, signal.SIG_IGN):  # the latter as nohup has it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that is not Python's, which was not replaced
                signal.signal(number, handler)


def _report(result: ExportResult) -> None:
    manifest = result.manifest
    if result.parity is None:
        note(f"Warning: {result.path} was not compared with the checkpoint (--no-verify).")
    else:
        _show_parity(result.parity, manifest["image_size"])
    megabytes = manifest["file"]["bytes"] / 1e6
    click.echo(f"Wrote {result.path} ({megabytes:.1f} MB, {len(manifest['class_names'])} classes)")
    click.echo(f"Wrote {result.manifest_path}")
    if result.bundle_path is not None:
        click.echo(f"Wrote {result.bundle_path}")


def _show_parity(parity: ParityReport, image_size: list[int]) -> None:
    alone = [found for found in parity.differences if not found.together]
    rows = [_row(found.sample, [found]) for found in alone]
    together = [found for found in parity.differences if found.together]
    if together:
        rows.append(_row("several in one call", together))
    usual = parity.tolerances
    share = f"all but {usual.unmatched:.0%}" if usual.unmatched else "all"
    limits = [f"{usual.boxes:g}", f"{usual.scores:g}"]
    rows.append(("usually allowed", "", share, *limits, *(limits if usual.everywhere else "--")))
    width, height = image_size
    print_table(
        ("Picture", "Detections", "Matched", "Boxes, px", "Scores", "Any box, px", "Any score"),
        rows,
        title=f"File and checkpoint at {width}x{height}: {parity.source}",
    )
    if any(found.allowed_anywhere != usual for found in parity.differences):
        click.echo("Where PyTorch's own rounding is larger than what is usually allowed, more is; see the manifest.")


def _row(name: str, differences: list[Difference]) -> tuple[object, ...]:
    """Sums and largest values of one or several calls."""
    extra = sum(found.extra for found in differences)
    matched = f"{sum(found.matched for found in differences)}{f' +{extra}' if extra else ''}"
    worst = [
        max(getattr(found, field) for found in differences) for field in ("boxes", "scores", "all_boxes", "all_scores")
    ]
    return (name, sum(found.detections for found in differences), matched, *(f"{number:.2g}" for number in worst))
