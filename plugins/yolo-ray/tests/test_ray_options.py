"""What `yolo ray fit` does before it needs Ray: these run where Ray is not installed."""

from __future__ import annotations

import builtins
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import reset_manager
from yolo.core.testing import PluginConformance, fake_distribution
from yolo.training.processes import OtherProcessError
from yolo_ray.command import ray_group
from yolo_ray.launch import _told, launch
from yolo_ray.options import RayOptions, check

PROJECT = Path(__file__).parents[1]


class TestConformance(PluginConformance):
    """The record of the plugin."""

    @pytest.fixture
    def plugin(self) -> str:
        return "yolo_ray.plugin"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RayOptions, list[str]]]:
    """What the command hands to the launcher, instead of launching."""
    calls: list[tuple[RayOptions, list[str]]] = []
    monkeypatch.setattr("yolo_ray.launch.launch", lambda options, args: calls.append((options, list(args))))
    return calls


def _fit(*args: str) -> Any:
    return CliRunner().invoke(ray_group, ["fit", *args], catch_exceptions=False)


def test_options_of_fit_pass_through_untouched(launched: list[tuple[RayOptions, list[str]]]) -> None:
    mine = ["--num-workers", "2", "--storage=s3://bucket/x", "--max-failures", "1"]
    before = ["--config", "run.yaml", "--trainer.max_epochs=3"]
    after = [
        "--model.freeze_layers",
        '["stem", 3]',
        "--data.augmentations+={use: rain, p: 0.5}",
        "--ema.tau",
        "-1",
        "-c",
    ]
    result = _fit(*before, *mine, *after, "--", "--storage", "x", "--help")
    assert result.exit_code == 0, result.output
    (options, args), *more = launched
    assert not more
    assert args == [*before, *after, "--storage", "x", "--help"]
    assert options == RayOptions(num_workers=2, storage="s3://bucket/x", max_failures=1)
    assert options.storage_path == "s3://bucket/x"


def test_gpus_are_asked_for(launched: list[tuple[RayOptions, list[str]]]) -> None:
    _fit("--num-workers", "2", "--use-gpu", "--address", "auto", "--cpus-per-worker", "4")
    _fit("--num-workers", "2", "--gpus-per-worker", "2")
    assert [(options.address, options.cpus_per_worker, options.gpus_per_worker) for options, _ in launched] == [
        ("auto", 4, 1),
        ("local", 1, 0),
    ]


def test_the_folder_of_ray_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert RayOptions(num_workers=1).storage_path == str(tmp_path / "runs/ray")
    assert RayOptions(num_workers=1, storage="x").storage_path == str(tmp_path / "x")


@pytest.mark.parametrize("wrong", [["--num-workers", "0"], ["--num-workers", "two"], []])
def test_wrong_options_of_ray(wrong: list[str], launched: list[tuple[RayOptions, list[str]]]) -> None:
    result = _fit(*wrong)
    assert result.exit_code == 2
    assert "--num-workers" in result.output
    assert not launched


@pytest.mark.parametrize(
    ("options", "args", "said"),
    [
        ({}, ["--trainer.devices=2"], "--num-workers"),
        ({}, ["--dry-run"], "yolo fit --dry-run"),
        ({}, ["--trainer.num_nodes=2"], "--num-workers"),
        ({}, ["--trainer.strategy=fsdp"], "ddp_find_unused_parameters_true"),
        ({}, ["--trainer.accelerator=gpu"], "--use-gpu"),
        ({"address": "auto", "gpus_per_worker": 1}, ["--trainer.accelerator=cpu"], "leave --use-gpu out"),
        ({"gpus_per_worker": 1000}, [], "2000 GPUs, and this machine has"),
        ({"address": "ray://head:10001"}, [], "--address auto"),
        ({}, ["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
        ({}, ["--model.learning_rate=-1"], "learning_rate"),
        ({}, ["--trainer.callbacks.0.patience=3"], "by name"),
    ],
)
def test_mistakes_are_told_before_ray_is_needed(options: dict[str, Any], args: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(RayOptions(num_workers=2, **options), args)


@pytest.mark.parametrize("form", ["--data.encryption_key={}", "--data={{encryption_key: {}}}"])
def test_a_key_does_not_travel_through_ray(form: str) -> None:
    key = "0123456789abcdef" * 4
    with pytest.raises(UsageError, match="YOLO_ENCRYPTION_KEY") as caught:
        check(RayOptions(num_workers=2), [form.format(key)])
    assert key not in str(caught.value)


def test_good_options_pass(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("trainer: {devices: auto, strategy: ddp, max_epochs: 3}\nmodel: {model_config: v9-s}\n")
    check(RayOptions(num_workers=2), ["--config", str(config), "--trainer.accelerator", "cpu"])


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray" or name.startswith("ray."):
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(YoloError, match=r"Ray is not installed here .*pip install 'ray\[train\]'"):
        launch(RayOptions(num_workers=2), [])


class _FailedError(Exception):
    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors:\n...")
        self.worker_failures = failures


def test_of_several_failures_the_telling_one_is_told() -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    cause = ValueError("boxes are upside down\nsecond line")
    told = str(_told(_FailedError({0: lost, 1: cause})))
    assert told.startswith("worker 1 failed: ValueError: boxes are upside down (")
    assert "\n" not in told
    left = OtherProcessError("worker 0 on node: process 0 of 2 lost the connection to another one")
    assert "boxes" in str(_told(_FailedError({0: left, 1: cause})))
    ours = UsageError("worker 2 on node: there is no x")
    assert _told(_FailedError({0: left, 1: lost, 2: ours})) is ours
    assert str(_told(RuntimeError("first\nsecond"))) == "Ray gave up: first"


def test_yolo_finds_the_command(tmp_path: Path) -> None:
    """In a process of its own, with the entry point that the distribution declares and no Ray imported."""
    code = (
        "import sys; from yolo.cli.main import main; code = main(['ray', 'fit', '--help']); "
        "sys.exit(code or int('ray' in sys.modules or 'torch' in sys.modules))"
    )
    if importlib.util.find_spec("ray") is None:  # then yolo-ray is not installed either
        declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["yolo.plugins"]
        fake_distribution(tmp_path, "yolo-ray", plugins=declared)
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(PROJECT / 'src')!r}]; {code}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "--num-workers" in run.stdout


@pytest.fixture(autouse=True)
def fresh_plugins() -> Iterator[None]:
    """Leave nothing of a test in the list of plugins."""
    yield
    reset_manager()
