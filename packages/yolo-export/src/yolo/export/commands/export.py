"""``yolo export``: write a trained model to a file for other runtimes, and prove that it is still the same model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.cli.output import note, print_table

if TYPE_CHECKING:
    from yolo.export.exporter import ExportResult


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
    "format_",
    default="onnx",
    show_default=True,
    help="File format; 'yolo plugins --hook yolo_export_backends' lists them.",
)
@click.option(
    "--output",
    "-o",
    show_default="beside the checkpoint",
    help="File to write, or a folder/ to put it in.",
)
@click.option(
    "--size",
    show_default="the checkpoint's, else 640",
    help="Input size of the network: 640, or width x height as 640x384.",
)
@click.option("--opset", type=int, show_default="17", help="Version of the ONNX operator set.")
@click.option("--simplify/--no-simplify", default=False, show_default=True, help="Fold constants and merge nodes.")
@click.option(
    "--dynamic-batch/--no-dynamic-batch",
    default=False,
    show_default=True,
    help="Take any number of images per call instead of one.",
)
@click.option("--model", help="For plain weights: the network they belong to, a name such as v9-c or a YAML file.")
def export(
    checkpoint: Path,
    format_: str,
    output: str | None,
    size: str | None,
    opset: int | None,
    simplify: bool,
    dynamic_batch: bool,
    model: str | None,
) -> None:
    """Write a trained model to a file for other runtimes.

    The file is loaded again and compared with the checkpoint on several pictures before it is put in its place; if it
    predicts anything else, it is not kept and the exit code is 1. What it was made from, and the figures of the
    comparison, are in a .manifest.json beside it.
    """
    from yolo.core.plugins import registry
    from yolo.export.backends.base import ExportOptions

    registry("export_backends").load(format_)  # an unknown name or a missing extra is told before torch is imported
    from yolo.export.exporter import export_model

    note(f"Exporting {checkpoint} as {format_} ...")
    result = export_model(
        checkpoint,
        format=format_,
        output=output,
        image_size=size,
        options=ExportOptions(opset=opset, simplify=simplify, dynamic_batch=dynamic_batch),
        architecture=model,
    )
    _report(result)


def _report(result: ExportResult) -> None:
    parity, manifest = result.parity, result.manifest
    rows = []
    for name, unit in (("boxes", " px"), ("scores", "")):
        worst = parity.worst(name)
        rows.append((name, f"{getattr(worst, name):.2g}{unit}", f"{getattr(worst.allowed, name):.2g}{unit}"))
    width, height = manifest["image_size"]
    print_table(
        ("Output", "Difference", "Allowed"),
        rows,
        title=f"File and checkpoint, the worst of {len(parity.differences)} inputs of {width}x{height}",
    )
    megabytes = manifest["file"]["bytes"] / 1e6
    click.echo(f"Wrote {result.path} ({megabytes:.1f} MB, {len(manifest['class_names'])} classes)")
    click.echo(f"Wrote {result.manifest_path}")
