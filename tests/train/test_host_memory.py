"""A training on the CPU does not get its memory from the kernel anew in every step."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from yolo.training import host_memory
from yolo.training.module import YOLOModule

# How many pages the kernel hands out while 84 MiB are used in blocks, as in a step, after they were freed. When they
# are given back, it is the first use that shows it: what lies free below another block may be used again from then on.
AGAIN = """
import resource, torch
from yolo.training.host_memory import keep_freed_memory, return_freed_memory

def pages(uses):
    for _ in range(uses):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        maps = [torch.ones(size << 20) for size in (1, 5, 2, 4, 3, 6)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

done = keep_freed_memory()
kept = pages(4)
return_freed_memory()
print(done, kept, pages(1))
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def run(**environment: str) -> tuple[bool, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], env=environment, check=True, capture_output=True, text=True, timeout=100
    )
    said, kept, returned = done.stdout.split()
    return said == "True", int(kept), int(returned)


@glibc
def test_freed_memory_is_kept_and_returned() -> None:
    done, kept, returned = run()
    assert done
    assert kept < returned / 2


@glibc
def test_what_the_user_has_set_is_left_alone() -> None:
    done, kept, _ = run(MALLOC_MMAP_THRESHOLD_="131072")
    assert not done
    assert kept > 20


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not host_memory.keep_freed_memory()
    host_memory.return_freed_memory()


def test_a_training_on_the_cpu_keeps_its_memory_and_returns_it(
    tiny_data: Path, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo.training.trainer_cli import run_fit

    calls: list[str] = []
    step = YOLOModule.training_step

    def training_step(self: YOLOModule, *args: object) -> object:
        calls.append("step")
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: calls.append("keep"))
    monkeypatch.setattr(host_memory, "return_freed_memory", lambda: calls.append("return"))
    monkeypatch.setattr(YOLOModule, "training_step", training_step)
    fit = partial(
        run_fit,
        [
            f"--data.root={tiny_data}", "--data.image_size=64", "--data.batch_size=4", "--data.num_workers=0",
            f"--model.model_config={small_network}", "--trainer.accelerator=cpu", "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0", "--selftest.enabled=false",
            "--record.enabled=false", f"--trainer.logger.init_args.save_dir={tmp_path}",
        ],
    )  # fmt: skip
    fit()
    assert calls == ["keep", "step", "return"]
    del calls[:]
    monkeypatch.setattr(YOLOModule, "training_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit()
    assert calls == ["keep", "return"]
