"""Whether a cache fits into memory and on the disk is asked before the work starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache import resources
from yolo.data.cache.resources import (
    available_memory,
    check_memory,
    check_resources,
    estimate_bytes,
    free_disk,
)
from yolo.data.cache.settings import CacheSettings
from yolo.data.loaders import EncryptedImageLoader, ImageLoader
from yolo.data.loaders.base import Pixels

JPEG = CacheSettings("yolo", "jpeg", 95, None, 1.0, encrypted=False)
RAW = CacheSettings("yolo", "raw", 95, None, 1.0, encrypted=False)


class Noise(ImageLoader):
    """Pictures that cannot be compressed; one of them is broken."""

    def __call__(self, path: str) -> Pixels:
        if path == "broken":
            raise ValueError("broken")
        return np.random.default_rng(int(path)).integers(0, 256, (100, 100, 3)).astype(np.uint8)


def test_the_estimate_is_near_the_truth() -> None:
    paths = [str(number) for number in range(1000)]
    raw = estimate_bytes(paths, RAW, Noise())
    assert 30_000 * 1000 < raw < 37_000 * 1000
    assert estimate_bytes(paths, JPEG, Noise()) < raw
    assert estimate_bytes(["1", "broken"], RAW, Noise()) < 2_000_000
    assert estimate_bytes([], RAW, Noise()) < 2_000_000


def test_a_missing_key_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLO_ENCRYPTION_KEY", raising=False)
    (tmp_path / "a.jpg.enc").write_bytes(b"x" * 64)
    with pytest.raises(UsageError, match="YOLO_ENCRYPTION_KEY"):
        estimate_bytes([str(tmp_path / "a.jpg.enc")], RAW, EncryptedImageLoader())


def test_a_small_disk_is_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    missing = tmp_path / "not/yet/there"
    free = free_disk(missing)
    assert free > 0
    check_resources(missing, free // 2, mode="disk", max_memory_gb=0)
    check_resources(missing, 2 * free, mode="disk", max_memory_gb=0, present=2 * free)
    with pytest.raises(YoloError, match=r"needs about .* GB more, but its disk has .* free.*data\.cache_dir"):
        check_resources(missing, 2 * free, mode="disk", max_memory_gb=0)


def test_memory_is_compared_with_the_limit_and_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 5_000_000_000)
    check_memory(4_000_000_000, 8)
    with pytest.raises(UsageError, match=r"takes 9\.0 GB and data\.cache_max_memory_gb allows 8 GB.*disk"):
        check_memory(9_000_000_000, 8)
    with pytest.raises(UsageError, match=r"takes 6\.0 GB and only 5\.0 GB of this machine's memory"):
        check_memory(6_000_000_000, 8)
    with pytest.raises(UsageError, match="cache_max_memory_gb"):
        check_resources(Path("/"), 9_000_000_000, mode="ram", max_memory_gb=8, present=9_000_000_000)
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    check_memory(6_000_000_000, 8)


def test_this_machine_has_memory() -> None:
    found = available_memory()
    assert found is None or found > 50_000_000


def _system(root: Path, files: dict[str, str]) -> Path:
    for name, text in ({"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"} | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_control_groups_of_version_2_limit_memory(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/outer/inner"
    system = _system(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner\n",
            f"{group}/memory.max": "max\n",
            f"{group}/memory.current": "4000000\n",
            f"{group}/memory.stat": "anon 1\ninactive_file 0\n",
            "sys/fs/cgroup/outer/memory.max": "5000000\n",
            "sys/fs/cgroup/outer/memory.current": "4000000\n",
            "sys/fs/cgroup/outer/memory.stat": "anon 1500000\nactive_file 1000000\ninactive_file 1500000\n",
        },
    )
    assert available_memory(system) == 3_500_000


def test_control_groups_of_version_1_limit_memory(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    system = _system(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
            f"{base}/memory.limit_in_bytes": "3000000\n",
            f"{base}/memory.usage_in_bytes": "1000000\n",
            f"{base}/memory.stat": "inactive_file 500000\ntotal_inactive_file 900000\n",
        },
    )
    assert available_memory(system) == 2_900_000


def test_no_limit_leaves_what_the_machine_has(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "4:memory:/\n",
        f"{base}/memory.limit_in_bytes": f"{0x7FFFFFFFFFFFF000}\n",
        f"{base}/memory.usage_in_bytes": "1000000\n",
        f"{base}/memory.stat": "",
    }
    assert available_memory(_system(tmp_path, files)) == 8000 * 1024
