"""Fetching one file over HTTP into a partial file, going on where an earlier attempt ended.

Ranges, conditions and validators: RFC 9110, sections 8.8, 13.1.5 and 14. Only http and https are spoken, also after a
redirect. Attempts, waits, sizes and redirects are all bounded.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path
from typing import Literal, NoReturn, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit

from yolo.core.fetch.opener import SCHEMES, opener, request_for
from yolo.core.fetch.replies import (
    FetchError,
    Retry,
    content_range,
    refuse_status,
    refuse_web_page,
    validator_of,
)
from yolo.core.files import write_atomically
from yolo.core.version import __version__

#: Called with the bytes that are there and the bytes that there will be, ``None`` when the server does not say.
Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_LARGEST = 4 << 30  # no file of weights is larger; a server that never ends must not fill the disk
_ADVANCE = 1 << 20  # an attempt that brings this much anew does not count as failed
_SLOWEST = 1024  # bytes per second; below it a connection counts as dropped


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: seconds without an answer, or with less than 1 KiB each, after which a connection is given up.
        attempts: failed connections in a row, each with less than 1 MiB of new data, after which all is given up.
    """

    timeout: float = 30.0
    attempts: int = 5

    def pause(self, failures: int) -> float:
        """Seconds to wait after that many failures: 0.5, 1, 2, 4, ... at most 7.5 with the usual timeout."""
        return float(self.timeout * min(2.0 ** (failures - 1) / 60, 0.25))


def fetch(url: str, part: Path, *, patience: Patience, progress: Progress | None = None) -> None:
    """Fetch a file into ``part``; return when all of it is there.

    What an earlier, interrupted call has left in ``part`` is kept if the server confirms that the file is still the
    same one; beside it, ``<part>.json`` says which one that was.

    Args:
        url: an http or https address.
        part: the partial file.
        patience: how long to try.
        progress: the numbers that it gets never fall, even when the transfer has to start again.

    Raises:
        FetchError: why it did not succeed; ``part`` is kept where going on later makes sense.
    """
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise FetchError("only http and https addresses are used")
    transfer = _Transfer(url, part, patience, progress)
    failures = 0
    while True:
        before = transfer.furthest
        try:
            return transfer.attempt()
        except Retry as problem:
            failures = 1 if transfer.furthest - before >= _ADVANCE else failures + 1
            if failures >= patience.attempts:
                raise FetchError(f"{problem}, after {failures} attempts") from problem.__cause__
            time.sleep(max(patience.pause(failures), min(problem.wait, patience.timeout)))


def discard(part: Path) -> None:
    """Delete a partial file and what is known about it."""
    part.unlink(missing_ok=True)
    _card(part).unlink(missing_ok=True)


def _card(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


class _Transfer:
    def __init__(self, url: str, part: Path, patience: Patience, progress: Progress | None) -> None:
        self.url, self.part, self.patience, self.progress = url, part, patience, progress
        self.furthest = 0

    def attempt(self) -> None:
        offset, validator, total = self._left_over()
        self.furthest = max(self.furthest, offset)
        if offset and offset == total:
            self._report(offset, total)
            return
        headers = {"User-Agent": f"yolo-core/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        with self._open(headers) as response:
            if response.status == 206:
                total = self._continued(response, offset, validator, total)
            else:
                offset, total = 0, response.length
            if total is not None and total > _LARGEST:
                raise FetchError(f"the file is said to have {total} bytes, which no file of weights has")
            self._report(offset, total)
            done = self._receive(response, offset, total)
        if total is not None and done > total:
            self._forget(f"the server sent {done} bytes of a file that has {total}")
        if done < (1 if total is None else total):
            raise Retry(f"the connection ended after {done} of {total or 'unknown'} bytes")

    def _left_over(self) -> tuple[int, str, int | None]:
        """Size, validator and full size of a usable partial file; 0 bytes if there is none."""
        try:
            size = self.part.stat().st_size
            card = json.loads(_card(self.part).read_text(encoding="utf-8"))
            validator, total = card["validator"], card["total"]
            same = card["url"] == self.url and isinstance(validator, str) and validator.isascii()
            whole = total is None or (isinstance(total, int) and size <= total)
            if same and whole and validator.isprintable() and validator:
                return size, validator, total
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing there, or nothing that tells which file it is a part of
        return 0, "", None

    def _open(self, headers: dict[str, str]) -> HTTPResponse:
        try:
            request = request_for(self.url, headers)
            return cast(HTTPResponse, opener().open(request, timeout=self.patience.timeout))
        except HTTPError as error:
            error.close()
            if error.code == 416:  # the file is shorter now than what is here of it
                self._forget("the file on the server is another one now")
            refuse_status(error)
        except (OSError, HTTPException) as error:  # also what urllib wraps as its URLError
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise FetchError(f"the server's certificate is not trusted ({reason.verify_message})") from error
            text = str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
            raise Retry(f"no connection to {urlsplit(self.url).netloc.rpartition('@')[2]} ({text})") from error
        except ValueError as error:
            raise FetchError(f"the address, or one it redirects to, cannot be used ({error})") from error

    def _continued(self, response: HTTPResponse, offset: int, validator: str, total: int | None) -> int | None:
        """Full size, when the answer really goes on where the partial file ends."""
        start, size = content_range(response.headers)
        now = validator_of(response.headers)
        other = now != validator and now.startswith('"') == validator.startswith('"') and now != ""
        if not offset or start != offset or other or (total is not None and size not in (None, total)):
            self._forget("the server sent another part than the one asked for")
        return size if size is not None else total

    def _receive(self, response: HTTPResponse, offset: int, total: int | None) -> int:
        chunks = self._chunks(response)
        chunk = next(chunks, b"")
        if not offset:
            refuse_web_page(response.headers, chunk)
        done = offset
        with self._start(response, total) if not offset else self._open_part("ab") as file:
            while chunk:
                self._write(file, chunk)
                done += len(chunk)
                if done > _LARGEST:
                    raise FetchError(f"the server sent more than {_LARGEST} bytes and did not stop")
                self._report(done, total)
                chunk = next(chunks, b"")
        return done

    def _start(self, response: HTTPResponse, total: int | None) -> FileIO:
        """Empty the partial file, then write down what it will be a part of."""
        file = self._open_part("wb")
        card = {"url": self.url, "validator": validator_of(response.headers), "total": total}
        try:
            write_atomically(_card(self.part), json.dumps(card).encode())
        except OSError as error:
            file.close()
            raise self._unwritable(error) from error
        return file

    def _open_part(self, mode: Literal["ab", "wb"]) -> FileIO:
        try:
            return self.part.open(mode, buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, file: FileIO, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> FetchError:
        return FetchError(f"{str(self.part)!r} cannot be written ({error.strerror or error})")

    def _chunks(self, response: HTTPResponse) -> Iterator[bytes]:
        since, arrived = time.monotonic(), 0
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, HTTPException) as error:
                raise Retry(f"the connection broke ({str(error) or type(error).__name__})") from error
            if not chunk:
                return
            yield chunk
            arrived += len(chunk)
            if time.monotonic() - since > self.patience.timeout:
                if arrived < _SLOWEST * self.patience.timeout:
                    raise Retry("the connection is too slow")
                since, arrived = time.monotonic(), 0

    def _forget(self, why: str) -> NoReturn:
        try:
            discard(self.part)
        except OSError as error:
            raise self._unwritable(error) from error
        raise Retry(why)

    def _report(self, done: int, total: int | None) -> None:
        self.furthest = max(self.furthest, done)
        if self.progress is not None:
            self.progress(self.furthest, None if total is None else max(total, self.furthest))
