"""The lines in front of a training."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from yolo.training import overview as texts
from yolo.training.callbacks import EMACallback
from yolo.training.datamodule import YOLODataModule
from yolo.training.estimate import MemoryEstimate
from yolo.training.module import YOLOModule
from yolo.training.wording import byte_size, duration


class Overview(Callback):
    """Keeps the text that the summary would print."""

    def __init__(self, width: int = texts.WIDTH) -> None:
        self.width = width
        self.text = ""

    def on_fit_start(self, trainer, pl_module) -> None:
        self.text = texts.overview(trainer, pl_module, width=self.width)


def overview(
    network: Path, data: Path, root: Path, *, width: int = texts.WIDTH, model=None, **options
) -> dict[str, str]:
    watch = Overview(width)
    trainer = Trainer(
        **{
            "accelerator": "cpu", "default_root_dir": root, "logger": False, "enable_progress_bar": False,
            "enable_model_summary": False, "enable_checkpointing": False, "use_distributed_sampler": False,
            "max_epochs": 20, "limit_train_batches": 1, "num_sanity_val_steps": 0, "callbacks": [EMACallback(), watch],
            "max_time": {"seconds": 0}, **options,
        }
    )  # fmt: skip
    trainer.fit(
        YOLOModule(**{"model_config": str(network), **(model or {})}),
        YOLODataModule(root=str(data), image_size=64, batch_size=2, num_workers=0),
    )
    lines = watch.text.splitlines()
    assert all(len(line) <= width or " " not in line[11:] for line in lines), "only a path may be longer"
    rows: dict[str, str] = {}
    for line in lines:
        if line[0] != " ":
            name = line.split()[0]
        rows[name] = f"{rows.get(name, '')} {line[11:]}".strip()
    return rows


def test_it_says_what_is_trained_on_what_and_how(small_network: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = overview(
        small_network, tiny_data, tmp_path, gradient_clip_val=10.0, accumulate_grad_batches=2, limit_train_batches=1.0
    )
    assert list(rows) == ["Model", "Data", "Classes", "Loading", "Device", "Optimiser", "Length", "Memory", "Run"]
    assert rows["Model"].startswith("small, 5 layers, ")
    assert "GFLOPs at 64x64" in rows["Model"]
    assert rows["Data"].startswith("8 training images with ")
    assert "4 validation images with " in rows["Data"]
    assert rows["Data"].endswith(f"{tiny_data} (coco)")
    assert rows["Classes"] == "4: circle, square, triangle, star"
    assert rows["Loading"] == "batches of 2, 0 workers, cache none, mosaics for 5 epochs"
    assert rows["Device"].startswith("1 x CPU (") and ", precision 32-true" in rows["Device"]
    assert rows["Optimiser"].startswith(
        "SGD, rate 0.01, momentum 0.937, weight decay 0.0005, gradients clipped at 10, "
    )
    assert "averaged weights (EMA); cosine to " in rows["Optimiser"]
    assert rows["Optimiser"].endswith("after 6 steps of warm-up")
    assert rows["Length"] == "20 epochs of 2 steps, each of 2 batches"
    assert rows["Memory"].startswith("about ") and "activations " in rows["Memory"] and "EMA " in rows["Memory"]
    assert rows["Run"].endswith("runs/yolo/version_0")


def test_it_is_right_about_other_settings(small_network: Path, tiny_data: Path, tmp_path: Path) -> None:
    settings = {"optimizer": "adamw", "warmup_epochs": 0.0, "lr_scheduler": "linear", "freeze_layers": [0, 1]}
    rows = overview(small_network, tiny_data, tmp_path, width=60, model=settings, limit_val_batches=0, max_steps=30)
    assert " trained, 1,416 frozen); " in rows["Model"]
    assert "no validation" in rows["Data"]
    assert rows["Optimiser"].startswith("AdamW, rate 0.01, weight decay")
    assert "linear to " in rows["Optimiser"] and "warm-up" not in rows["Optimiser"]
    assert rows["Length"] == "20 epochs of 1 step, 30 steps at most"


def test_a_network_that_cannot_be_estimated_trains_all_the_same(
    small_network: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_, **__):
        raise RuntimeError("images of 64 pixels are too small")

    monkeypatch.setattr(texts, "estimate_memory", refuse)
    assert "Memory" not in overview(small_network, tiny_data, tmp_path)


def test_a_training_that_may_not_fit_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    class Facts:
        total_memory = 8_000_000_000

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Facts)
    one = {"gradients": 0, "optimizer": 0, "average": 0}
    small, large = (MemoryEstimate(weights=10**8, activations=a * 10**9, **one) for a in (3, 9))
    device = torch.device("cuda")
    assert texts._memory_text(small, device) == "about 3.1 GB of 8.0 GB (activations 3.0 GB, weights 100 MB)"
    assert texts._memory_text(large, device).endswith("THIS MAY NOT FIT: lower data.batch_size")


def test_times_and_sizes_read_well() -> None:
    times = {4.26: "4.3 s", 45: "45 s", 59.7: "1 min", 200: "3 min 20 s", 3599.6: "1 h", 6000: "1 h 40 min",
             86399: "1 d", 97200: "1 d 3 h"}  # fmt: skip
    assert {seconds: duration(seconds) for seconds in times} == times
    sizes = {24.4e6: "24 MB", 999.9e6: "1.0 GB", 1.87e9: "1.9 GB", 9.96e9: "10 GB", 85.2e9: "85 GB"}
    assert {count: byte_size(count) for count in sizes} == sizes
