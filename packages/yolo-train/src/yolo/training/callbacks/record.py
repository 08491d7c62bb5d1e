"""What a run leaves behind for people: a table of metrics, curves, and predictions beside the truth."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.core.files import write_atomically
from yolo.training.curves import draw_curves
from yolo.training.module import YOLOModule
from yolo.training.runs import run_folder, writes_files
from yolo.training.showcase import draw_showcase
from yolo.training.wording import short_path

COLUMNS = ("epoch", "lr", "loss", "box", "cls", "dfl", "mAP", "mAP50", "mAP75", "AR@100", "precision", "recall", "f1")


class RunRecord(Callback):
    """Writes ``results.csv`` and ``curves.png`` after every epoch, and at the end ``predictions.jpg``.

    Args:
        enabled: false writes nothing.
        images: pictures of the validation split to show beside their truth.
    """

    def __init__(self, enabled: bool = True, images: int = 6) -> None:
        self.enabled = enabled
        self.images = images
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row to the table and draw the curves anew."""
        assert isinstance(pl_module, YOLOModule)
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        row["lr"] = float(trainer.optimizers[0].param_groups[-1]["lr"])
        row |= {name: values[f"train/{name}_epoch"] for name in COLUMNS if f"train/{name}_epoch" in values}
        row |= {name.removeprefix("val/"): value for name, value in pl_module.metrics_of_epoch().items()}
        self.rows.append(row)
        if self.enabled and writes_files(trainer):
            folder = run_folder(trainer)
            write_atomically(folder / "results.csv", _csv(self.rows).encode())
            draw_curves(self.rows, folder / "curves.png")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw predictions beside the truth, and say what was written and what to do next."""
        if not (self.enabled and writes_files(trainer) and isinstance(pl_module, YOLOModule)):
            return
        if trainer.interrupted or not self.rows:
            return
        folder = run_folder(trainer)
        best = Path(getattr(trainer.checkpoint_callback, "best_model_path", "") or folder / "checkpoints" / "best.ckpt")
        picture = folder / "predictions.jpg"
        if best.is_file() and self.images > 0:
            loader = pl_module.data.images
            if loader.confidential:
                print("\nNo pictures of predictions are drawn: the images are encrypted, and they would be in clear.")
            else:
                draw_showcase(best, pl_module.data.labels("val"), loader, picture, count=self.images)
        _say_what_was_written(folder, best)

    def state_dict(self) -> dict[str, list[dict[str, float]]]:
        """Return the rows, so that a resumed run continues its table."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, list[dict[str, float]]]) -> None:
        """Restore the rows."""
        self.rows = [dict(row) for row in state_dict["rows"]]


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: value if name == "epoch" else f"{value:.6g}" for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _say_what_was_written(folder: Path, best: Path) -> None:
    texts = {
        "checkpoints/last.ckpt": "weights and state of the last epoch; resume with --ckpt_path",
        "predictions.jpg": "predictions beside the truth",
        "train_batch.jpg": "what the network was shown first",
        "curves.png": "losses and metrics by epoch",
        "results.csv": "the same as a table",
        "metrics": "pictures of the validations, by epoch",
        "config.yaml": "the resolved configuration",
    }
    print(f"\nThe run is in {short_path(folder)}:")
    if best.is_file():
        print(f"  {short_path(best, folder)!s:<24}weights of the epoch with the highest mAP")
    for name, text in texts.items():
        if (folder / name).exists():
            print(f"  {name:<24}{text}")
    if best.is_file():
        print(f"\nTry it on your own pictures:\n  yolo predict --checkpoint {short_path(best)} --source path/to/images")
