"""Curves and the confusion matrix of a validation: what is drawn, where it goes, and that it can be read."""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import Trainer
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from yolo.training.callbacks import MetricPlots
from yolo.training.datamodule import YOLODataModule
from yolo.training.metrics import Evaluation
from yolo.training.module import YOLOModule
from yolo.training.plots import FIGURES, draw_metric_plots
from yolo.training.plots.curves import MOST_NAMED, f1_curve, pr_curve, precision_curve, recall_curve
from yolo.training.plots.matrix import BACKGROUND, confusion_picture, shares
from yolo.training.plots.style import drawable_names, text_width, write_png

PICTURES = {"PR_curve.png", "F1_curve.png", "P_curve.png", "R_curve.png", "confusion_matrix.png"}
A, B = (10, 10, 60, 60), (100, 100, 150, 150)


@pytest.fixture(scope="module")
def few(evaluated: Callable[..., Evaluation]) -> Evaluation:
    """Two cats found, one dog of two, a dog taken for a cat, an owl missed, a cat where none is; no yak."""
    return evaluated(("cat", "dog", "owl", "yak"), [
        ([(0, A), (1, B)], [(0, 0.9, A), (1, 0.7, B)]),
        ([(0, A), (1, B)], [(0, 0.8, A), (0, 0.6, B)]),
        ([(2, A)], [(0, 0.3, B), (0, 0.1, B)]),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def many(evaluated: Callable[..., Evaluation]) -> Evaluation:
    """Eighty classes; the higher its number, the more of a class is found."""
    pictures = []
    for label in range(80):
        boxes = [(20 * n, 20 * n, 20 * n + 15, 20 * n + 15) for n in range(20)]
        found = [(label, 0.5 + 0.02 * n, box) for n, box in enumerate(boxes[: label // 4])]
        pictures.append(([(label, box) for box in boxes], found))
    return evaluated([f"kind of thing {n:02d}" for n in range(80)], pictures)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def line(figure: Figure, name: str) -> np.ndarray:
    (found,) = [one for one in figure.axes[0].lines if one.get_label() == name]
    return np.asarray(found.get_ydata())


def small_print(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_precision_by_recall(few: Evaluation) -> None:
    figure = pr_curve(few, few.analysis)
    half = 51 / 101
    assert figure.axes[0].get_legend().get_title().get_text() == "AP50"
    assert legend(figure) == [
        f"{(1 + half) / 3:.3f}  mean of 3 classes",
        "1.000  cat",
        f"{half:.3f}  dog",
        "0.000  owl",
    ]
    assert line(figure, "cat").tolist() == [1.0] * 101
    assert line(figure, "dog").tolist() == [1.0] * 51 + [0.0] * 50
    np.testing.assert_allclose(line(figure, "mean"), (line(figure, "cat") + line(figure, "dog")) / 3)
    assert "not drawn: 1 of 4 classes" in small_print(figure)


def test_curves_by_confidence_mark_the_best_threshold(few: Evaluation) -> None:
    """At 0.600 two cats and one dog are right and nothing is wrong; below, one of three cats is wrong."""
    best = few.analysis.curves.best_f1()
    assert best == (pytest.approx((1 + 2 / 3) / 3), pytest.approx(0.6, abs=0.002))
    for draw, at_best, at_half in (
        (f1_curve, (1, 2 / 3), (4 / 5, 2 / 3)),
        (precision_curve, (1, 1), (2 / 3, 1)),
        (recall_curve, (1, 1 / 2), (1, 1 / 2)),
    ):
        figure = draw(few, few.analysis)
        cat, dog = line(figure, "cat"), line(figure, "dog")
        assert (cat[500], dog[500]) == pytest.approx(at_half)
        step = round(best[1] * 1000)
        assert (cat[step], dog[step]) == pytest.approx(at_best)
        np.testing.assert_allclose(line(figure, "mean"), (cat + dog + line(figure, "owl")) / 3)
        mark, threshold, production = (
            next(one for one in figure.axes[0].lines if one.get_marker() == "o"),
            *(next(one for one in figure.axes[0].lines if one.get_linestyle() == style) for style in ("--", ":")),
        )
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((best[1], sum(at_best) / 3))
        assert threshold.get_xdata() == [best[1]] * 2 and production.get_xdata() == [0.25, 0.25]
        assert legend(figure)[1:] == [f"{at_best[0]:.3f}  cat", f"{at_best[1]:.3f}  dog", "0.000  owl"]
        assert f"{best[0]:.4f} at {best[1]:.3f}" in small_print(figure)
        assert ("keeps its last precision" in small_print(figure)) == (draw is precision_curve)


def test_every_picture_carries_its_protocol(few: Evaluation) -> None:
    for draw in FIGURES.values():
        words = small_print(draw(few, few.analysis))
        for fact in ("3 images", "conf 0.001", "NMS IoU 0.65", "max 300", "640x480", "ema weights", "IoU 0.5"):
            assert fact in words


def test_the_confusion_matrix(few: Evaluation) -> None:
    figure = confusion_picture(few, few.analysis)
    axes = figure.axes[0]
    drawn = axes.images[0].get_array()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog", "owl", "yak", BACKGROUND]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog", "owl", "yak", BACKGROUND]
    expected = np.array([[1, 0.5, 0, 0, 1], [0, 0.5, 0, 0, 0], [0] * 5, [0] * 5, [0, 0, 1, 0, 0]])
    np.testing.assert_allclose(np.ma.filled(drawn, 0), expected)
    assert (drawn.mask == (expected == 0)).all(), "what is not there is blank"
    cells = {(round(x), round(y)): text.get_text() for text in axes.texts for x, y in [text.get_position()]}
    assert cells == {(0, 0): "1.00\n2", (1, 0): "0.50\n1", (1, 1): "0.50\n1", (2, 4): "1.00\n1", (4, 0): "1.00\n1"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true", "predicted")
    assert shares(np.array([[3, 0], [1, 0]])).tolist() == [[0.75, 0.0], [0.25, 0.0]]


def test_eighty_classes_stay_legible(many: Evaluation) -> None:
    for draw in (pr_curve, f1_curve, precision_curve, recall_curve):
        figure = draw(many, many.analysis)
        entries = legend(figure)
        assert len(entries) == 8 and entries[-1] == "74 other classes"
        (bundle,) = [one for one in figure.axes[0].collections if isinstance(one, LineCollection)]
        assert len(bundle.get_segments()) == 74
        widths = {one.get_label(): one.get_linewidth() for one in figure.axes[0].lines}
        assert widths["mean"] > 2 * max(width for name, width in widths.items() if "kind" in name)
    entries = legend(recall_curve(many, many.analysis))
    assert [entry.split("  ")[1] for entry in entries[1:7]] == [
        *(f"best: kind of thing {n}" for n in (76, 77, 78)),
        *(f"worst: kind of thing 0{n}" for n in (1, 2, 3)),
    ]
    figure = confusion_picture(many, many.analysis)
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == 81 and names[-1] == BACKGROUND
    row = axes.get_window_extent().height / 81
    assert row > 7 / 72 * figure.dpi, "a name is not as high as a row"
    left = axes.get_window_extent().x0
    assert left > text_width(max(names, key=len), 7) * figure.dpi, "there is room for the longest name"
    assert not axes.texts


def test_nothing_strange_disturbs(evaluated: Callable[..., Evaluation], tmp_path: Path) -> None:
    names = ("$a_1^", "日本語", "_hidden", "x" * 300, "[red]b[/red]", "a\nb\x1b[31m", "%s {} \\frac")
    rotated = evaluated(names, [([(n, A)], [((n + 1) % len(names), 0.9, A)]) for n in range(len(names))])
    cases = {
        "names": rotated,
        "nothing found": evaluated(("cat", "dog"), [([(0, A)], []), ([(1, A)], [])]),
        "nothing to find": evaluated(("cat", "dog"), [([], [(0, 0.9, A)])]),
        "nothing at all": evaluated(("cat",), [([], [])]),
        "one class": evaluated(("cat",), [([(0, A)], [(0, 0.9, A)])]),
        "more classes than colours": evaluated([str(n) for n in range(MOST_NAMED + 1)], [([(0, A)], [])]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for evaluation in cases.values():
            for draw in FIGURES.values():
                draw(evaluation, evaluation.analysis)
        assert len(draw_metric_plots(rotated, tmp_path)) == 5
        assert len(draw_metric_plots(cases["nothing at all"], tmp_path)) == 5
    assert drawable_names(names)[:2] == ["$a_1^", "class 1"]


def test_files(few: Evaluation, many: Evaluation, tmp_path: Path) -> None:
    written = draw_metric_plots(few, tmp_path / "a" / "b")
    assert {path.name for path in written} == PICTURES == {path.name for path in (tmp_path / "a" / "b").iterdir()}
    for path in written:
        picture = Image.open(io.BytesIO(path.read_bytes()))
        assert picture.width >= 400 and picture.height >= 400 and path.stat().st_size < 60_000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "there is something on it"
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    write_png(confusion_picture(many, many.analysis), written[-1])  # replaces it
    assert min(Image.open(written[-1]).size) > 1400
    assert draw_metric_plots(Evaluation(**{**vars(few), "analysis": None}), tmp_path / "c") == []
    assert not (tmp_path / "c").exists()


def test_a_training_leaves_a_folder_for_every_validation(trained_run: Path) -> None:
    """The 30 epochs of `yolo fit` were validated twice."""
    folders = {folder.name: {path.name for path in folder.iterdir()} for folder in (trained_run / "metrics").iterdir()}
    drawn = {name for name, files in folders.items() if files >= PICTURES}
    assert drawn == set(folders) >= {"epoch_15", "epoch_30"}


def test_where_plots_go_and_when_there_are_none(
    small_network: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(
        "yolo.training.plots.draw_metric_plots",
        lambda evaluation, folder: drawn.append(str(folder.relative_to(tmp_path))),
    )
    plots, module = MetricPlots(), YOLOModule(model_config=str(small_network))
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False, max_epochs=2,
        enable_model_summary=False, use_distributed_sampler=False, limit_train_batches=1, limit_val_batches=1,
        callbacks=[plots], enable_checkpointing=False, num_sanity_val_steps=1,
    )  # fmt: skip
    source = YOLODataModule(root=str(tiny_data), image_size=64, batch_size=4, num_workers=0, seed=0)
    trainer.fit(module, datamodule=source)
    run = "runs/yolo/version_0"
    assert drawn == [f"{run}/metrics/epoch_1", f"{run}/metrics/epoch_2"], "none of the sanity check"

    def third(**options: object) -> list[str]:
        drawn.clear()
        module.config = replace(module.config, **options)
        plots.on_validation_end(trainer, module)
        return list(drawn)

    assert third(metrics_plots_dir="pictures") == [f"{run}/pictures/epoch_3"]
    assert third(metrics_plots_dir=str(tmp_path / "mine")) == ["mine/epoch_3"]
    assert third(save_metrics_plots=False) == []
    assert third(save_metrics_plots=True) == ["mine/epoch_3"]
    monkeypatch.setattr(trainer, "fast_dev_run", True)
    assert third() == []
    monkeypatch.setattr(trainer, "fast_dev_run", False)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    assert third() == []
