"""Damage inside a JPEG that decoders pass over: they fill in what is missing, and only libjpeg-turbo tells of it.

Every loader refuses a file that ends early. Where bytes within the picture are wrong, Pillow and OpenCV go on without a
word, and give what could be decoded and grey or shifted colours for the rest.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from yolo.core.decoders.contents import contents

_MARK = b"\xff\xd8\xff"
_RGB, _STOP_ON_WARNING = 0, 8192  # TJPF_RGB, TJFLAG_STOPONWARNING of turbojpeg.h
_SMALL = (1, 8)
_DAMAGE = "Corrupt JPEG data"
_HARMLESS = "extraneous bytes before marker 0xd9"  # padding behind the picture, as some cameras write it


class _ComplaintError(Exception):
    pass


def jpeg_damage(path: str) -> str | None:
    """Return what libjpeg-turbo says of a damaged JPEG file; None for a sound one, and for everything it cannot judge.

    That is any file that is not an ordinary JPEG, and every file where PyTurboJPEG or its library is missing.
    """
    decoder = _decoder()
    if decoder is None:
        return None
    with contents(path, use_mmap=False) as data:
        if data is None or data[:3] != _MARK:
            return None
        try:
            decoder.decode(data, pixel_format=_RGB, scaling_factor=_SMALL, flags=_STOP_ON_WARNING)
        except _ComplaintError as complaint:
            text = str(complaint)
            return text if text.startswith(_DAMAGE) and _HARMLESS not in text else None
        except Exception:  # an odd file that a loader could read all the same
            return None
    return None


@lru_cache(maxsize=1)
def _decoder() -> Any:
    try:
        base = importlib.import_module("turbojpeg").TurboJPEG
        return type("Strict", (base,), {"_TurboJPEG__report_error": _complain})()
    except Exception:  # ImportError, RuntimeError, OSError or AttributeError, by what is missing and how
        return None


def _complain(decoder: Any, handle: object) -> None:
    # The package only warns, and warnings cannot be told apart by thread.
    text = decoder._TurboJPEG__get_error_string(handle)
    raise _ComplaintError(text.decode(errors="replace") if isinstance(text, bytes) else str(text))
