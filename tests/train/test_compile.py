"""A compiled network trains like any other, and its files know nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from availability import cannot_run
from yolo.core import load_model
from yolo.core.errors import UsageError
from yolo.core.models import Network, build_model
from yolo.training.compiling import CompiledNetwork, compiled
from yolo.training.trainer_cli import make_cli

ShortTraining = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trace and differentiate as ever, but let torch run the graphs: seconds instead of minutes. One entry a graph."""
    from torch._dynamo.backends.registry import lookup_backend

    real, found = torch.compile, []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(len(inputs))
        return lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, backend=backend, **options))
    return found


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing can be compiled."""
    real = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, backend=backend, **options))


@pytest.fixture(scope="module")
def short_training(short_training: ShortTraining) -> ShortTraining:
    return partial(short_training, **{"data.batch_size": 3, "model.compile": "true", "trainer.limit_val_batches": 1.0})


class Watch(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.losses.append(float(loss.detach()))


def fit(args: list[str], ckpt: Path | None = None) -> tuple[Any, Watch]:
    cli, watch = make_cli(args), Watch()
    cli.trainer.callbacks.append(watch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=None if ckpt is None else str(ckpt))
    return cli, watch


def last(root: Path) -> Path:
    return root / "yolo" / "version_0" / "checkpoints" / "last.ckpt"


def test_it_is_off_by_default() -> None:
    network = build_model("gelan-t", 2)
    assert compiled(network, False) is None
    assert isinstance(compiled(network, True), CompiledNetwork)


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises((UsageError, SystemExit)):
        make_cli(["--model.compile=faster", "--trainer.logger=false"])
    assert make_cli(["--model.compile=max-autotune", "--trainer.logger=false"]).model.config.compile == "max-autotune"


def test_a_run_learns_the_same_and_resumes_either_way(
    short_training: ShortTraining, small_network: Path, tmp_path: Path, graphs: list[int]
) -> None:
    """With validation at another size than training, batches of three and two images, averages and checkpoints."""
    cli, watch = fit(short_training(small_network, tmp_path / "a"))
    assert graphs, "nothing was compiled"
    plain, wanted = fit(short_training(small_network, tmp_path / "b", **{"model.compile": "false"}))
    assert len(watch.losses) == 3
    assert watch.losses == pytest.approx(wanted.losses, rel=1e-4)
    for one, other in ((cli.model.model.state_dict(), plain.model.model.state_dict()),
                       (cli.model.averaged_state(), plain.model.averaged_state())):  # fmt: skip
        assert list(one) == list(other)
        for name, value in other.items():
            torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-4)
    assert not [name for name in cli.model.state_dict() if "_orig_mod" in name]
    stored = torch.load(last(tmp_path / "a"), weights_only=True)
    assert list(stored["state_dict"]) == list(torch.load(last(tmp_path / "b"), weights_only=True)["state_dict"])
    assert isinstance(load_model(last(tmp_path / "a")), Network)
    for start, setting in (("a", "false"), ("b", "true")):
        more = {"model.compile": setting, "trainer.max_epochs": 2}
        resumed, after = fit(short_training(small_network, tmp_path / f"{start}2", **more), last(tmp_path / start))
        assert resumed.trainer.global_step == 6
        assert len(after.losses) == 3


def test_a_branch_that_fades_and_layers_that_are_released_are_compiled_anew(
    short_training: ShortTraining, small_network: Path, tmp_path: Path, graphs: list[int]
) -> None:
    layers = tmp_path / "two-branches.yaml"
    layers.write_text(small_network.read_text() + "auxiliary:\n  - MultiheadDetection: {source: [B3, B4], tags: AUX}\n")
    more = {"trainer.max_epochs": 2, "data.batch_size": 4, "model.aux_anneal_epochs": 1, "model.freeze_until_epoch": 1}
    more |= {"model.freeze_layers": "0-1", "trainer.limit_val_batches": 0, "trainer.limit_train_batches": 1}
    losses = [
        fit(short_training(layers, tmp_path / setting, **more, **{"model.compile": setting}))[1].losses
        for setting in ("true", "false")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(graphs) >= 2


@pytest.mark.usefixtures("broken")
def test_without_a_compiler_the_run_goes_on_and_says_so_once(
    short_training: ShortTraining, small_network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, watch = fit(short_training(small_network, tmp_path / "a"))
    _, wanted = fit(short_training(small_network, tmp_path / "b", **{"model.compile": "false"}))
    assert watch.losses == wanted.losses
    found = [record.getMessage() for record in caplog.records if "model.compile" in record.getMessage()]
    assert len(found) == 1
    assert "No working C++ compiler found. The network runs without being compiled." in found[0]


def test_what_the_network_itself_fails_with_is_not_hidden(graphs: list[int]) -> None:
    network = build_model("gelan-t", 2).train()
    with pytest.raises(UsageError, match="multiple"):
        CompiledNetwork(network)(torch.rand(1, 3, 65, 64))


@pytest.mark.slow
def test_with_a_compiler(small_network: Path, tmp_path: Path) -> None:
    """The real thing, in a process of its own: forwards, backwards, and the warning where there is no compiler."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
        cannot_run("there is no C++ compiler")
    code = (
        "import sys, torch, logging; logging.basicConfig()\n"
        "from yolo.core.models import build_model\n"
        "from yolo.training.compiling import CompiledNetwork\n"
        "network = build_model(sys.argv[1], 2).train(); images = torch.rand(2, 3, 64, 64)\n"
        "run = CompiledNetwork(network)\n"
        "found, wanted = run(images).main.cls[0], network(images).main.cls[0]\n"
        "torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)\n"
        "found.sum().backward()\n"
        "assert network.get_parameter('0.conv.weight').grad is not None\n"
        "print('compiled' if run._run else 'not compiled')\n"
    )

    def run(**env: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), **env}
        command = [sys.executable, "-c", code, str(small_network)]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900, check=True)

    assert run().stdout == "compiled\n"
    shutil.rmtree(tmp_path / "cache")
    without = run(CXX=str(tmp_path / "no-such-compiler"))
    assert without.stdout == "not compiled\n"
    assert "The network runs without being compiled." in without.stderr
