"""Opening http and https addresses, and no others; redirects are followed within limits."""

from __future__ import annotations

import re
import urllib.request
from base64 import b64encode
from http.client import HTTPMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from yolo.core.fetch.replies import FetchError

#: The only kinds of addresses that are used.
SCHEMES = ("http", "https")


def opener() -> urllib.request.OpenerDirector:
    """Speaks http and https, through the proxies of the environment; urllib's own one reads ``file:`` as well."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    ):
        director.add_handler(handler())
    return director


def request_for(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """Ask for an address; user and password in it (``http://user:password@host``) are sent to that host only."""
    found = re.match(r"([A-Za-z]+://)([^/?#]*)@", url)
    if found is None:
        return urllib.request.Request(url, headers=headers)
    request = urllib.request.Request(found[1] + url[found.end() :], headers=headers)
    login = b64encode(unquote(found[2]).encode()).decode()
    request.add_unredirected_header("Authorization", f"Basic {login}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # else its body is read to the end, which might never come
        old, new = urlsplit(req.full_url).scheme.lower(), urlsplit(newurl).scheme.lower()
        if new not in SCHEMES or (old, new) == ("https", "http"):
            raise FetchError(f"it redirects to {newurl!r}, and no {new!r} address is followed from there")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
