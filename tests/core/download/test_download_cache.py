"""The cache folder: hashes, files put there by hand, mirrors, and folders that cannot be written."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.core.fetch import process_lock
from yolo.core.home import yolo_home
from yolo.core.weights import download
from yolo.core.weights.download import DownloadError, fetch_weights, weights_path
from yolo.core.weights.published import published

FILE = "yolov9-t-converted.pt"


def refusal(**options) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch_weights("v9-t", **{"timeout": 1.0, "attempts": 1, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(cache: Path, content: bytes) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / FILE).write_bytes(content)
    return cache / FILE


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLO_HOME", "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert yolo_home() == tmp_path / "somewhere"
    monkeypatch.setenv("YOLO_HOME", "")
    assert yolo_home() == tmp_path / ".cache" / "yolo"
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: exec("raise RuntimeError('no home')")))
    with pytest.raises(YoloError, match="set YOLO_HOME"):
        yolo_home()


def test_offline_says_where_to_put_the_file_and_then_uses_it(closed_port, replies, cache):
    message = refusal(mirror=closed_port, attempts=2)
    assert "no connection to 127.0.0.1" in message and "refused" in message and "after 2 attempts" in message
    assert str(cache / FILE) in message and f"{closed_port}/{FILE}" in message
    assert weights_path("v9-t") == cache / FILE
    path = put(cache, replies.content)
    assert fetch_weights("v9-t", mirror=closed_port) == path
    digest = hashlib.sha256(replies.content).hexdigest()
    assert (cache / f"{FILE}.sha256").read_text() == f"{digest}  {FILE}\n"


def test_the_record_is_what_sha256sum_reads(replies, cache):
    put(cache, replies.content)
    fetch_weights("v9-t")
    try:
        subprocess.run(["sha256sum", "--check", f"{FILE}.sha256"], cwd=cache, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("this machine has no sha256sum")


def test_a_file_that_changed_since_is_refused(replies, cache):
    put(cache, replies.content)
    fetch_weights("v9-t")
    other = replies.content[:-1] + b"?"
    put(cache, other)
    message = refusal()
    for content in (replies.content, other):
        assert hashlib.sha256(content).hexdigest() in message
    assert f"{FILE}.sha256" in message and (cache / FILE).exists()
    (cache / f"{FILE}.sha256").unlink()
    assert fetch_weights("v9-t") == cache / FILE


def test_a_file_by_hand_is_checked_against_the_published_hash(replies, cache, expect_hash):
    expect_hash("0" * 64)
    put(cache, replies.content)
    assert f"{'0' * 64} is expected of the published file" in refusal()
    expect_hash(hashlib.sha256(replies.content).hexdigest())
    assert fetch_weights("v9-t") == cache / FILE
    assert not (cache / f"{FILE}.sha256").exists()


@pytest.mark.parametrize("content", [b"", b" <html>", b"PK\x03\x04 and no end", b'{"error": "nope"}', b"Not found"])
def test_a_file_by_hand_that_is_none_is_refused(cache, content):
    put(cache, content)
    assert "is no file of weights" in refusal()


def test_a_fetched_file_with_a_wrong_hash_is_deleted(loopback, replies, cache, expect_hash):
    expect_hash("ab" * 32)
    loopback.replies = [replies.send()]
    message = refusal(mirror=loopback.url)
    assert hashlib.sha256(replies.content).hexdigest() in message and "ab" * 32 in message
    assert not [path.name for path in cache.iterdir() if not path.name.startswith(".")]


def test_a_file_that_is_fetched_again_must_be_the_one_that_it_was(loopback, replies, cache):
    loopback.replies = [replies.send(), replies.send(replies.content[:-1], etag='"two"')]
    fetch_weights("v9-t", mirror=loopback.url).unlink()
    message = refusal(mirror=loopback.url)
    assert hashlib.sha256(replies.content).hexdigest() in message and f"{FILE}.sha256" in message
    assert not (cache / FILE).exists()


@pytest.mark.parametrize("text", ["", "not a hash", "12 34"])
def test_a_damaged_record_is_named(replies, cache, text):
    put(cache, replies.content)
    (cache / f"{FILE}.sha256").write_text(text)
    assert f"{FILE}.sha256" in refusal()


def test_mirror_by_argument_and_by_environment(loopback, replies, cache, monkeypatch, closed_port):
    loopback.replies = [replies.send()]
    monkeypatch.setenv("YOLO_WEIGHTS_MIRROR", f"{loopback.url}/some/folder/")
    fetch_weights("v9-t").unlink()
    monkeypatch.setenv("YOLO_WEIGHTS_MIRROR", closed_port)
    fetch_weights("v9-t", mirror=f"{loopback.url}/other")
    assert [request["path"] for request in loopback.requests] == [f"/some/folder/{FILE}", f"/other/{FILE}"]


BAD = ["file:///etc", "ftp://host/x", "host/folder", "http://", "http://host:port/", "https://host/?x=1", "http://a b/"]


@pytest.mark.parametrize("base", [*BAD, "http://[::1", "http://host/\nx"])
def test_a_mirror_that_is_no_address(cache, monkeypatch, base):
    with pytest.raises(UsageError, match=r"mirror: .* is no base address"):
        fetch_weights("v9-t", mirror=base)
    monkeypatch.setenv("YOLO_WEIGHTS_MIRROR", base)
    with pytest.raises(UsageError, match="YOLO_WEIGHTS_MIRROR: "):
        fetch_weights("v9-t")
    assert not cache.exists()


def test_a_password_is_not_repeated(cache):
    with pytest.raises(UsageError) as caught:
        fetch_weights("v9-t", mirror="https://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_unknown_names(cache):
    with pytest.raises(UsageError, match="Did you mean 'v9-"):
        fetch_weights("v9-cc")
    with pytest.raises(UsageError, match="file of weights"):
        weights_path("../../etc/passwd")
    for options in ({"timeout": 0}, {"timeout": float("nan")}, {"attempts": 0}):
        with pytest.raises(UsageError, match="attempts="):
            fetch_weights("v9-t", **options)


def test_weights_without_an_address(loopback, replies, cache):
    with pytest.raises(DownloadError, match=r"no address is known .*rd-9c\.pt"):
        fetch_weights("rd-9c")
    loopback.replies = [replies.send()]
    assert fetch_weights("rd-9c", mirror=loopback.url).name == "rd-9c.pt"


@pytest.mark.parametrize("file", ["../evil.pt", "/tmp/evil.pt", "a/b.pt", "..", ".hidden", "", "a\\b.pt", "a\n.pt"])
def test_a_hostile_file_name_does_not_leave_the_folder(cache, monkeypatch, file):
    monkeypatch.setattr(download, "published", lambda name: replace(published(name), file=file))
    assert "refused as the file name" in refusal()
    assert not cache.parent.exists()


def test_a_home_that_is_a_file(cache, loopback, replies):
    cache.parent.parent.joinpath("home").write_text("")
    assert "set YOLO_HOME" in refusal(mirror=loopback.url)
    assert loopback.requests == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no mode on Windows")
@pytest.mark.parametrize(("mode", "parts"), [(0o555, ()), (0o000, ("a", "b"))])
def test_a_folder_that_may_not_be_written_or_entered(loopback, cache, monkeypatch, mode, parts):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("YOLO_HOME", str(Path(folder, *parts)))
        Path(folder).chmod(mode)
        user = os.geteuid()
        try:
            if user == 0:  # modes do not bind root
                os.seteuid(65534)
            message = refusal(mirror=loopback.url)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)
    assert "Permission denied" in message and "set YOLO_HOME" in message and folder in message
    assert loopback.requests == []


@pytest.mark.parametrize("at", ["yolo.core.fetch.transfer.write_atomically", "pathlib.Path.replace"])
def test_a_disk_that_cannot_be_written(loopback, replies, cache, monkeypatch, at):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loopback.replies = [replies.send()]
    monkeypatch.setattr(at, full)
    message = refusal(mirror=loopback.url)
    assert "No space left" in message and str(cache) in message and not (cache / FILE).exists()


def test_a_read_only_folder_with_the_file_in_it_is_enough(replies, cache, monkeypatch):
    def read_only(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("yolo.core.weights.trust.write_atomically", read_only)
    put(cache, replies.content)
    assert fetch_weights("v9-t") == cache / FILE
    assert not (cache / f"{FILE}.sha256").exists()


def test_another_process_that_does_not_get_on(loopback, cache):
    cache.mkdir(parents=True)
    with process_lock(cache / f".{FILE}.lock", wait=1, sign_of_life=lambda: 0):
        assert "another process" in refusal(mirror=loopback.url, timeout=0.1)
    assert loopback.requests == []


def test_the_licence_is_logged(replies, cache, caplog):
    put(cache, replies.content)
    with caplog.at_level(logging.INFO, logger="yolo.core"):
        fetch_weights("v9-t")
    assert "licence GPL-3.0" in caplog.text
