"""The self-test of a device finds faults, names them, and disturbs nothing. The CPU stands in for a device."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo.core.errors import UsageError
from yolo.core.losses import DetectionLoss
from yolo.core.nn.conv import Pool
from yolo.core.nn.fusion import UpSample
from yolo.core.selftest import PRECISIONS, SelfTest, is_known, known, remember, run, self_test

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Put a fault into everything that is computed on the tested device, and into nothing else."""
    real = run.under_test

    def install(fault: Fault) -> None:
        @contextmanager
        def faulty(device: torch.device, precision: str) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
            with pytest.MonkeyPatch.context() as patch, real(device, precision) as context:
                fault(patch)
                yield context

        monkeypatch.setattr(run, "under_test", faulty)

    return install


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sound_device_passes(precision: str, channels_last: bool) -> None:
    result = self_test("cpu", precision, channels_last=channels_last)
    assert result.passed, str(result)
    assert tuple(result.worst()) == ("forward", "backward", "loss", "decode", "nms", "step")
    assert all(check.strain < 0.5 for check in result.checks), "a bound that rounding nearly reaches is no bound"
    assert result.device in str(result)
    assert "Try" not in str(result)


def test_mixed_precision_is_really_used() -> None:
    errors = {p: max(c.error for c in self_test("cpu", p).checks if c.part == "forward") for p in PRECISIONS}
    assert errors["32-true"] < 1e-5 < errors["16-mixed"] < 0.006 < errors["bf16-mixed"]


def in_output(kind: type[nn.Module], change: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> Fault:
    def fault(patch: pytest.MonkeyPatch) -> None:
        real = kind.forward
        patch.setattr(kind, "forward", lambda self, x: change(self, real(self, x)))

    return fault


def _one_channel(conv: nn.Module, out: torch.Tensor) -> torch.Tensor:
    wrong = out.clone()
    wrong[:, 0] = wrong[:, 0].flip(-1)
    return wrong


def _one_number(conv: nn.Module, out: torch.Tensor) -> torch.Tensor:
    wrong = out.clone()
    wrong[0, 0, 0, 0] += 20 * wrong.std()
    return wrong


def _only_strided(conv: nn.Module, out: torch.Tensor) -> torch.Tensor:
    return out.roll(1, -1) if conv.stride == (2, 2) else out


def _only_grouped(conv: nn.Module, out: torch.Tensor) -> torch.Tensor:
    return out * 1.5 if conv.groups > 1 else out


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * math.nan


class _HalfGradient(_NoGradient):
    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad / 2


def _refuse(module: nn.Module, out: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no kernel image is available for execution on the device\nmore")


def _wrong_nms(patch: pytest.MonkeyPatch) -> None:
    real = run.non_max_suppression

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return [type(found)(*(part[:-1] for part in found)) for found in real(*args, **kwargs)]

    patch.setattr(run, "non_max_suppression", wrong)


def _nms_of_another_order(patch: pytest.MonkeyPatch) -> None:
    real = run.non_max_suppression
    swap = [1, 0, *range(2, 100)]
    patch.setattr(
        run,
        "non_max_suppression",
        lambda *a, **k: [type(f)(*(p[swap[: len(p)]] for p in f)) for f in real(*a, **k)],
    )


def _wrong_decode(patch: pytest.MonkeyPatch) -> None:
    real = run.decode
    patch.setattr(run, "decode", lambda branch: type(d := real(branch))(d.boxes + 0.5, d.scores))


def _wrong_loss(patch: pytest.MonkeyPatch) -> None:
    real = DetectionLoss.assign
    patch.setattr(
        DetectionLoss, "assign", lambda self, *a: type(f := real(self, *a))(**{**vars(f), "score": f.score * 0.99})
    )


FAULTS: dict[str, tuple[Fault, str, str]] = {
    "a wrong channel of every convolution": (in_output(nn.Conv2d, _one_channel), "forward", "layer 0 (Conv), output 0"),
    "one wrong number": (in_output(nn.BatchNorm2d, _one_number), "forward", "layer 0 (Conv)"),
    "a wrong kernel of stride 2": (in_output(nn.Conv2d, _only_strided), "forward", "layer 0 (Conv)"),
    "a wrong grouped kernel": (in_output(nn.Conv2d, _only_grouped), "forward", "MultiheadDetection"),
    "wrong pooling": (in_output(Pool, lambda _, out: out.flip(-1)), "forward", "layer 1 (Pool)"),
    "NaN forwards": (in_output(nn.SiLU, lambda _, out: out * math.nan), "forward", "NaN or infinite"),
    "NaN backwards": (in_output(nn.Conv2d, lambda _, out: _NoGradient.apply(out)), "backward", "NaN or infinite"),
    "a wrong gradient": (in_output(UpSample, lambda _, out: _HalfGradient.apply(out)), "backward", "of input 0"),
    "no kernel": (in_output(nn.Conv2d, _refuse), "forward", "RuntimeError: no kernel image is available"),
    "a detection less": (_wrong_nms, "nms", "detections, of which 1 are wrong or missing"),
    "detections in another order": (_nms_of_another_order, "nms", "of which 0 are wrong"),
    "boxes half a pixel off": (_wrong_decode, "decode", "boxes: largest difference 0.5"),
    "a loss that is one per cent off": (_wrong_loss, "loss", "loss: largest difference"),
}  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name: str, precision: str, broken: Callable[[Fault], None]) -> None:
    fault, part, text = FAULTS[name]
    broken(fault)
    result = self_test("cpu", precision)
    assert not result.passed
    assert result.failures[0].part == part
    assert text in str(result.failures[0])
    assert f"cpu ({result.name}) in {precision} does not compute what the CPU computes: {part} of " in str(result)
    assert ("--trainer.precision 32-true" in str(result)) is (precision != "32-true")
    assert "\n" not in str(result)


def test_other_parts_are_tested_all_the_same(broken: Callable[[Fault], None]) -> None:
    broken(in_output(nn.Conv2d, _refuse))
    result = self_test("cpu")
    assert {check.part for check in result.failures} == {"forward", "step"}
    assert {"loss", "decode", "nms"} <= {check.part for check in result.checks if check.passed}


@pytest.mark.parametrize(
    ("device", "wanted"), [("cuda:1", "driver"), ("mps", "PYTORCH_ENABLE_MPS_FALLBACK=1"), ("cpu", "another version")]
)
def test_advice_fits_the_device(device: str, wanted: str) -> None:
    assert wanted in SelfTest(device, "x", "32-true", False, (), 0.0).advice()
    assert "--model.channels_last false" in SelfTest(device, "x", "32-true", True, (), 0.0).advice()


def test_random_state_modes_and_flags_stay_what_they_are() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_default_dtype()
    run.reference.cache_clear()
    for context in (nullcontext(), torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            assert self_test("cpu").passed
    assert torch.equal(torch.get_rng_state(), state)
    assert flags == (
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_default_dtype()
    )  # fmt: skip


def test_the_network_is_the_same_whatever_the_seed() -> None:
    wanted = run.reference().layers[0].outputs[0]
    run.reference.cache_clear()
    torch.manual_seed(99)
    assert torch.equal(run.reference().layers[0].outputs[0], wanted)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="knows the precisions 32-true, 16-mixed, bf16-mixed, not '8'"):
        self_test("cpu", "8")


def test_a_pass_is_remembered_for_that_device_precision_layout_and_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Fault], None]
) -> None:
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    assert not is_known("cpu", "bf16-mixed")
    remember(self_test("cpu", "bf16-mixed"))
    assert is_known("cpu", "bf16-mixed")
    assert not is_known("cpu", "32-true")
    assert not is_known("cpu", "bf16-mixed", channels_last=True)
    (file,) = (tmp_path / "home" / "self-test").iterdir()
    assert json.loads(file.read_text())["precision"] == "bf16-mixed"
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert not is_known("cpu", "bf16-mixed")
    monkeypatch.undo()
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    file.write_text("{")
    assert not is_known("cpu", "bf16-mixed")
    broken(_wrong_nms)
    remember(self_test("cpu", "32-true"))
    assert not is_known("cpu", "32-true")


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "file"))
    remember(self_test("cpu"))
    assert not is_known("cpu", "32-true")


def test_a_card_is_told_from_another_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        uuid = "a"

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card 9000")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(known, "driver", lambda: "600.1")
    first = known.facts(torch.device("cuda:0"), "32-true", channels_last=False)
    assert first["device"] == "cuda Card 9000"
    assert first["driver"] == "600.1"
    Card.uuid = "b"
    assert known.facts(torch.device("cuda:0"), "32-true", channels_last=False) != first
