"""What a server's answer means for fetching a file of weights: take it, try again, or give up and say why."""

from __future__ import annotations

import re
from email.message import Message
from typing import NoReturn
from urllib.error import HTTPError

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_PAGES = ("text/html", "application/xhtml+xml")
_PASSING = {408, 425, 429}  # besides every 5xx
_MEANING = {401: "wants a login", 403: "forbids it", 404: "has no such file", 410: "has no such file any more"}


class FetchError(Exception):
    """Why a file could not be fetched; trying again at once would not help."""


class Retry(Exception):  # noqa: N818 - it asks for something, and never reaches a user
    """A passing problem. ``wait``: seconds that the server asks to wait."""

    def __init__(self, problem: str, *, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


def refuse_status(error: HTTPError) -> NoReturn:
    """Turn an answer that is no file into :class:`Retry` or :class:`FetchError`."""
    text = " ".join(f"{error.code} {error.reason}".split())
    if error.code in _PASSING or error.code >= 500:
        after = str(error.headers.get("Retry-After", ""))
        raise Retry(f"the server answers {text}", wait=float(after) if re.fullmatch(r"\d{1,4}", after) else 0.0)
    meaning = _MEANING.get(error.code)
    raise FetchError(f"the server {meaning} ({text})" if meaning else f"the server answers {text}")


def refuse_web_page(headers: Message, first: bytes) -> None:
    """Refuse what is sent in place of the file: a page of an error, a login or a proxy; or a packed body.

    Args:
        headers: of the answer.
        first: the beginning of its body.

    Raises:
        FetchError: it is refused.
    """
    if headers.get_content_type() in _PAGES or first.lstrip()[:1] == b"<":
        raise FetchError("the server sent a web page in place of the file (of a login, a proxy, or an error)")
    packing = headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("", "identity"):
        raise FetchError(f"the server packs the file ({packing}) although it was asked not to")


def validator_of(headers: Message) -> str:
    """What tells this version of the file from others: a strong ETag, else the date, else nothing."""
    etag = headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        return str(etag)
    return str(headers.get("Last-Modified", "").strip())


def content_range(headers: Message) -> tuple[int | None, int | None]:
    """Where a partial body starts and how large the whole file is; ``None`` where that is not said."""
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])
