"""Pictures to a batch, in memory of this process and in memory that processes share."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from yolo.data import collate as module
from yolo.data.collate import collate
from yolo.data.types import Sample, Targets

SIZE = (40, 24)


def samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, SIZE[1], SIZE[0], 3), np.uint8)
    return [Sample(image, Targets.empty(), index, SIZE) for index, image in enumerate(images)]


@pytest.fixture(params=["file_descriptor", "file_system"])
def in_a_worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param not in torch.multiprocessing.get_all_sharing_strategies():
        pytest.skip(f"this system has no {request.param}")
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(request.param)
    request.addfinalizer(lambda: torch.multiprocessing.set_sharing_strategy(before))
    monkeypatch.setattr(module, "get_worker_info", lambda: object())


@pytest.mark.usefixtures("in_a_worker")
def test_a_batch_of_a_worker_lies_in_shared_memory() -> None:
    given = samples(3)
    images = collate(given).images
    assert images.is_shared()
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), [sample.image for sample in given])
    images[1] = 7  # it can be written to
    assert (images[1] == 7).all()


def test_a_batch_of_the_main_process_is_its_own() -> None:
    given = samples(3)
    images = collate([*given[:2], Sample(given[2].image[:, ::-1], Targets.empty(), 2, SIZE)]).images
    assert not images.is_shared()
    np.testing.assert_array_equal(images[2].permute(1, 2, 0).numpy(), given[2].image[:, ::-1])


@pytest.mark.parametrize("in_a_worker", ["file_descriptor"], indirect=True)
@pytest.mark.usefixtures("in_a_worker")
def test_shared_memory_that_is_full_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[[int, memoryview, int], int] = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data.cast("B")[:1000], place))
    with pytest.raises(OSError, match="shared memory"):
        collate(samples(2))
