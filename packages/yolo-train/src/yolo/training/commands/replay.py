"""``yolo replay``: run a batch again that was not finite, and look at every module."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.cli.output import print_json, print_table

if TYPE_CHECKING:
    from yolo.training.examine import Examination, ModuleReport
    from yolo.training.replay import Replay

_BEFORE, _AFTER = 4, 3  # rows around the first module that is not finite
_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--precision", type=click.Choice(_PRECISIONS), show_default="as it was", help="Number format of the network."
)
@click.option("--all", "everything", is_flag=True, help="Show every module, not only those around the first bad one.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
@click.option(
    "--picture", type=click.Path(path_type=Path), metavar="FILE.jpg", help="Draw the batch with its boxes into a file."
)
def replay(
    *, file: Path, device: str, precision: str | None, everything: bool, as_json: bool, picture: Path | None
) -> None:
    """Run a batch again that stopped a training, and look at every module.

    A training whose loss or gradient is NaN or infinite writes the batch and the weights into nonfinite/ of its run
    folder. The step is done again, forwards and backwards, in the precision that it had; where that was not float32,
    then once more in float32. The table shows the modules in the order in which they finish.
    """
    from yolo.core.device import pick_device
    from yolo.training.replay import Replay

    stored = Replay.load(file)
    used = precision or stored.circumstances.precision
    chosen = pick_device(device)
    result = stored.run(chosen, precision=used)
    reference = stored.run(chosen, precision="32-true") if used in _PRECISIONS[1:] else None
    if picture is not None:
        _draw(stored, picture)
    if as_json:
        print_json(_as_dict(stored, result, used, reference))
        return
    _show(stored, result, used, everything=everything)
    if reference is not None:
        print(f"In 32-true: {_capital(str(reference))}.")
    if picture is not None:
        print(f"Written: {picture}")


def _show(stored: Replay, result: Examination, precision: str, *, everything: bool) -> None:
    facts, batch = stored.circumstances, stored.batch
    height, width = batch.images.shape[2:]
    print(f"{_capital(str(facts))}: the {facts.reason} was not finite, on {facts.device} in {facts.precision}.")
    print(f"{len(batch.images)} images of {width}x{height}, {len(batch.boxes)} boxes; {stored.model.spec().name}.")
    for name in facts.files:
        print(f"  {name}")
    shown = list(result.modules) if everything else _around(result)
    if shown:
        rows = [(m.name, m.kind, "x".join(map(str, m.shape)), f"{m.low:.4g}", f"{m.high:.4g}", m.bad) for m in shown]
        print_table(("Module", "Kind", "Output", "Smallest", "Largest", "Not finite"), rows)
        bad = sum(module.bad > 0 for module in result.modules)
        print(f"{len(result.modules)} modules, {bad} of them with output that is not finite.")
    if result.gradients:
        few = ", ".join(result.gradients[:3]) + (", ..." if len(result.gradients) > 3 else "")
        print(f"{len(result.gradients)} parameters with a gradient that is not finite: {few}")
    print(f"Loss in {precision}: {', '.join(f'{name} {value:.4g}' for name, value in result.losses.items())}")
    print(f"{_capital(str(result))}.")


def _around(result: Examination) -> list[ModuleReport]:
    at = next((at for at, module in enumerate(result.modules) if module.bad), None)
    return [] if at is None else list(result.modules[max(at - _BEFORE, 0) : at + 1 + _AFTER])


def _as_dict(stored: Replay, result: Examination, precision: str, reference: Examination | None) -> dict[str, object]:
    def plain(one: Examination) -> dict[str, object]:
        losses = {name: value if value - value == 0 else str(value) for name, value in one.losses.items()}
        return {**asdict(one), "losses": losses, "finite": one.finite, "text": str(one)}

    both = {precision: plain(result)} | ({"32-true": plain(reference)} if reference else {})
    return {"circumstances": asdict(stored.circumstances), "model": stored.model.spec().name, "runs": both}


def _draw(stored: Replay, path: Path) -> None:
    """Draw every image of the batch with its boxes."""
    import io

    import numpy as np

    from yolo.core.drawing import draw_detections
    from yolo.core.files import write_atomically
    from yolo.core.results import Detections
    from yolo.data.sheet import Sheet

    batch = stored.batch
    size = batch.images.shape[3], batch.images.shape[2]
    sheet = Sheet(len(batch.images), size)
    for at, image in enumerate(batch.images):
        mine = batch.image_index == at
        boxes, labels = batch.boxes[mine].numpy(), batch.labels[mine].numpy()
        finite = np.isfinite(boxes).all(axis=1) & (labels >= 0) & (labels < len(stored.model.class_names))
        boxes, labels = boxes[finite], labels[finite]
        found = Detections(boxes, np.ones(len(boxes), np.float32), labels, stored.model.class_names, size=size)
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        files = stored.circumstances.files
        sheet.add(draw_detections(picture, found, show_scores=False), Path(files[at]).name if at < len(files) else "")
    data = io.BytesIO()
    sheet.picture.save(data, format="JPEG", quality=92)
    write_atomically(path, data.getvalue())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
