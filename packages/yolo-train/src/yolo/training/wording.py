"""Times, sizes, counts and paths as people read them."""

from __future__ import annotations

from pathlib import Path


def duration(seconds: float) -> str:
    """Return a time in at most two units.

    >>> duration(4.26), duration(45), duration(200), duration(6000), duration(97200), duration(86400)
    ('4.3 s', '45 s', '3 min 20 s', '1 h 40 min', '1 d 3 h', '1 d')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        count, rest = divmod(round(seconds / small), size // small)
        if count:
            return f"{count} {unit} {rest} {part}" if rest else f"{count} {unit}"
    return f"{seconds:.0f} s"


def byte_size(count: float) -> str:
    """Return a number of bytes in powers of ten.

    >>> byte_size(24.4e6), byte_size(1.87e9), byte_size(85.2e9), byte_size(999.9e6)
    ('24 MB', '1.9 GB', '85 GB', '1.0 GB')
    """
    if count < 999.5e6:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"


def number_of(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> number_of(1, "step"), number_of(12000, "step")
    ('1 step', '12,000 steps')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def short_path(path: Path, start: Path | None = None) -> Path:
    """Return a path as seen from a folder (the working folder by default), when it lies in it."""
    start = start or Path.cwd()
    return path.relative_to(start) if path.is_relative_to(start) else path
