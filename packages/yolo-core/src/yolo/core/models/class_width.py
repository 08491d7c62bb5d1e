"""How wide the class branches of a head are.

The published code says ``max(first, min(2 * classes, 128))``, yet the published YOLOv9-T weights have
``max(first, min(classes, 100))``; and a network whose class rows are replaced keeps the width of its weight file.
So the rule is data of the model file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolo.core.errors import UsageError

_MOST = 1 << 16
_KEYS = {"per_class", "at_most"}


@dataclass(frozen=True)
class ClassWidth:
    """Channels of the class branches: ``max(first, min(per_class * classes, at_most))``.

    ``first`` is the channel count of the finest scale. With ``per_class = 0`` the width is ``max(first, at_most)``,
    whatever the number of classes: the rule to adopt from a weight file.
    """

    per_class: int = 2
    at_most: int = 128

    def channels(self, first: int, num_classes: int) -> int:
        """The width for a head whose finest scale has ``first`` channels."""
        asked = min(self.per_class * num_classes, self.at_most) if self.per_class else self.at_most
        return max(first, asked)

    @classmethod
    def fixed(cls, channels: int) -> ClassWidth:
        """The same width for any number of classes (never below the finest scale's channels)."""
        return cls(per_class=0, at_most=channels)

    @classmethod
    def parse(cls, value: ClassWidth | int | Mapping[str, Any], *, where: str = "class_width") -> ClassWidth:
        """From plain data: a whole number, or ``{per_class: ..., at_most: ...}``.

        Raises:
            UsageError: anything else.
        """
        if isinstance(value, ClassWidth):
            return value
        if _is_count(value):
            return cls.fixed(value)  # type: ignore[arg-type]  # a count is an int
        if isinstance(value, Mapping) and set(value) == _KEYS and all(_is_count(n) for n in value.values()):
            return cls(per_class=value["per_class"], at_most=value["at_most"])
        raise UsageError(
            f"{where}: {value!r} is not a class-branch width; write a whole number of channels or "
            "{per_class: 2, at_most: 128}"
        )

    def to_plain(self) -> int | dict[str, int]:
        """Plain data that :meth:`parse` reads."""
        if not self.per_class:
            return self.at_most
        return {"per_class": self.per_class, "at_most": self.at_most}


PUBLISHED_WIDTH = ClassWidth()
"""The rule of the published code, for files that say nothing."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST
