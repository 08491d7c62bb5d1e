"""What processes exchange, without a training around it: three of them, of which one has nothing at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from yolo.data.sampler import BatchSampler

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

SCRIPT = '''
import copy, json, os, sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from yolo.core.losses import DetectionLoss
from yolo.core.models import build_model, load_spec
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.training.metrics import Evaluator, Protocol
from yolo.training.metrics.evaluator import Detected
from yolo.training.metrics.gather import evaluate_together
from yolo.training.processes import one_batch, share_from_first

rank, world, folder = int(sys.argv[1]), 3, Path.cwd()
dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), world), rank=rank, world_size=world)
table = load_labels(DataConfig(root=sys.argv[2]), "val")
cpu, facts = torch.device("cpu"), {}


def detections(index):
    """The truth a little moved, and boxes that are nowhere; nothing for one image, wherever it is looked at."""
    rng = np.random.default_rng(index)
    rows = slice(table.offsets[index], table.offsets[index + 1])
    true, labels = table.boxes[rows], table.labels[rows].astype(np.int64)
    if index == 2:
        true, labels = true[:0], labels[:0]
    other = rng.uniform(0, 40, (0 if index == 2 else 3, 4)).astype(np.float32)
    other[:, 2:] += other[:, :2]
    boxes = np.concatenate([true + rng.normal(0, 3, true.shape), other]).astype(np.float32)
    labels = np.concatenate([labels, rng.integers(0, 4, len(other))])
    return Detected(boxes, rng.uniform(0, 1, len(boxes)).astype(np.float32), labels)


def numbers(evaluation):
    """All that was measured; the first process holds the detections, so the others know less."""
    record = evaluation.as_dict()
    if rank > 0:
        record = {key: record[key] for key in ("stats", "metrics", "operating_point", "images", "split_images")}
    return json.dumps(record)


protocol = Protocol(0.001, 0.65, 300, (96, 96))
whole = Evaluator(table)
whole.update(range(len(table)), [detections(index) for index in range(len(table))])
alone = numbers(whole.compute(protocol, operating_confidence=0.25))
shares = {"spread": range(rank, len(table), world), "one process": range(len(table)) if rank == 0 else []}
for name, mine in shares.items():
    part = Evaluator(table)
    part.update(mine, [detections(index) for index in mine])
    together = evaluate_together(part, protocol, operating_confidence=0.25, device=cpu)
    facts[name] = numbers(together) == alone
nothing = evaluate_together(Evaluator(table), protocol, operating_confidence=0.25, device=cpu)
facts["nothing"] = [nothing.images, nothing.stats.AP]
facts["AP"] = json.loads(alone)["stats"]["AP"]

held = [torch.full((2, 3), float(rank)), torch.tensor(rank), torch.full((1,), rank + 0.5)]
share_from_first(held)
facts["shared"] = [float(value.sum()) for value in held]

# A step of three processes with one image each, of which the second has no box, and one of the three images at once.
torch.manual_seed(0)
network = build_model(load_spec("v9-t"), 4, image_size=(64, 64)).double()
network.train()
for module in network.modules():  # statistics of one image are not those of three
    if isinstance(module, torch.nn.BatchNorm2d):
        module.eval()
images = torch.rand(world, 3, 64, 64, dtype=torch.float64)
boxes = torch.tensor([[4.0, 4, 40, 44], [10, 20, 30, 60], [20, 8, 60, 50], [1, 1, 20, 20], [30, 30, 62, 62]]).double()
labels, owner = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0, 2, 2, 2, 2])
loss = DetectionLoss()
reference = copy.deepcopy(network)
total = loss(reference(images), boxes, labels, owner).total
(total * world).backward()
wrapped = DistributedDataParallel(network)  # find_unused_parameters is false: every parameter has to get a gradient
own = owner == rank
output = wrapped(images[rank : rank + 1])
with one_batch(loss, world):
    mine = loss(output, boxes[own], labels[own], owner[own] * 0).total
(mine * 1 * world).backward()  # as in training_step: images of this process times processes; DDP averages
pairs = [(p.grad, q.grad) for p, q in zip(network.parameters(), reference.parameters()) if q.requires_grad]
facts["without gradient"] = sum(mine is None for mine, _ in pairs)
facts["step"] = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)
mean = mine.detach().clone()
dist.all_reduce(mean)
facts["loss"] = abs(float(mean / world - total))
facts["divisor is back"] = loss.divisor(torch.tensor(0.25)).item() == 1

with one_batch(loss, world):  # one process has a sum that is not finite: the others have not
    facts["divisor"] = float(loss.divisor(torch.tensor(float("nan") if rank == 1 else 6.0)))
Path(f"facts-{rank}.json").write_text(json.dumps(facts))
dist.barrier()
'''


@pytest.fixture(scope="module")
def facts(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What each of three processes found."""
    import os
    import subprocess

    folder = tmp_path_factory.mktemp("three")
    (folder / "three.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, "three.py", str(rank), str(synthetic_data)] for rank in range(3)]
    logs = [(folder / f"log-{rank}").open("w+") for rank in range(3)]
    started = [
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        for command, log in zip(commands, logs, strict=True)
    ]
    try:
        codes = [process.wait(120) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait(10)
    assert codes == [0, 0, 0], "".join(log.seek(0) * "" + log.read() for log in logs)
    return [json.loads((folder / f"facts-{rank}.json").read_text()) for rank in range(3)]


def test_all_processes_get_the_numbers_of_one(facts: list[dict[str, object]]) -> None:
    for found in facts:
        assert found["spread"] and found["one process"]
        assert found["nothing"] == [0, -1.0]
        assert float(str(found["AP"])) > 0.1


def test_values_of_the_first_process_are_shared(facts: list[dict[str, object]]) -> None:
    assert [found["shared"] for found in facts] == [[0.0, 0.0, 0.5]] * 3


def test_a_step_does_not_depend_on_how_the_batch_is_spread(facts: list[dict[str, object]]) -> None:
    """One of three has no box. Networks are float64, soft scores float32. DDP would wait for a parameter left out."""
    for found in facts:
        assert found["without gradient"] == 0
        assert float(str(found["step"])) < 1e-6
        assert float(str(found["loss"])) < 1e-5
        assert found["divisor is back"]


def test_a_process_with_a_bad_sum_leaves_the_divisor_of_the_others_alone(facts: list[dict[str, object]]) -> None:
    assert [found["divisor"] for found in facts] == [4.0] * 3


@pytest.mark.parametrize(("count", "world", "size"), [(1, 2, 3), (5, 2, 2), (7, 3, 2), (2, 3, 4), (8, 3, 1), (1, 5, 1)])
def test_every_image_is_validated_and_no_process_has_an_empty_loader(count: int, world: int, size: int) -> None:
    shards = [
        [key.index for batch in loader for key in batch]
        for rank in range(world)
        if (loader := BatchSampler(count, batch_size=size, training=False, rank=rank, world_size=world))
    ]
    assert len(shards) == world and all(shards)
    seen = sorted(index for shard in shards for index in shard)
    assert seen == list(range(count)) if count >= world else set(seen) == set(range(count))


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_step_has_the_images_of_one_process_wherever_an_epoch_goes_on(done: int) -> None:
    """What the documentation promises of a resume in mid-epoch, with the same batch altogether."""
    alone = list(BatchSampler(10, batch_size=4, training=True, seed=3, epoch=2, start_batch=done))
    shards = [
        list(BatchSampler(10, batch_size=2, training=True, seed=3, epoch=2, start_batch=done, rank=rank, world_size=2))
        for rank in range(2)
    ]
    together = [sorted(key.index for part in parts for key in part) for parts in zip(*shards, strict=True)]
    assert together == [sorted(key.index for key in batch) for batch in alone]
