"""The commands for caches, as they are typed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import registry
from yolo.data.cache.readers import close_all, database_file
from yolo.data.cache.store import CacheStore, read_head
from yolo.data.cache.writer import Writer
from yolo.data.commands.cache_options import NEW_KEY
from yolo.data.encryption import VARIABLE, keys

SECRET, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
COMMANDS = ["cache-create", "cache-export", "cache-import", "cache-info", "cache-rekey", "cache-verify"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [VARIABLE, NEW_KEY, *(name for name in os.environ if name.startswith(f"{VARIABLE}_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(keys, "_known", {})


@pytest.fixture
def root(synthetic_data: Path, tmp_path: Path) -> Path:
    """A data set of one's own."""
    return Path(shutil.copytree(synthetic_data, tmp_path / "data"))


def run(name: str, *arguments: object) -> Result:
    command = registry("commands").load(name)
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def create(root: Path, *more: object) -> Path:
    done = run("cache-create", "--data.root", root, "--data.format", "yolo", "--size", 96, *more)
    assert done.exit_code == 0, done.output
    return root / ".yolo_cache_96x96_f1.0"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_no_option_for_a_key(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert "key" not in [word.lstrip("-") for word in done.output.split() if word.startswith("--")]


def test_create_then_say_that_there_is_nothing_to_do(root: Path) -> None:
    done = run("cache-create", "--data.root", root, "--data.format", "yolo", "--size", 96)
    folder = root / ".yolo_cache_96x96_f1.0"
    assert f"Written: {folder}: 24 images (train 16, val 8)" in done.output
    before = database_file(folder).stat()
    again = run("cache-create", f"--data.root={root}", "--data.format=yolo", "--size=96")
    assert "Nothing to do" in again.output
    after = database_file(folder).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    anew = run("cache-create", "--data.root", root, "--data.format", "yolo", "--size", 96, "--data.cache_refresh=true")
    assert "Written" in anew.output
    assert database_file(folder).stat().st_ino != before.st_ino


def test_create_takes_size_and_everything_else_from_a_file(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model:\n  image_size: [96, 64]\ndata:\n  root: {root}\n  format: yolo\n"
        "  cache_format: raw\n  data_fraction: 0.5\n"
    )
    assert run("cache-create", "--config", config).exit_code == 0
    assert CacheStore.open(root / ".yolo_cache_96x64_f0.5", key=None).index.settings.picture_format == "raw"
    assert run("cache-create", "-c", config, "--size", 32, "--cache-format", "jpeg").exit_code == 0
    settings = CacheStore.open(root / ".yolo_cache_32x32_f0.5", key=None).index.settings
    assert (settings.picture_format, settings.size) == ("jpeg", (32, 32))


def test_create_with_every_option(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    monkeypatch.chdir(tmp_path)
    done = run(
        *("cache-create", "--data.root", root, "--data.format", "coco", "--no-resize", "--encrypt", "--cache-format"),
        *("jpeg", "--jpeg-quality", 80, "--workers", 2, "--split", "val", "--sync", "--output-dir", "elsewhere"),
    )
    assert "8 images (val 8)" in done.output
    assert "encrypted (key id" in done.output
    store = CacheStore.open(tmp_path / "elsewhere" / ".yolo_cache_orig_f1.0", key=keys.find_key())
    settings = store.index.settings
    assert (settings.dataset_format, settings.quality, settings.size) == ("coco", 80, None)
    assert list(store.index.splits) == ["val"]
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.root", "x", "--compress"], "--compress is gone.*--cache-format"),
        (["--data.root", "x", "--compress=lz4"], "--compress is gone.*--cache-format"),
        (["--data.root", "x", "--compress", "true"], "--compress is gone.*--cache-format"),
        (["--data.root", "x", "--size", "100"], "--size 100"),
        (["--data.root", "x", "--size", "96", "--no-resize"], "contradict"),
        (["--data.root", "x", "--key", SECRET], "--key: there is no such option"),
        (["--data.root", "x", "--data.cache_compress", "true"], "cache_format"),
        (["--data.root", "x", "--encrypt"], VARIABLE),
        (["--data.root", "x"], "x"),
        ([], "--config FILE"),
    ],
)
def test_create_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "x") if argument == "x" else argument for argument in arguments]
    with pytest.raises(YoloError, match=message):
        run("cache-create", *arguments)
    assert not list(tmp_path.iterdir())


def test_encrypted_images_are_not_cached_in_clear(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    with pytest.raises(UsageError, match="cache_encrypt"):
        create(root, "--data.image_loader", "encrypted")
    assert not list(root.glob(".yolo_cache*"))


def test_create_over_an_encrypted_cache_needs_a_word(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    folder = create(root, "--encrypt")
    with pytest.raises(YoloError, match="ENCRYPTION MISMATCH"):
        create(root)
    head = read_head(folder)
    assert head is not None
    assert head.encrypted
    create(root, "--data.cache_refresh", "true")
    head = read_head(folder)
    assert head is not None
    assert not head.encrypted


def test_info_is_the_documented_table(root: Path) -> None:
    folder = create(root)
    lines = run("cache-info", "--cache-dir", folder).output.splitlines()
    assert lines[0] == "Cache Information"
    assert set(lines[1]) == {"─"}
    shown = dict(line.strip().split(": ", 1) for line in lines[2:] if not line.startswith("─"))
    shown = {name: text.strip() for name, text in shown.items()}
    assert shown.pop("Path") == str(folder)
    assert shown.pop("On disk") == f"{database_file(folder).stat().st_size:,} bytes"
    assert shown == {
        "Version": "5.0.0",
        "Format": "yolo",
        "Images": "24",
        "Size": "96x96",
        "Cache Format": "jpeg (quality: 95)",
        "Encrypted": "No",
        "Labels": "24",
        "Train": "16 images",
        "Val": "8 images",
    }


def test_info_as_json(root: Path) -> None:
    folder = create(root)
    facts = json.loads(run("cache-info", "--cache-dir", folder, "--json").output)
    assert facts["splits"] == {"train": 16, "val": 8}
    assert facts["settings"]["size"] == [96, 96]
    assert (facts["images"], facts["encrypted"], facts["key_id"], facts["complete"]) == (24, False, None, True)
    assert facts["boxes"] > 24
    assert facts["classes"]


def test_info_without_the_key_shows_what_is_visible(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    folder = create(root, "--encrypt")
    assert "Yes (key id: " in run("cache-info", "--cache-dir", folder).output
    monkeypatch.delenv(VARIABLE)
    done = run("cache-info", "--cache-dir", folder)
    assert done.exit_code == 0
    assert f"set {VARIABLE}" in done.output
    assert "Images:      24" in done.output
    assert "Train" not in done.output
    assert json.loads(run("cache-info", "--cache-dir", folder, "--json").stdout)["splits"] is None
    monkeypatch.setenv(VARIABLE, OTHER)
    with pytest.raises(YoloError, match="WRONG KEY"):
        run("cache-info", "--cache-dir", folder)


def test_info_where_there_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no cache"):
        run("cache-info", "--cache-dir", tmp_path)
    (tmp_path / "x.partial").mkdir()
    with pytest.raises(YoloError, match="not complete"):
        run("cache-info", "--cache-dir", tmp_path / "x")


def test_info_of_a_cache_of_the_old_code(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer:
        writer.put_many([(b"__metadata__", pickle.dumps({"version": "4.0.0", "encrypted": True}))])
    done = run("cache-info", "--cache-dir", tmp_path)
    assert "Version:     4.0.0" in done.output
    assert "reads caches of version 5.0.0" in done.output
    assert "Encrypted" not in done.output


def test_the_whole_way_to_another_machine(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    folder = create(root, "--encrypt")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(tmp_path)
    done = run("cache-export", "--cache-dir", folder)
    assert "Written: yolo_cache_96x96_f1.0.tar.gz" in done.output
    assert "not encrypted" not in done.output
    with pytest.raises(UsageError, match="--force"):
        run("cache-export", "--cache-dir", folder)
    run("cache-export", "--cache-dir", folder, "--force")
    run("cache-export", "--cache-dir", folder, "-o", "plain.tar", "--compression", "none")
    shutil.rmtree(root)
    close_all()
    done = run("cache-import", "--archive", "plain.tar", "--output", "remote")
    assert "Unpacked: remote/.yolo_cache_96x96_f1.0, 24 images, encrypted (key id" in done.output
    run("cache-import", "--archive", "yolo_cache_96x96_f1.0.tar.gz")
    assert (tmp_path / ".yolo_cache_96x96_f1.0" / "cache.lmdb" / "data.mdb").is_file()
    monkeypatch.setenv(VARIABLE, SECRET)
    assert "damaged: 0" in run("cache-verify", "--cache-dir", "remote/.yolo_cache_96x96_f1.0").output


def test_exporting_a_cache_in_clear_says_so(root: Path, tmp_path: Path) -> None:
    done = run("cache-export", "--cache-dir", create(root), "-o", tmp_path / "a.tar.gz")
    assert "not encrypted" in done.output


def test_rekey_takes_its_keys_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    folder = create(root, "--encrypt")
    with pytest.raises(UsageError, match=f"{NEW_KEY} is not set"):
        run("cache-rekey", "--cache-dir", folder)
    monkeypatch.setenv(NEW_KEY, "short")
    with pytest.raises(UsageError, match=rf"{NEW_KEY}.*64"):
        run("cache-rekey", "--cache-dir", folder)
    monkeypatch.setenv(NEW_KEY, OTHER)
    done = run("cache-rekey", "--cache-dir", folder)
    assert keys.parse_key(OTHER, source="test").id in done.output
    assert OTHER not in done.output
    monkeypatch.setenv(VARIABLE, OTHER)
    assert "damaged: 0" in run("cache-verify", "--cache-dir", folder).output
