"""Opening http and https addresses, and no others; redirects are followed within limits."""

from __future__ import annotations

import urllib.request
from http.client import HTTPMessage
from typing import Any
from urllib.parse import urlsplit

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
