"""Which keys make which batch."""

from __future__ import annotations

import pickle

import pytest

from yolo.core.errors import UsageError
from yolo.data.sampler import BatchSampler, SampleKey, mixing_epochs


def batches(count: int = 10, *, size: int = 3, training: bool = True, **options: int) -> list[list[SampleKey]]:
    return list(BatchSampler(count, batch_size=size, training=training, **options))


def indices(keys: list[list[SampleKey]]) -> list[int]:
    return [key.index for batch in keys for key in batch]


def test_every_image_once_in_an_order_of_the_seed_and_the_epoch() -> None:
    assert sorted(indices(batches())) == list(range(10))
    assert batches() == batches()
    orders = {tuple(indices(batches(seed=seed, epoch=epoch))) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    assert [len(batch) for batch in batches()] == [3, 3, 3, 1]
    assert [len(batch) for batch in batches(drop_last=True)] == [3, 3, 3]


def test_set_epoch_changes_the_order_and_the_keys() -> None:
    sampler = BatchSampler(10, batch_size=3, training=True)
    assert sampler.sampler is sampler, "Lightning looks for set_epoch there"
    sampler.set_epoch(4)
    assert list(sampler) == batches(epoch=4)
    assert {key.epoch for batch in sampler for key in batch} == {4}


def test_the_epoch_is_fixed_when_the_iteration_begins() -> None:
    """Lightning begins an iterator and only then calls set_epoch."""
    sampler = BatchSampler(10, batch_size=3, training=True)
    begun = iter(sampler)
    sampler.set_epoch(1)
    assert list(begun) == batches(epoch=0)


def test_shards_of_training_are_padded_to_one_length() -> None:
    shards = [batches(10, rank=rank, world_size=4) for rank in range(4)]
    assert {len(indices(shard)) for shard in shards} == {3}
    together = [index for shard in shards for index in indices(shard)]
    assert set(together) == set(range(10)) and len(together) == 12
    tiny = [batches(1, rank=rank, world_size=3) for rank in range(3)]
    assert [indices(shard) for shard in tiny] == [[0]] * 3


def test_shards_of_evaluation_have_no_duplicates() -> None:
    shards = [batches(10, training=False, rank=rank, world_size=4) for rank in range(4)]
    assert sorted(index for shard in shards for index in indices(shard)) == list(range(10))
    assert indices(batches(training=False)) == list(range(10))
    assert all(len(BatchSampler(10, batch_size=3, training=False, rank=r, world_size=4)) == 1 for r in range(4))
    assert not any(key.mix for batch in batches(training=False) for key in batch)


def test_resume_in_the_middle() -> None:
    sampler = BatchSampler(10, batch_size=3, training=True, epoch=2, start_batch=2)
    assert len(sampler) == 4, "the length is that of the whole epoch"
    assert list(sampler) == batches(epoch=2)[2:]
    sampler.set_epoch(2)
    assert list(sampler) == batches(epoch=2)[2:], "the same epoch keeps its start"
    sampler.set_epoch(3)
    assert list(sampler) == batches(epoch=3)


def test_mixing_stops_for_the_last_epochs() -> None:
    flags = [batches(mix_epochs=2, epoch=epoch)[0][0].mix for epoch in range(4)]
    assert flags == [True, True, False, False]
    assert mixing_epochs(10, 3) == 7
    assert mixing_epochs(5, 15) == 0
    assert mixing_epochs(-1, 15) is None and mixing_epochs(None, 15) is None and mixing_epochs(10, 0) is None


def test_keys_pickle_small() -> None:
    key = SampleKey(3, 5)
    assert pickle.loads(pickle.dumps(key)) == key


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="no images"):
        BatchSampler(0, batch_size=1, training=True)
    with pytest.raises(UsageError, match="batch_size"):
        BatchSampler(1, batch_size=0, training=True)
    assert list(BatchSampler(0, batch_size=1, training=False)) == []
