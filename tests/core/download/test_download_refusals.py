"""Servers that send something else than the file, or lead elsewhere."""

from __future__ import annotations

import io
import time
import zipfile
from http.client import HTTPMessage
from types import SimpleNamespace
from urllib.request import Request

import pytest

from yolo.core.fetch import FetchError
from yolo.core.fetch.opener import _Redirects
from yolo.core.weights.download import DownloadError, fetch_weights

FILE = "yolov9-t-converted.pt"


def left(cache) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.startswith(".")]


def refusal(loopback, *, timeout=2.0, attempts=2) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch_weights("v9-t", mirror=loopback.url, timeout=timeout, attempts=attempts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("code", "text"), [(404, "has no such file"), (403, "forbids"), (401, "login"), (400, "400")])
def test_a_final_status_is_not_tried_again(loopback, replies, cache, code, text):
    loopback.replies = [replies.status(code)]
    message = refusal(loopback)
    assert text in message and f"{loopback.url}/{FILE}" in message and str(cache / FILE) in message
    assert len(loopback.requests) == 1 and left(cache) == []


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_passing_status_is_tried_again(loopback, replies, cache, code):
    loopback.replies = [replies.status(code), replies.send()]
    path = fetch_weights("v9-t", mirror=loopback.url, timeout=2.0, attempts=2)
    assert path.read_bytes() == replies.content


def test_but_not_for_ever(loopback, replies, cache):
    loopback.replies = [replies.status(500)]
    assert "500 Internal Server Error, after 3 attempts" in refusal(loopback, attempts=3)
    assert len(loopback.requests) == 3


def test_a_wait_that_the_server_asks_for_is_kept_within_the_timeout(loopback, replies, cache, monkeypatch):
    waits = []
    monkeypatch.setattr("yolo.core.fetch.transfer.time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic))
    loopback.replies = [replies.status(503, Retry_After=text) for text in ("1", "7200", "soon", "0")]
    refusal(loopback, attempts=4)
    assert waits == [1, 2, pytest.approx(2 * 4 / 60)]


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"<!DOCTYPE html><title>Log in</title>", "application/octet-stream"), (b"moved", "text/html; charset=utf-8")],
)
def test_a_web_page_is_not_taken_for_the_file(loopback, replies, cache, content, kind):
    loopback.replies = [replies.send(content, headers={"Content-Type": kind})]
    assert "web page" in refusal(loopback)
    assert len(loopback.requests) == 1 and left(cache) == []


def test_a_packed_body_is_refused(loopback, replies, cache):
    loopback.replies = [replies.send(headers={"Content-Encoding": "gzip"})]
    assert "packs the file (gzip)" in refusal(loopback)


def test_a_short_body_is_an_error(loopback, replies, cache):
    loopback.replies = [replies.send(length=len(replies.content) + 10, ranges=False)]
    assert "ended after 200002 of 200012 bytes" in refusal(loopback)
    assert not (cache / FILE).exists()


def test_a_length_that_is_too_small_is_seen_at_the_end_of_an_archive(loopback, replies, cache):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("data.pkl", replies.content)
    loopback.replies = [replies.send(memory.getvalue(), length=100_000)]
    assert "is cut off" in refusal(loopback)
    assert left(cache) == []
    loopback.replies = [replies.send(memory.getvalue())]
    assert fetch_weights("v9-t", mirror=loopback.url).read_bytes() == memory.getvalue()


def test_an_empty_file_and_a_pointer_are_no_weights(loopback, replies, cache):
    loopback.replies = [replies.send(b"")]
    assert "it is empty" in refusal(loopback)
    loopback.replies = [replies.send(b"version https://git-lfs.github.com/spec/v1\n")]
    assert "Git LFS pointer" in refusal(loopback)
    assert left(cache) == []


def test_an_absurd_length_is_refused_before_anything_is_written(loopback, replies, cache):
    loopback.replies = [replies.send(length=10**13)]
    assert "no file of weights has" in refusal(loopback)
    assert left(cache) == []


def test_a_body_without_end_is_cut(loopback, replies, cache, monkeypatch):
    monkeypatch.setattr("yolo.core.fetch.transfer._LARGEST", 500_000)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while not loopback.stopping.is_set():
            handler.wfile.write(b"x" * 65536)

    loopback.replies = [endless]
    assert "did not stop" in refusal(loopback)
    assert (cache / f"{FILE}.part").stat().st_size < 2_000_000


def test_a_server_that_does_not_answer_is_given_up(loopback, cache):
    loopback.replies = [lambda handler: loopback.stopping.wait(10)]
    start = time.monotonic()
    assert "timed out" in refusal(loopback, timeout=0.2)
    assert time.monotonic() - start < 5


def test_a_server_that_drips_is_given_up(loopback, replies, cache):
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"\x80")
            if loopback.stopping.wait(0.02):
                return

    loopback.replies = [drip]
    start = time.monotonic()
    assert "too slow" in refusal(loopback, timeout=0.3)
    assert time.monotonic() - start < 8


def test_redirects_are_followed_and_do_not_name_the_file(loopback, replies, cache):
    evil = {"Content-Disposition": 'attachment; filename="../../evil.pt"'}
    there = replies.status(302, Location="/elsewhere/..%2F..%2Fevil.pt?token=1")
    loopback.replies = [there, replies.send(cut=9000, headers=evil), there, replies.send(headers=evil)]
    path = fetch_weights("v9-t", mirror=loopback.url, timeout=2.0, attempts=2)
    assert path == cache / FILE and path.read_bytes() == replies.content
    assert loopback.ranges == [None, None, "bytes=9000-", "bytes=9000-"]
    assert not [found for found in cache.parent.parent.rglob("*") if "evil" in found.name]


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "http://[::1/x"])
def test_a_redirect_to_another_kind_of_address_is_refused(loopback, replies, cache, place):
    loopback.replies = [replies.status(302, Location=place)]
    message = refusal(loopback)
    assert "redirect" in message.lower() and len(loopback.requests) == 1
    assert left(cache) == []


def test_redirects_end(loopback, replies, cache):
    loopback.replies = [replies.status(301, Location=f"/{number}") for number in range(20)]
    assert "redirect" in refusal(loopback)
    assert len(loopback.requests) <= 7


def test_no_redirect_from_an_encrypted_connection_to_a_plain_one():
    request = Request("https://example.invalid/a")
    for address in ("http://example.invalid/a", "HTTP://example.invalid/a"):
        with pytest.raises(FetchError, match="redirects to"):
            _Redirects().redirect_request(request, io.BytesIO(), 302, "", HTTPMessage(), address)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/x", "data:,x", "/etc/hostname"])
def test_only_http_is_fetched(tmp_path, url):
    from yolo.core.fetch import Patience, fetch

    with pytest.raises(FetchError, match="only http and https"):
        fetch(url, tmp_path / "x.part", patience=Patience())
    assert not any(tmp_path.iterdir())
