"""What a measurement leaves behind: plots, report, and the files of numbers. It is known before whether they can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo.core.errors import UsageError, YoloError
from yolo.core.files import check_writable
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.training.metrics import Evaluation


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What was asked for.

    Attributes:
        folder: ``--output``.
        json: whether the files of numbers are written.
        plots: whether curves and the confusion matrix are drawn.
        report: path of the HTML report; empty for one in ``folder``, None for none.
    """

    folder: Path
    json: bool
    plots: bool
    report: str | None

    def check(self) -> None:
        """See that everything could be written, before anything is measured; nothing is left there.

        Raises:
            UsageError: it could not.
        """
        if self.report and Path(self.report).is_dir():
            raise UsageError(f"--report {self.report} is a folder: give the path of an HTML file")
        places = {f"--report {self.report}": Path(self.report).parent} if self.report else {}
        if self.json or self.plots or self.report == "":
            places[f"--output {self.folder}"] = self.folder
        for option, folder in places.items():
            try:
                check_writable(folder)
            except OSError as error:
                raise UsageError(f"{option}: {error.filename} cannot be written to ({error.strerror})") from None

    def write(
        self,
        stem: str,
        evaluation: Evaluation,
        detections: list[dict[str, Any]],
        table: LabelTable,
        images: ImageLoader,
        *,
        root: Path,
        facts: Mapping[str, Any],
    ) -> list[Path]:
        """Write it.

        Args:
            stem: first part of all names.
            evaluation: the numbers.
            detections: in COCO's result format.
            table: labels of the evaluated images.
            images: reads the pictures that the report shows.
            root: folder of the data.
            facts: what was measured on what, for the metrics file.

        Returns:
            The files, and the folder of the plots.

        Raises:
            YoloError: the disk is full, for instance.
        """
        from yolo.training.validation.files import write_results

        written: list[Path] = []
        further: dict[str, Any] = {}
        with _told():
            if self.plots:
                from yolo.training.plots import draw_metric_plots

                plots = draw_metric_plots(evaluation, self.folder / f"{stem}_plots")
                further["plots"] = [path.relative_to(self.folder).as_posix() for path in plots]
                written.append(self.folder / f"{stem}_plots")
            if self.report is not None:
                from yolo.training.report import write_report
                from yolo.training.report.facts import heading, in_summary

                path = Path(self.report) if self.report else self.folder / f"{stem}_report.html"
                title = heading(facts, otherwise=stem)
                write_report(path, evaluation, table, loader=images, title=title, facts=in_summary(facts))
                further["report"] = path.name if path.parent == self.folder else str(path.absolute())
                written.append(path)
            if self.json:
                written += write_results(
                    self.folder,
                    stem,
                    evaluation=evaluation,
                    detections=detections,
                    table=table,
                    root=root,
                    facts=facts,
                    further=further,
                )
        return written


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise YoloError(f"{error.filename or 'the results'} cannot be written: {error.strerror or error}") from error
