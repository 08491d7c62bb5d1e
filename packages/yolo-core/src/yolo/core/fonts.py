"""Letters for labels: the font that Pillow carries, else one of this system that has the characters."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Names that Pillow looks up in the font folders of Linux, macOS and Windows. The later ones are large, and have
# Chinese, Japanese and Korean.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "meiryo.ttc",
)
_NOBODY_HAS_IT = "\U0010ffff"


def font_for(text: str, size: int) -> tuple[Font, str]:
    """Return a font for a text, and the text as this font can show it.

    ASCII is shown by the font that Pillow carries, so that pictures look the same on every machine. Another text looks
    for a system font; where none has all its characters, accents are dropped and the rest becomes ``?``.

    Args:
        text: one line.
        size: height in pixels.
    """
    if text.isascii():
        return _carried(size), text
    for name in _SYSTEM_FONTS:
        font = _system(name, size)
        if font is not None and all(_has(name, character) for character in text if not character.isspace()):
            return font, text
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _carried(size), plain.encode("ascii", "replace").decode("ascii")


@lru_cache(maxsize=64)
def _carried(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _system(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:  # not on this machine
        return None


@lru_cache(maxsize=4096)
def _has(name: str, character: str) -> bool:
    """Tell whether a font draws a character otherwise than its sign for a missing one."""
    font = _system(name, 24)
    return font is not None and bytes(font.getmask(character)) != bytes(font.getmask(_NOBODY_HAS_IT))
