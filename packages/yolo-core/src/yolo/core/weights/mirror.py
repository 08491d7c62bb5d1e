"""Another place for published weights: in a company, on a machine without a way to the internet."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

from yolo.core.errors import UsageError
from yolo.core.fetch import SCHEMES

#: Environment variable: the base address that stands in for everything before the file's name.
MIRROR = "YOLO_WEIGHTS_MIRROR"


def mirrored(file: str, mirror: str | None = None) -> str | None:
    """The address of a file at the mirror, ``None`` when there is no mirror.

    Args:
        file: name of the file.
        mirror: base address; default: the environment variable ``YOLO_WEIGHTS_MIRROR``.

    Raises:
        UsageError: the base address is none.
    """
    base = mirror or os.environ.get(MIRROR)
    if not base:
        return None
    _require_base(base, option="mirror" if mirror else MIRROR)
    return f"{base.rstrip('/')}/{quote(file)}"


def _require_base(base: str, *, option: str) -> None:
    try:
        parts = urlsplit(base)
        secret = "@" in parts.netloc
        plain = base.isascii() and base.isprintable() and not set(" ?#") & set(base)
        good = parts.scheme in SCHEMES and parts.hostname and parts.port != 0 and plain
    except ValueError:  # a port that is no number, an IPv6 address without its bracket
        secret, good = "@" in base, False
    if secret:
        raise UsageError(f"{option}: an address with a user name or password in it is not used")
    if not good:
        raise UsageError(f"{option}: {base!r} is no base address; give one like 'https://host/folder'")
