"""The published networks against the reference: names, shapes, outputs, statistics, sizes.

``tests/golden/networks.json`` holds the compact facts; the tests with the fixture ``reference`` compare everything.
GELAN networks have no reference of their own: they are the inference part of the YOLOv9 ones, which is tested here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolo.core.decode import decode
from yolo.core.models import Network, build_model, count, layer_table, load_spec, zoo_names
from yolo.core.models.fuse import fuse
from yolo.core.nn.anchor_head import AnchorDetection
from yolo.core.outputs import BranchOutput, HeadOutput

FACTS = json.loads((Path(__file__).parents[1] / "golden" / "networks.json").read_text())
REFERENCE_WIDTH = {"per_class": 2, "at_most": 128}
# name in the reference -> name in the zoo, class width
CASES: dict[str, tuple[str, dict[str, int] | None]] = {
    "v9-t-pub": ("v9-t", None),
    "v9-t": ("v9-t", REFERENCE_WIDTH),
    **{name: (name, None) for name in ("v9-s", "v9-m", "v9-c", "v9-e", "rd-9c")},
    "v7-official": ("v7", None),
}
SCALES = ("p3", "p4", "p5")
RAW, VEC, PIXELS, PROBABILITY = 1e-3, 1e-3, 2e-2, 5e-4


@dataclass
class Case:
    name: str
    network: Network
    facts: dict[str, Any]


def rule_tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor | None:
    """The reference's weight rule; None where the tensor stays as built (statistics, counters, constants)."""
    if key.endswith(("running_mean", "running_var", "num_batches_tracked", "anc2vec.weight")):
        return None
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(size=shape)
    if key.endswith("implicit"):
        value = float("implicit_m" in key) + 0.1 * noise
    elif key.endswith("weight"):
        value = 1 + 0.1 * noise if len(shape) == 1 else noise / np.sqrt(np.prod(shape[1:]))
    else:
        value = 1 + 0.3 * noise if key.endswith("bn.bias") else 0.1 * noise
    return torch.from_numpy(value.astype(np.float32))


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """A network with weights by the rule; normalisation statistics as built."""
    torch.set_num_threads(1)
    zoo, width = CASES[request.param]
    network = build_model(zoo, class_width=width)
    state = {
        key: tensor if (made := rule_tensor(key, tuple(tensor.shape))) is None else made
        for key, tensor in network.state_dict().items()
    }
    network.load_state_dict(state, strict=True)
    yield Case(request.param, network, FACTS[request.param])


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(0)).random(size=(2, 3, 160, 192), dtype=np.float32))


def named_outputs(network: Network, images: torch.Tensor, **options: Any) -> tuple[HeadOutput, dict[str, torch.Tensor]]:
    """One forward, and its outputs as the reference calls them."""
    raw: list[torch.Tensor] = []
    hooks = [
        head.register_forward_hook(lambda _m, _i, output: raw.append(output))
        for head in network.modules()
        if isinstance(head, AnchorDetection)
    ]
    with torch.no_grad():
        output = network(images, **options)
    for hook in hooks:
        hook.remove()
    if raw:
        return output, {f"main/{scale}_raw": part for scale, part in zip(SCALES, raw, strict=True)}
    return output, named(output.main, "main") | ({} if output.aux is None else named(output.aux, "aux"))


def named(branch: BranchOutput, prefix: str) -> dict[str, torch.Tensor]:
    """Outputs in the reference's layout: box logits as [B, bin, side, h, w], and their expectation."""
    found = {}
    for scale, cls, dist in zip(SCALES, branch.cls, branch.dist, strict=True):
        bins = dist.unflatten(1, (4, 16)).transpose(1, 2)
        found[f"{prefix}/{scale}_cls"] = cls
        found[f"{prefix}/{scale}_dist"] = bins
        found[f"{prefix}/{scale}_vec"] = torch.einsum("bkshw,k->bshw", bins.softmax(1), torch.arange(16.0))
    return found


def run_in_training_mode(
    network: Network, images: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, list[float]]]:
    """Outputs and updated statistics of one forward; the network is as before afterwards."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    output, found = named_outputs(network.train(), images)
    assert (output.aux is not None) == network.has_auxiliary
    stats = {
        name: [
            float(norm.running_mean[0]),
            float(norm.running_mean.norm()),
            float(norm.running_var[0]),
            float(norm.running_var.norm()),
        ]
        for name, norm in network.named_modules()
        if isinstance(norm, torch.nn.BatchNorm2d)
    }
    for name, buffer in network.named_buffers():
        buffer.copy_(before[name])
    return found, stats


def worst(found: torch.Tensor, expected: np.ndarray, stride: int) -> float:
    return float((found.flatten()[::stride] - torch.from_numpy(expected).flatten()).abs().max())


def test_names_shapes_and_order(case: Case) -> None:
    lines = [
        f"{key} {','.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"
        for key, tensor in case.network.state_dict().items()
    ]
    assert len(lines) == case.facts["keys"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == case.facts["sha256"]


def test_sizes(case: Case) -> None:
    for part, aux in (("full", True), ("inference", False)):
        size = count(case.network, aux=aux)
        assert [size.parameters, size.trainable, size.flops] == case.facts["counts"][part]
    fused = count(fuse(case.network))
    assert [fused.parameters, fused.flops] == case.facts["counts"]["fused"]


def test_training_mode_values(case: Case, images: torch.Tensor) -> None:
    outputs, _ = run_in_training_mode(case.network, images)
    for name, values in case.facts["train_mode"].items():
        assert outputs[name].flatten()[::97][:3].tolist() == pytest.approx(values, abs=RAW), name


def test_state_dict_entries(case: Case, reference: Path) -> None:
    entries = json.loads((reference / case.name / "state_dict.json").read_text())["entries"]
    found = [
        [key, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for key, tensor in case.network.state_dict().items()
    ]
    assert found == entries


def test_layer_table(case: Case, reference: Path) -> None:
    golden = json.loads((reference / case.name / "layers.json").read_text())
    rows = layer_table(case.network)
    assert len(rows) == len(golden)
    for row, gold in zip(rows, golden, strict=True):
        sources = gold["source"] if isinstance(gold["source"], list) else [gold["source"]]
        # The code that the reference's v7 table comes from knows no section "detection" for it.
        section = "detection" if row.tag == "Main" else gold["section"]
        assert (row.index, row.section, row.block, row.tag) == (gold["index"], section, gold["block"], gold["tag"])
        assert [-1 if source == "input" else source for source in sources] == list(row.sources)
        assert json.loads(json.dumps(row.args)) == gold["args"]
        if row.block == "MultiheadDetection" and "version" not in row.args:
            shapes = [(cls[1] + dist[1] * dist[2], *cls[2:]) for cls, dist, _ in gold["out_shape_640"]]
        elif isinstance(gold["out_shape_640"][0], list):
            shapes = [tuple(shape[1:]) for shape in gold["out_shape_640"]]
        else:
            shapes = [tuple(gold["out_shape_640"][1:])]
        assert [tuple(shape) for shape in row.shapes] == shapes, row


def test_evaluation_and_training_outputs(case: Case, reference: Path, images: torch.Tensor) -> None:
    folder = reference / case.name
    statistics = {
        key: torch.from_numpy(value.astype(np.float32)) for key, value in np.load(folder / "bn_stats.npz").items()
    }
    network = case.network
    report = network.load_state_dict(statistics, strict=False)
    assert not report.unexpected_keys and not any("running" in key for key in report.missing_keys)
    output, outputs = named_outputs(network.eval(), images, aux=True)
    with torch.no_grad():
        alone = network(images)
    assert alone.aux is None and (output.aux is not None) == network.has_auxiliary
    assert all(torch.equal(a, b) for a, b in zip(alone.main.dist, output.main.dist, strict=True))

    meta = json.loads((folder / "outputs.json").read_text())["arrays"]
    arrays = np.load(folder / "outputs.npz")
    assert {name for name in arrays if "/p" in name and "/probs" not in name} == set(outputs)
    for name, tensor in outputs.items():
        tolerance = VEC if name.endswith("_vec") else RAW
        assert worst(tensor, arrays[name], meta[name]["stride"]) < tolerance, name
        assert list(outputs[name].shape) == meta[name]["shape"]
    for prefix, branch in (("main", output.main), ("aux", output.aux)):
        if branch is None:
            continue
        found = decode(branch)
        for name, tensor, tolerance in (("boxes_xyxy", found.boxes, PIXELS), ("probs", found.scores, PROBABILITY)):
            key = f"{prefix}/{name}"
            assert worst(tensor, arrays[key], meta[key]["stride"]) < tolerance, key

    trained, stats = run_in_training_mode(network, images)
    golden = json.loads((folder / "train_mode.json").read_text())
    for name, values in np.load(folder / "train_mode.npz").items():
        assert worst(trained[name], values, golden["arrays"][name]["stride"]) < RAW, name
    assert stats.keys() == golden["bn"].keys()
    for name, numbers in golden["bn"].items():
        assert stats[name] == pytest.approx(numbers, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("size", ["t", "s", "m", "c", "e"])
def test_gelan_is_the_inference_part_of_yolov9(size: str) -> None:
    """Layer by layer, tensor by tensor, number by number: nothing but the name differs."""
    gelan, whole = load_spec(f"gelan-{size}"), load_spec(f"v9-{size}").without_auxiliary()
    assert dataclasses.replace(gelan, name=whole.name) == whole
    with torch.device("meta"):
        network, twin = build_model(gelan), build_model(f"v9-{size}")
    facts = FACTS["v9-t-pub" if size == "t" else f"v9-{size}"]["counts"]
    found = count(network, aux=True)
    assert [found.parameters, found.trainable, found.flops] == facts["inference"]
    shapes = [(key, tensor.shape) for key, tensor in network.state_dict().items()]
    assert shapes == [(key, tensor.shape) for key, tensor in twin.state_dict().items()][: len(shapes)]


def test_gelan_predicts_what_yolov9_predicts() -> None:
    torch.manual_seed(0)
    whole, network = build_model("v9-t", 3).eval(), build_model("gelan-t", 3).eval()
    own = network.state_dict()
    network.load_state_dict({key: tensor for key, tensor in whole.state_dict().items() if key in own}, strict=True)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = network(images).main, whole(images).main
    assert all(torch.equal(a, b) for a, b in zip(found.cls + found.dist, expected.cls + expected.dist, strict=True))


def test_every_network_has_a_reference() -> None:
    assert {zoo for zoo, _ in CASES.values()} | {f"gelan-{size}" for size in "tsmce"} == set(zoo_names())
