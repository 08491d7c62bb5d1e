"""Transfers that are cut, changed, shortened or repeated: what arrives is the file, or nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from yolo.core.weights.download import DownloadError, fetch_weights

FILE = "yolov9-t-converted.pt"


def fetch(loopback, *, timeout=3.0, attempts=3, **options):
    return fetch_weights("v9-t", mirror=loopback.url, timeout=timeout, attempts=attempts, **options)


def names(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def test_a_file_is_fetched_whole(loopback, replies, cache):
    loopback.replies = [replies.send()]
    seen = []
    path = fetch(loopback, progress=lambda done, total: seen.append((done, total)))
    assert path == cache / FILE and path.read_bytes() == replies.content
    assert loopback.requests[0]["path"] == f"/{FILE}" and "yolo-core/" in loopback.requests[0]["user-agent"]
    assert seen[0] == (0, len(replies.content)) and seen[-1] == (len(replies.content),) * 2
    assert names(cache) == [FILE, f"{FILE}.sha256"]


def test_it_is_fetched_only_once(loopback, replies, cache):
    loopback.replies = [replies.send()]
    assert fetch(loopback) == fetch(loopback)
    assert len(loopback.requests) == 1


def test_a_dropped_transfer_goes_on_where_it_ended(loopback, replies, cache):
    loopback.replies = [replies.send(cut=50_000), replies.send(cut=70_000), replies.send()]
    seen = []
    path = fetch(loopback, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == replies.content
    assert loopback.ranges == [None, "bytes=50000-", "bytes=120000-"]
    assert [request.get("if-range") for request in loopback.requests] == [None, '"one"', '"one"']
    assert seen == sorted(seen, key=lambda pair: pair[0]) and all(done <= (total or done) for done, total in seen)


def test_a_rest_that_is_longer_than_the_file_is_thrown_away(loopback, replies, cache):
    size = len(replies.content)

    def longer(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 50000-{size - 1}/{size}")
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(replies.content[50_000:] + b"extra")
        handler.close_connection = True

    loopback.replies = [replies.send(cut=50_000), longer, replies.send()]
    assert fetch(loopback).read_bytes() == replies.content
    assert loopback.ranges == [None, "bytes=50000-", None]


def test_a_flaky_connection_that_gets_on_is_not_given_up(loopback, replies, cache, monkeypatch):
    monkeypatch.setattr("yolo.core.fetch.transfer._ADVANCE", 20_000)
    loopback.replies = [replies.send(cut=25_000)]
    assert fetch(loopback, attempts=2, timeout=1.0).read_bytes() == replies.content
    assert len(loopback.requests) == 9


def test_one_that_does_not_get_on_is_given_up(loopback, replies, cache, monkeypatch):
    monkeypatch.setattr("yolo.core.fetch.transfer._ADVANCE", 20_000)
    loopback.replies = [replies.send(cut=25_000, ranges=False)]
    with pytest.raises(DownloadError, match="ended after 25000 of 200002 bytes, after 3 attempts"):
        fetch(loopback, timeout=1.0)
    assert len(loopback.requests) == 3 and not (cache / FILE).exists()


def test_without_ranges_it_starts_again_and_progress_never_falls(loopback, replies, cache):
    loopback.replies = [replies.send(cut=90_000, ranges=False), replies.send(ranges=False)]
    seen = []
    path = fetch(loopback, progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == replies.content
    assert seen == sorted(seen) and seen[-1] == len(replies.content)


def test_without_a_validator_parts_are_not_joined(loopback, replies, cache):
    loopback.replies = [replies.send(cut=90_000, etag=None), replies.send(etag=None)]
    assert fetch(loopback).read_bytes() == replies.content
    assert loopback.ranges == [None, None]


def test_a_date_validates_as_well_as_an_etag(loopback, replies, cache):
    date = {"Last-Modified": "Wed, 05 Jun 2024 08:00:00 GMT"}
    part = replies.send(cut=90_000, etag=None, headers=date)
    rest = replies.send(etag=date["Last-Modified"], headers=date)  # the double's way to accept it in If-Range
    loopback.replies = [part, rest]
    assert fetch(loopback).read_bytes() == replies.content
    assert loopback.requests[1]["if-range"] == date["Last-Modified"]


@pytest.mark.parametrize("size", [30_000, 120_000, 300_000])
def test_a_file_that_changed_meanwhile_is_not_patched_together(loopback, replies, cache, size):
    other = b"\x80\x02" + b"n" * size
    loopback.replies = [replies.send(cut=90_000), replies.send(other, etag='"two"')]
    seen = []
    assert fetch(loopback, progress=lambda *numbers: seen.append(numbers)).read_bytes() == other
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_not_even_when_the_server_ignores_the_condition(loopback, replies, cache):
    other = b"\x80\x02" + b"n" * 200_000

    def unconditional(handler):
        del handler.headers["If-Range"]
        replies.send(other, etag='"two"')(handler)

    loopback.replies = [replies.send(cut=90_000), unconditional]
    assert fetch(loopback).read_bytes() == other
    assert loopback.ranges == [None, "bytes=90000-", None]


def test_a_part_of_an_earlier_call_is_used(loopback, replies, cache):
    loopback.replies = [replies.send(cut=60_000), replies.send()]
    with pytest.raises(DownloadError, match="60000 of 200002"):
        fetch(loopback, attempts=1)
    assert names(cache) == [f"{FILE}.part", f"{FILE}.part.json"]
    seen = []
    assert fetch(loopback, progress=lambda *numbers: seen.append(numbers)).read_bytes() == replies.content
    assert loopback.ranges == [None, "bytes=60000-"] and seen[0] == (60_000, 200_002)


CARDS = [None, "{", "[]", '{"url": 1}', '{"url": "http://elsewhere/x", "validator": "\\"one\\"", "total": 200002}']


@pytest.mark.parametrize("card", CARDS)
def test_a_part_of_nobody_knows_what_is_not_used(loopback, replies, cache, card):
    loopback.replies = [replies.send()]
    cache.mkdir(parents=True)
    (cache / f"{FILE}.part").write_bytes(b"x" * 1000)
    if card is not None:
        (cache / f"{FILE}.part.json").write_text(card)
    assert fetch(loopback).read_bytes() == replies.content and loopback.ranges == [None]
    assert names(cache) == [FILE, f"{FILE}.sha256"]


def test_a_part_that_was_complete_needs_no_server(closed_port, replies, cache):
    cache.mkdir(parents=True)
    (cache / f"{FILE}.part").write_bytes(replies.content)
    card = {"url": f"{closed_port}/{FILE}", "validator": '"one"', "total": len(replies.content)}
    (cache / f"{FILE}.part.json").write_text(json.dumps(card))
    path = fetch_weights("v9-t", mirror=closed_port, attempts=1, timeout=1.0)
    assert path.read_bytes() == replies.content


def test_a_range_that_cannot_be_satisfied_starts_again(loopback, replies, cache):
    loopback.replies = [replies.send(cut=90_000), replies.status(416, Content_Range="bytes */7"), replies.send()]
    assert fetch(loopback).read_bytes() == replies.content
    assert loopback.ranges == [None, "bytes=90000-", None]


@pytest.mark.parametrize("wrong", ["bytes 5-200001/200002", "bytes 90000-200001/200003", "nonsense"])
def test_another_range_than_asked_for_is_not_used(loopback, replies, cache, wrong):
    odd = replies.status(206, Content_Range=wrong, ETag='"one"')
    loopback.replies = [replies.send(cut=90_000), odd, replies.send()]
    assert fetch(loopback).read_bytes() == replies.content


def test_an_interrupted_transfer_leaves_nothing_that_looks_complete(loopback, replies, cache):
    loopback.replies = [replies.send(cut=60_000), replies.send()]

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(loopback, progress=interrupt)
    assert names(cache) == [f"{FILE}.part", f"{FILE}.part.json"]
    assert fetch(loopback).read_bytes() == replies.content
    assert loopback.ranges[1] is not None


def test_an_error_of_the_progress_bar_is_not_taken_for_one_of_the_connection(loopback, replies, cache):
    loopback.replies = [replies.send()]

    def broken(done, total):
        if done:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        fetch(loopback, progress=broken)
    assert len(loopback.requests) == 1


def test_two_threads_fetch_once(loopback, replies, cache):
    def slowly(handler):
        loopback.stopping.wait(0.3)
        replies.send()(handler)

    loopback.replies = [slowly]
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(loopback))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [cache / FILE] * 3 and len(loopback.requests) == 1
    assert (cache / FILE).read_bytes() == replies.content


def test_two_processes_fetch_once_and_need_no_torch(loopback, replies, cache):
    def slowly(handler):
        loopback.stopping.wait(0.5)
        replies.send()(handler)

    loopback.replies = [slowly]
    code = (
        "import sys; from yolo.core.weights.download import fetch_weights\n"
        f"print(fetch_weights('v9-t', mirror={loopback.url!r})); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [str(cache / FILE)] * 2
    assert len(loopback.requests) == 1 and (cache / FILE).read_bytes() == replies.content
