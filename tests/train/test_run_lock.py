"""``run.lock.json``: what a run was made of, and what it came to; without anything secret."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback

from availability import tool
from yolo.core.models import build_model
from yolo.training import run_facts, run_lock
from yolo.training.callbacks.interrupt import Stopped
from yolo.training.module import YOLOModule
from yolo.training.run_facts import git_facts, hash_of_network, shown_arguments, shown_settings
from yolo.training.run_lock import FILE, RunLock, differences, read_lock, told
from yolo.training.trainer_cli import make_cli, run_fit

KEY = "0123456789abcdef" * 4


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "model.warmup_epochs": 0, "trainer.max_epochs": 1, "trainer.accelerator": "cpu",
        "trainer.limit_train_batches": 1, "trainer.limit_val_batches": 1, "trainer.num_sanity_val_steps": 0,
        "record.images": 0, "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


def lock_of(root: Path, version: int = 0) -> dict:
    return json.loads((root / "yolo" / f"version_{version}" / FILE).read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "start.pt"
    torch.save(build_model("v9-t", 4).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(tiny_data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("locked")
    more = {"model.weight_path": weights, "seed_everything": 7, "data.encryption_key": KEY}
    assert run_fit(options(tiny_data, root, **more)) == 0
    return root


def test_what_a_run_was_made_of(run: Path, tiny_data: Path, weights: Path) -> None:
    lock = lock_of(run)
    assert lock["seed"] == 7
    assert lock["settings"]["model"]["model_config"] == "v9-t"
    assert lock["settings"] == yaml.safe_load((run / "yolo" / "version_0" / "config.yaml").read_text())
    assert lock["versions"]["torch"] == torch.__version__
    assert {"python", "lightning", "numpy", "opencv", "cuda", "cudnn", "yolo-core", "yolo-train"} <= lock[
        "versions"
    ].keys()
    assert lock["hardware"]["device"] == "cpu" and lock["hardware"]["cores"] >= 1 and lock["hardware"]["cpu"]
    assert lock["data"]["train"] == {**lock["data"]["train"], "images": 8, "classes": 4}
    assert lock["data"]["val"]["images"] == 4
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert lock["weights"]["file"] == {"path": str(weights), "bytes": weights.stat().st_size, "sha256": digest}
    assert lock["command"][:2] == ["yolo", "fit"] and f"--data.root={tiny_data}" in lock["command"]


def test_what_it_came_to(run: Path) -> None:
    ended = lock_of(run)["ended"]
    assert (ended["reason"], ended["epochs"], ended["steps"]) == ("max_epochs", 1, 1)
    assert ended["best"]["metric"] == "val/mAP"
    assert (run / "yolo" / "version_0" / ended["best"]["checkpoint"]).is_file()
    assert lock_of(run)["started"] <= ended["time"]


def test_no_key_is_in_it(run: Path) -> None:
    text = (run / "yolo" / "version_0" / FILE).read_text()
    assert KEY not in text and KEY[:20] not in text
    assert "--data.encryption_key=<hidden>" in lock_of(run)["command"]


def test_the_file_is_there_before_the_first_step_and_only_from_the_first_process(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict | None] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            seen.append(read_lock(tmp_path / "yolo" / "version_0" / FILE))
            assert hash_of_network(pl_module.model) == seen[0]["weights"]["sha256"]

    cli = make_cli(options(tiny_data, tmp_path))
    cli.trainer.callbacks.append(Watch())
    writer = next(callback for callback in cli.trainer.callbacks if isinstance(callback, RunLock))
    begin, states = writer.on_train_start, []

    def watched(trainer, module: YOLOModule) -> None:
        states.append(torch.get_rng_state())
        begin(trainer, module)
        states.append(torch.get_rng_state())

    monkeypatch.setattr(writer, "on_train_start", watched)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert torch.equal(*states), "the random state is left alone"
    assert seen[0] is not None and seen[0]["ended"] is None

    lock = RunLock("{}", [])
    monkeypatch.setattr(run_lock, "writes_files", lambda trainer: False)
    monkeypatch.setattr(lock, "_facts", lambda *_: pytest.fail("another process wrote"))
    lock.on_train_start(cli.trainer, cli.model)
    lock.on_fit_end(cli.trainer, cli.model)


def test_an_error_is_told_by_its_kind(tiny_data: Path, tmp_path: Path) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            raise RuntimeError(f"the key is {KEY}")

    cli = make_cli(options(tiny_data, tmp_path))
    cli.trainer.callbacks.append(Fail())
    with pytest.raises(RuntimeError):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert lock_of(tmp_path)["ended"]["reason"] == "error: RuntimeError"
    assert lock_of(tmp_path)["ended"]["steps"] == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Stopped(143, "SIGTERM"), "stopped by SIGTERM"),
        (Stopped(0, "trainer.max_time"), "stopped by trainer.max_time"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(KEY), "interrupted"),
        (ValueError(KEY), "error: ValueError"),
    ],
)
def test_what_stopped_it(error: BaseException, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, told = RunLock("{}", []), []
    monkeypatch.setattr(lock, "_end", lambda trainer, text: told.append(text))
    lock.on_exception(None, None, error)  # type: ignore[arg-type]  # which are not asked
    assert told == [reason]


def test_a_resume_tells_what_is_different_and_is_kept(
    run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run, tmp_path / "runs")
    first = lock_of(run)
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    labels = data / "annotations" / "instances_train.json"
    content = json.loads(labels.read_text())
    content["annotations"].pop()
    labels.write_text(json.dumps(content))
    real = run_facts.software
    monkeypatch.setattr(run_lock, "software", lambda: {**real(), "torch": "9.9"})
    last = tmp_path / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    more = {
        "seed_everything": 7,
        "trainer.max_epochs": 2,
        "data.root": data,
        "model.weight_path": first["weights"]["file"]["path"],
    }
    with caplog.at_level(logging.INFO, "yolo"):
        assert run_fit([*options(data, tmp_path / "runs", **more), f"--ckpt_path={last}"]) == 0
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Resumed with other")]
    assert "\n" not in line
    for part in (f"torch {torch.__version__} -> 9.9", "train.boxes", "trainer.max_epochs 1 -> 2"):
        assert part in line
    lock = lock_of(tmp_path / "runs")
    assert {**lock, "resumes": [], "ended": None} == {**first, "ended": None}, "what the run began with stays"
    (resume,) = lock["resumes"]
    assert (resume["epoch"], resume["step"], resume["after"]) == (1, 1, first["ended"])
    assert resume["checkpoint"]["path"] == str(last)
    assert resume["differences"]["versions.torch"] == [torch.__version__, "9.9"]
    assert (lock["ended"]["reason"], lock["ended"]["epochs"], lock["ended"]["steps"]) == ("max_epochs", 2, 2)


def test_differences_of_nothing_and_of_much() -> None:
    lock = {"settings": {"a": 1, "ckpt_path": None}, "versions": {"torch": "1"}, "git": None, "started": "now"}
    assert differences(lock, {**lock, "started": "later", "settings": {"a": 1, "ckpt_path": "x"}}) == {}
    assert differences(lock, {**lock, "git": {"commit": "c", "changed": True}})["git.commit"] == [None, "c"]
    many = {f"settings.k{i}": [i, None] for i in range(9)}
    assert told({"versions.torch": ["1", "2"], **many}) == (
        "versions: torch 1 -> 2; settings: k0 0 -> none, k1 1 -> none, k2 2 -> none, k3 3 -> none, 5 more"
    )


def test_secrets_of_a_command_line_and_of_settings() -> None:
    arguments = [
        f"--data.encryption_key={KEY}", "--trainer.logger.init_args.api_key", "s3cret",
        "--data.encryption_key", "s3cret", f"--data={{root: x, encryption_key: {KEY}}}",
        "--x={password: s3cret, b: 1}", "--y=http://me:s3cret@host/a",
        "--z={token='s3cret'}", "--data.root", "keys", f"--w=a{KEY}b", "--early_stopping.monitor=val/mAP",
    ]  # fmt: skip
    shown = shown_arguments(arguments)
    assert KEY not in " ".join(shown) and "s3cret" not in " ".join(shown)
    assert shown[-4:-2] == ["--data.root", "keys"] and shown[-1] == arguments[-1]
    assert len(shown) == len(arguments)
    settings = {"logger": [{"init_args": {"api_key": "s3cret", "uri": "http://me:s3cret@host"}}], "keys": [1], "a": "b"}
    hidden = shown_settings(settings)
    assert "s3cret" not in json.dumps(hidden) and hidden["keys"] == [1] and hidden["a"] == "b"


def test_the_hash_of_a_network_sees_values_and_names_but_no_layout() -> None:
    network = build_model("v9-t", 4)
    first = hash_of_network(network)
    assert len(first) == 64
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    assert hash_of_network(network) == first
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] += 1e-3
    assert hash_of_network(network) != first


def test_the_commit_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_facts(tmp_path) is None, "no repository"
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git = [tool("git"), "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "x"]):
        (tmp_path / "file").write_text("1")
        subprocess.run([*git, *words], check=True, timeout=20)
    facts = git_facts(tmp_path)
    assert facts is not None and len(facts["commit"]) >= 40 and facts["changed"] is False
    (tmp_path / "file").write_text("2")
    assert git_facts(tmp_path) == {**facts, "changed": True}
    monkeypatch.setattr(run_facts.shutil, "which", lambda name: None)
    assert git_facts(tmp_path) is None


def test_a_damaged_lock_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"format": 99}'):
        (tmp_path / FILE).write_text(text)
        assert read_lock(tmp_path / FILE) is None
    assert read_lock(tmp_path / "nowhere") is None
