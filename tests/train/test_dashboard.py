"""The tables after a validation: what stands in them, on a terminal and elsewhere, and which epoch was the best."""

import io
import math
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer
from rich.cells import cell_len

from yolo.core.errors import UsageError
from yolo.training.callbacks import EvalDashboardCallback, MetricPlots, YOLOCheckpoint
from yolo.training.datamodule import YOLODataModule
from yolo.training.metrics import Evaluation, Evaluator
from yolo.training.metrics.table_view import LONGEST_NAME, shortened
from yolo.training.metrics.tables import print_dashboard, score, sparkline, trend_values
from yolo.training.module import YOLOModule

A, B, C = (10, 10, 60, 60), (100, 100, 150, 150), (200, 200, 250, 250)
PARTLY = (100, 100, 150, 131)  # IoU 0.62 with B: right at 0.5, 0.55 and 0.6, wrong above
NAMES = ("cat", "dog", "owl", "yak")


@pytest.fixture(scope="module")
def evaluation(evaluated: Callable[..., Evaluation]) -> Evaluation:
    """Cats are all found; one dog roughly, one taken for a cat; an owl is missed, a dog seen where none is; no yak."""
    return evaluated(NAMES, [
        ([(0, A)], [(0, 0.9, A)]),
        ([(0, A), (1, B)], [(0, 0.8, A), (1, 0.7, PARTLY)]),
        ([(1, B)], [(0, 0.5995, B)]),
        ([(2, A)], [(1, 0.35, C), (1, 0.15, C)]),
    ])  # fmt: skip


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Read plain output again: rows by title."""
    found = {}
    for block in text.strip().split("\n\n"):
        title, header, *rows = block.split("\n")
        names = re.split(r" {2,}", header.strip())
        found[title] = [dict(zip(names, re.split(r" {2,}", row.strip()), strict=False)) for row in rows]
    return found


def test_every_value_is_in_its_column(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    print_dashboard(evaluation, best=-math.inf, info=["epoch: 3/10"])
    text = capsys.readouterr().out
    found = tables(text)
    assert list(found) == [
        "EVAL SUMMARY", "KPI (QUALITY)", "KPI (OPERATIVE @ 0.25)", "THRESHOLD SWEEP", "PER-CLASS: TOP by AP50-95",
        "PER-CLASS: WORST by AP50-95", "ERROR HEALTH CHECK (@ 0.25, IoU 0.5)", "Top Confusions (pred -> true) @ 0.25",
    ]  # fmt: skip
    half = 51 / 101  # one of two objects: precision 1 at the recalls 0 to 0.5
    ap, ap50 = (1 + 0.3 * half) / 3, (1 + half) / 3
    assert found["EVAL SUMMARY"][0] == {
        "Info": "epoch: 3/10", "mAP": f"{ap:.4f} [NEW BEST]", "Settings": "conf: 0.001"
    }  # fmt: skip
    for fact in ("imgs: 4", "size: 640x480", "iou: 0.65", "max: 300", "weights: ema", "conf_prod: 0.25"):
        assert fact in text
    quality = found["KPI (QUALITY)"][0]
    assert quality == {
        "AP50-95": f"{ap:.4f}", "AP50": f"{ap50:.4f}", "AP75": "0.3333", "AR@100": f"{(1 + 0.15) / 3:.4f}",
        "APs": "-", "APm": f"{ap:.4f}", "APl": "-",
    }  # fmt: skip
    operative = found["KPI (OPERATIVE @ 0.25)"][0]
    f1 = [2 * 2 / 5, 2 * 1 / 4, 0]
    assert operative["P@0.25"] == f"{(2 / 3 + 1 / 2) / 3:.4f}"
    assert operative["R@0.25"] == f"{1.5 / 3:.4f}"
    assert operative["F1@0.25"] == f"{sum(f1) / 3:.4f}"
    assert operative["best-F1"] == f"{(1 + 2 / 3) / 3:.4f}" and operative["conf_best"] == "0.600"
    sweep = found["THRESHOLD SWEEP"]
    assert [row["conf"] for row in sweep] == ["0.10", "0.20", "0.30", "0.40", "0.50"]
    assert [row["P"] for row in sweep] == [f"{(2 / 3 + p) / 3:.4f}" for p in (1 / 3, 1 / 2, 1 / 2, 1, 1)]
    assert {row["R"] for row in sweep} == {"0.5000"}
    top, worst = found["PER-CLASS: TOP by AP50-95"], found["PER-CLASS: WORST by AP50-95"]
    assert [row["Class"] for row in top] == ["cat", "dog", "owl"], "no yak: there is none to find"
    assert worst == top[::-1]
    assert top[1] == {
        "Class": "dog", "AP50-95": f"{0.3 * half:.4f}", "AP50": f"{half:.4f}", "R@0.25": "0.5000", "GT": "2"
    }  # fmt: skip
    assert found["ERROR HEALTH CHECK (@ 0.25, IoU 0.5)"] == [
        {"FP": "2", "FN": "2", "det/img mean": "1.2", "det/img p95": "1.85", "MeanIoU(TP)": f"{(1 + 1 + 0.62) / 3:.4f}"}
    ]
    assert found["Top Confusions (pred -> true) @ 0.25"] == [
        {"#": "1", "Predicted": "cat", "->": "->", "True": "dog", "Count": "1"}
    ]


def test_the_threshold_of_production_is_everywhere(
    evaluated: Callable[..., Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    print_dashboard(evaluated(("cat",), [([(0, A)], [(0, 0.9, A), (0, 0.5, C)])], confidence=0.625))
    text = capsys.readouterr().out
    for words in ("OPERATIVE @ 0.625", "P@0.625", "R@0.625", "F1@0.625", "HEALTH CHECK (@ 0.625", "conf_prod: 0.625"):
        assert words in text
    assert tables(text)["ERROR HEALTH CHECK (@ 0.625, IoU 0.5)"][0]["FP"] == "0"
    assert "NEW BEST" not in text and "TRENDS" not in text, "there is nothing to compare with"
    assert "Top Confusions" not in text, "there is none"


def test_nothing_found_and_nothing_to_find(
    evaluated: Callable[..., Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    print_dashboard(evaluated(("cat", "dog"), [([], [])]), best=-math.inf)
    found = tables(capsys.readouterr().out)
    assert found["EVAL SUMMARY"][0]["mAP"] == "0.0000 [NEW BEST]"
    assert set(found["KPI (QUALITY)"][0].values()) == {"-"}
    assert found["KPI (OPERATIVE @ 0.25)"][0]["conf_best"] == "-"
    assert found["ERROR HEALTH CHECK (@ 0.25, IoU 0.5)"][0]["MeanIoU(TP)"] == "-"
    assert not any("PER-CLASS" in title for title in found)


@pytest.mark.parametrize(
    ("value", "best", "expected"),
    [
        (0.0, -math.inf, "0.0000 [NEW BEST]"),
        (0.45, 0.445, "0.4500 (+0.0050) [NEW BEST]"),
        (0.45, 0.4623, "0.4500 (-0.0123)"),
        (0.3, 0.3, "0.3000 (+0.0000)"),
        (0.45, None, "0.4500"),
    ],
)
def test_the_score_is_compared_with_the_best(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str], value: float, best: float | None, expected: str
) -> None:
    """0.3 is another number in the precision of the checkpoints; equal is equal all the same."""
    made = replace(evaluation, stats=replace(evaluation.stats, AP=value))
    if best == value:
        best = score(made)
    print_dashboard(made, best=best)
    assert tables(capsys.readouterr().out)["EVAL SUMMARY"][0]["mAP"] == expected


def test_trends_are_those_of_the_last_ten(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    history = [{"AP": 0.9}, *({"AP": 0.1 * n, "AP50": 0.5, "AR100": -1.0} for n in range(10))]
    print_dashboard(evaluation, history=history)
    rows = tables(capsys.readouterr().out)["TRENDS (last 10 validations)"]
    assert [row["Metric"] for row in rows] == ["AP50-95", "AP50"], "AR@100 was never measured"
    assert rows[0]["Range"] == "min: 0.0000" and len(rows[0]["Trend"]) == 10
    assert rows[0]["Trend"][0] == "_" and rows[0]["Trend"][-1] == "^", "0.9 is no longer among them"
    assert len(set(rows[1]["Trend"])) == 1


@pytest.mark.parametrize(
    ("epochs", "unit"), [((3, 4, 5), "epochs"), ((5, 10, 15), "validations"), ((1, 1, 2), "validations")]
)
def test_trends_name_what_they_count(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str], epochs: tuple[int, ...], unit: str
) -> None:
    print_dashboard(evaluation, history=[{"epoch": epoch, **trend_values(evaluation)} for epoch in epochs])
    assert f"TRENDS (last 3 {unit})" in tables(capsys.readouterr().out)


def test_below_the_confidence_of_the_protocol_nothing_is_known(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    print_dashboard(replace(evaluation, protocol=replace(evaluation.protocol, confidence=0.3)))
    text = capsys.readouterr().out
    found = tables(text)
    assert [set(row.values()) == {row["conf"], "-"} for row in found["THRESHOLD SWEEP"]] == [True] * 2 + [False] * 3
    assert "KPI (OPERATIVE @ 0.30)" in found and "@ 0.25" not in text


def test_sparkline_uses_its_whole_range() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6]) == "▁▂▃▄▅▆▇"
    assert sparkline([0.2, 0.1, 0.3], "_-^") == "-_^"
    assert sparkline([0.5, 0.5], "_-^") == "--"


ODD = ("[red]alarm[/red]", "日本語のとても長いクラスの名前がここにある", "a\x1b[31mb\nc", "x" * 400, "Ω→ü")


@pytest.fixture(scope="module")
def odd(evaluated: Callable[..., Evaluation]) -> Evaluation:
    """Names that are long, wide, hold markup, control signs, or none that ASCII has."""
    pairs = [(label, (label + 1) % len(ODD)) for label in range(len(ODD))]
    return evaluated(ODD, [([(true, A)], [(found, 0.9, A)]) for found, true in pairs])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_plain_output_is_aligned_and_can_be_written(odd: Evaluation, encoding: str, monkeypatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    history = [trend_values(odd)] * 3
    print_dashboard(odd, history=history, best=0.5, top_n=5)
    text = raw.getvalue().decode(encoding)
    assert "\x1b" not in text and not set(text) & set("╭│─▁█")
    assert "[red]alarm[/red]" in text and r"a\x1b[31mb\nc" in text
    assert ("日本語" in text) == (encoding == "utf-8")
    assert "ü" in text or encoding == "ascii"
    table = text.split("PER-CLASS: TOP by AP50-95\n")[1].split("\n\n")[0].split("\n")
    assert len(table) == 6 and len({cell_len(line) for line in table}) == 1


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    encoding = "utf-8"

    def show(self, evaluation: Evaluation, **options) -> str:
        """Return what is printed on it."""
        with redirect_stdout(self):
            print_dashboard(evaluation, **options)
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_terminal_gets_drawn_tables_that_fit(odd: Evaluation, terminal: Terminal, monkeypatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = terminal.show(odd, history=[trend_values(odd)] * 3, best=0.0, info=["epoch: 1000/1000"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(cell_len, text.split("\n"))) <= columns
    assert "…" not in text, "nothing is cut off"
    values = [*odd.stats.as_dict().values()][:3]
    for sign in ("╭", "│", "▄", "→", "AP50-95 │", *(f" {value:.4f} " for value in values)):
        assert sign in text
    assert columns < 60 or "[red]alarm[/red]" in text


def test_colours_tell_better_from_worse(evaluation: Evaluation, terminal: Terminal) -> None:
    better = terminal.show(evaluation, best=0.1)
    assert re.search(r"\x1b\[32m \(\+0\.2838\)", better) and re.search(r"\x1b\[1;32m *\[NEW BEST\]", better)
    worse = terminal.show(evaluation, best=0.5)
    assert re.search(r"\x1b\[1;31m \(-0\.1162\)", worse) and "NEW BEST" not in worse


def test_a_row_that_is_too_wide_becomes_a_column(evaluation: Evaluation, terminal: Terminal, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "56")
    monkeypatch.setenv("NO_COLOR", "1")
    text = terminal.show(evaluation)
    start = text.index("│ AP50-95 │")
    names = [line.split("│")[1].strip() for line in text[start:].split("\n")[:7]]
    assert names == ["AP50-95", "AP50", "AP75", "AR@100", "APs", "APm", "APl"]
    assert re.search(r"│ P@0.25 │ R@0.25 │", text), "this one fits"


def test_without_colours_tables_are_drawn_all_the_same(
    evaluation: Evaluation, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = terminal.show(evaluation, best=0.1)
    assert "\x1b" not in text and "╭" in text and "[NEW BEST]" in text


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("encoding", "ascii"), ("encoding", "cp1252")])
def test_terminals_that_know_no_drawings(
    evaluation: Evaluation, terminal: Terminal, monkeypatch, setting: tuple[str, str]
) -> None:
    name, value = setting
    if name == "encoding":
        terminal.encoding = value
    else:
        monkeypatch.setenv(name, value)
    text = terminal.show(evaluation, best=0.1)
    assert text.startswith("EVAL SUMMARY\nInfo") and text.isascii() and "\x1b" not in text


def test_shortened_names_keep_both_ends() -> None:
    assert shortened("person") == "person"
    assert shortened("a" * 50 + "_left") == "a" * 16 + "..." + "aaaa_left"
    assert cell_len(shortened("語" * 50)) <= LONGEST_NAME
    assert shortened("a\tb\x00c\udc80") == r"a\tb\x00c\udc80"


class Graded(YOLOModule):
    """Trains, but its evaluations come to a given mAP."""

    grades: tuple[float, ...] = ()

    def _evaluate(self, evaluator: Evaluator) -> Evaluation:
        evaluation = super()._evaluate(evaluator)
        return replace(evaluation, stats=replace(evaluation.stats, AP=self.grades[self.trainer.current_epoch]))


class Saved(YOLOCheckpoint):
    """Notes when it finds a new best."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.epochs: list[int] = []

    def _update_best_and_save(self, current, trainer, candidates) -> None:
        self.epochs.append(trainer.current_epoch)
        super()._update_best_and_save(current, trainer, candidates)


def fit(network: Path, data: Path, root: Path, *callbacks: Callback, grades=(0.1,), resume=None, **options) -> Saved:
    saver = Saved(save_last=True)
    trainer = Trainer(**{
        "accelerator": "cpu", "logger": False, "default_root_dir": root, "enable_progress_bar": False,
        "enable_model_summary": False, "use_distributed_sampler": False, "max_epochs": len(grades),
        "limit_train_batches": 1, "limit_val_batches": 1, "num_sanity_val_steps": 1,
        "callbacks": [*callbacks, saver], **options,
    })  # fmt: skip
    module = Graded(model_config=str(network), **({"save_metrics_plots": False} if not any(
        isinstance(callback, MetricPlots) for callback in callbacks) else {}))  # fmt: skip
    module.grades, module.resume_from = grades, resume
    source = YOLODataModule(root=str(data), image_size=64, batch_size=4, num_workers=0, seed=0)
    trainer.fit(module, datamodule=source, ckpt_path=resume, weights_only=resume is not None)
    return saver


GRADES = (0.0, 0.0, 0.3, 0.3, 0.1, 0.31)


def shown(text: str) -> list[tuple[str, str]]:
    """Epoch and mAP of every summary."""
    return re.findall(r"epoch: (\S+) +(0\.\d+.*?)(?:  |$)", text, re.MULTILINE)


def test_new_best_is_what_the_checkpoint_takes_for_it_also_after_a_resume(
    small_network: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = fit(small_network, tiny_data, tmp_path, EvalDashboardCallback(), grades=GRADES[:3])
    first, text = saver.epochs, capsys.readouterr().out
    assert text.count("EVAL SUMMARY") == 3, "the sanity check shows nothing"
    assert "TRENDS (last 3 epochs)" in text
    dashboard = EvalDashboardCallback()
    saver = fit(small_network, tiny_data, tmp_path, dashboard, grades=GRADES, resume=saver.last_model_path)
    again = capsys.readouterr().out
    assert shown(text) + shown(again) == [
        ("1/3", "0.0000 [NEW BEST]"), ("2/3", "0.0000 (+0.0000)"), ("3/3", "0.3000 (+0.3000) [NEW BEST]"),
        ("4/6", "0.3000 (+0.0000)"), ("5/6", "0.1000 (-0.2000)"), ("6/6", "0.3100 (+0.0100) [NEW BEST]"),
    ]  # fmt: skip
    assert first + saver.epochs == [0, 2, 5]
    assert "TRENDS (last 4 epochs)" in again and "TRENDS (last 6 epochs)" in again
    assert [entry["AP"] for entry in dashboard.history] == list(GRADES)


def test_states_of_before_are_read(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    dashboard = EvalDashboardCallback()
    dashboard.load_state_dict({"history": [0.1, 0.4, 0.2]})
    assert dashboard.best == pytest.approx(0.4)
    print_dashboard(evaluation, history=[*dashboard.history, trend_values(evaluation)], best=dashboard.best)
    rows = tables(capsys.readouterr().out)["TRENDS (last 4 validations)"]
    assert [len(row["Trend"]) for row in rows] == [4, 1, 1]
    other = EvalDashboardCallback()
    other.load_state_dict(dashboard.state_dict())
    assert (other.history, other.best) == (dashboard.history, dashboard.best)
    other.load_state_dict({"history": []})
    assert other.best == -math.inf


def test_options(small_network: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dashboard = EvalDashboardCallback(conf_prod=0.4, show_trends=False, top_n_classes=0)
    fit(small_network, tiny_data, tmp_path, dashboard, grades=(0.1, 0.2))
    text = capsys.readouterr().out
    assert "TRENDS" not in text and "PER-CLASS" not in text and "Confusions" not in text
    assert "OPERATIVE @ 0.40" in text and "(+0.1000) [NEW BEST]" in text
    fit(small_network, tiny_data, tmp_path, EvalDashboardCallback(enabled=False))
    assert "EVAL" not in capsys.readouterr().out
    for wrong in ({"conf_prod": 1.5}, {"top_n_classes": -1}):
        with pytest.raises(UsageError, match=rf"dashboard\.{next(iter(wrong))} is"):
            EvalDashboardCallback(**wrong)
