"""A server on the loopback interface that behaves as badly as a test asks, and an empty cache folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

CONTENT = b"\x80\x02" + np.random.default_rng(7).bytes(200_000)
Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Loopback:
    """Answers the n-th request with the n-th reply, all later ones with the last."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
            self.requests.append({"path": handler.path, **{key.lower(): text for key, text in handler.headers.items()}})
        reply(handler)

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("range") for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.loopback.answer(self)  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client went away


def send(
    content: bytes = CONTENT,
    *,
    etag: str | None = '"one"',
    ranges: bool = True,
    cut: int | None = None,
    length: int | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """A file; ``cut``: bytes after which the connection ends; ``length``: a false Content-Length."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        start = int(asked[6:-1]) if ranges and asked and condition in (None, etag) else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(length if length is not None else len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            handler.send_header("ETag", etag)
        for key, text in (headers or {"Content-Type": "application/octet-stream"}).items():
            handler.send_header(key, text)
        handler.end_headers()
        handler.wfile.write(content[start:][:cut])

    return reply


def status(code: int, **headers: str) -> Reply:
    """An answer without a file."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, text in headers.items():
            handler.send_header(key.replace("_", "-"), text)
        handler.end_headers()
        handler.wfile.write(b"<html>no file</html>")

    return reply


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    found = Loopback()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.loopback = found  # type: ignore[attr-defined]
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.stopping.set()
        server.shutdown()
        thread.join(5)


@pytest.fixture
def replies():
    """The makers of replies and the content of the file: conftest modules cannot be imported."""
    from types import SimpleNamespace

    return SimpleNamespace(send=send, status=status, content=CONTENT)


@pytest.fixture
def closed_port() -> str:
    """An address where nobody listens."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights below an empty YOLO_HOME, with neither mirror nor proxy set."""
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("YOLO_WEIGHTS_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home" / "weights"


@pytest.fixture
def expect_hash(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the catalogue a SHA-256."""
    from dataclasses import replace

    from yolo.core.weights import download
    from yolo.core.weights.published import published

    def give(digest: str) -> None:
        monkeypatch.setattr(download, "published", lambda name: replace(published(name), sha256=digest))

    return give
