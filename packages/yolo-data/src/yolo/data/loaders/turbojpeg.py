"""The loader that decodes JPEG files with libjpeg-turbo itself."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import sys
from functools import lru_cache, partial
from typing import Any

from yolo.core.decoders.header import Buffer, Header
from yolo.data.loaders.base import Pixels
from yolo.data.loaders.fast import FastImageLoader
from yolo.data.loaders.upper import decode_upper

_log = logging.getLogger("yolo.data")


class TurboJPEGLoader(FastImageLoader):
    """Decode JPEG files with libjpeg-turbo, other files as :class:`FastImageLoader`.

    It needs PyTurboJPEG 1.x (2.x asks for libjpeg-turbo 3, which Debian 12 does not have) and the system's
    libjpeg-turbo. Where one is missing, OpenCV decodes instead, with the same pixels, and one log line says what to
    install.

    Args:
        use_mmap: As for :class:`FastImageLoader`.
    """

    can_crop = True

    def __init__(self, *, use_mmap: bool = True) -> None:
        super().__init__(use_mmap=use_mmap)
        open_turbojpeg()  # here, so that the log line comes at start

    def upper(self, path: str, least: tuple[int, int] | None, rows: int) -> Pixels:
        """As a call, but of a plain JPEG hardly more rows than asked for."""
        return self._load(path, least, partial(self._decode, rows=rows))

    def _decode(self, data: Buffer, header: Header, factor: int, rows: int | None = None) -> Pixels | None:
        decoder = open_turbojpeg() if header.kind == "jpeg" else None
        if decoder is None:
            return super()._decode(data, header, factor)
        if rows is not None and header.orientation == 1:
            upper = decode_upper(data, header, factor, rows, decoder, _OPTIONS)
            if upper is not None:
                return upper
        scale = None if factor == 1 else (1, factor)
        try:
            pixels: Pixels = decoder.decode(data, scaling_factor=scale, **_OPTIONS)
        except Exception:  # whatever it raises for odd data: the careful reader tells what is wrong
            return None
        return pixels


_OPTIONS = {"pixel_format": 0, "flags": 8192}  # TJPF_RGB, TJFLAG_STOPONWARNING of turbojpeg.h


@lru_cache(maxsize=1)
def open_turbojpeg() -> Any:
    """Return the decoder of this process, or None, with a line in the log, when it is not there."""
    try:
        base = importlib.import_module("turbojpeg").TurboJPEG
        # The package only warns where libjpeg guesses missing pixels, and warnings are no way to decide.
        return type("StrictTurboJPEG", (base,), {"_TurboJPEG__report_error": _refuse})()
    except Exception as error:  # ImportError, RuntimeError, OSError or AttributeError, by what is missing and how
        if multiprocessing.parent_process() is None:  # workers need not say it again
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("TurboJPEG is not available (%s); OpenCV decodes instead. %s", reason, _install(error))
        return None


def _refuse(decoder: Any, handle: object) -> None:
    raise OSError(decoder._TurboJPEG__get_error_string(handle))


def _install(error: Exception) -> str:
    if isinstance(error, ImportError):
        return 'To install it: pip install "PyTurboJPEG<2"'
    library = {
        "darwin": "brew install jpeg-turbo",
        "win32": "the installer from libjpeg-turbo.org",
    }.get(sys.platform, "apt install libturbojpeg0 (Fedora: dnf install turbojpeg)")
    return f'To install it: {library}; and pip install "PyTurboJPEG<2"'
