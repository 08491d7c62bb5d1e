"""Options of augmentations that a configuration places: what does not fit is refused before the first image is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from yolo.core.errors import UsageError
from yolo.data.arguments import check_arguments
from yolo.data.augment.configured import build_pipeline, open_augmentation
from yolo.data.augment.hsv import RandomHSV
from yolo.data.config import DataConfig


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"use": "hsv", "hue": "a"}, r"data\.augmentations\[1\]\.hue is 'a': RandomHSV expects a number"),
        ({"use": "hsv", "hue": None}, r"\[1\]\.hue is None: .* a number"),
        ({"use": "hsv", "hue": True}, r"\[1\]\.hue is True: .* a number"),
        ({"use": "hsv", "hue": float("nan")}, r"\[1\]\.hue is nan"),
        ({"use": "hsv", "hue": -0.1}, r"\[1\]\.hue is -0\.1: it must be a number from 0 to 1"),
        ({"use": "flip", "up_down": 2}, r"\[1\]\.up_down is 2: .* 0 to 1"),
        ({"use": "perspective", "scale": 1}, r"\[1\]\.scale is 1: .* 0 to 0\.99"),
        ({"use": "mixup", "alpha": 0}, r"\[1\]\.alpha is 0: it must be above 0"),
        ({"use": "cutmix", "alpha": [1]}, r"\[1\]\.alpha is \[1\]: CutMix expects a number"),
        ({"use": "flip", "left_rigth": 1}, r"\[1\]\.left_rigth is no option of RandomFlip.*Did you mean 'left_right'"),
        ({"use": f"{__name__}.Picky", "level": 3}, r"\[1\]: Picky .*level must be even"),
    ],
)
def test_wrong_values_are_named(entry: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_pipeline(DataConfig(augmentations=[{"use": "flip"}, entry]))


def test_what_fits_is_taken_as_it_is() -> None:
    augmentation, p = open_augmentation({"use": "hsv", "p": 0.25, "hue": 0, "value": 1})
    assert isinstance(augmentation, RandomHSV) and (augmentation.gains, p) == ((0, 0.7, 1), 0.25)


class Picky(RandomHSV):
    """Of a plugin that checks for itself."""

    def __init__(self, *, level: int) -> None:
        super().__init__()
        if level % 2:
            raise ValueError("level must be even")


class Takes:
    """Arguments of every kind."""

    def __init__(
        self,
        *,
        number: float = 0,
        count: int | None = None,
        mode: Literal["a", "b"] = "a",
        pair: tuple[int, int] = (0, 0),
        many: Sequence[float] = (),
        table: dict[str, Any] | None = None,
        anything: object = None,
        other: RandomHSV | None = None,
        plain=None,  # type: ignore[no-untyped-def]  # of a plugin without annotations
    ) -> None:
        """Take them."""


GOOD = {
    "number": [1, 0.5, -3],
    "count": [None, 3],
    "mode": ["a"],
    "pair": [[1, 2], (3, 4)],
    "many": [[], [1, 0.5]],
    "table": [None, {}],
    "anything": ["x", 3],
    "other": [3],
    "plain": ["x"],
}
BAD: dict[str, tuple[list[Any], str]] = {
    "number": (["1", [1], float("inf")], "a number"),
    "count": ([1.0, False], "a whole number or null"),
    "mode": (["c", 1], "one of 'a', 'b'"),
    "pair": ([[1], [1, 2, 3], [1, 0.5], 1], "a list of a whole number, a whole number"),
    "many": ([1, "ab", ["a"]], "a list of a number"),
    "table": ([[1]], "names and values or null"),
}


def test_every_kind_of_annotation() -> None:
    for name, values in GOOD.items():
        for value in values:
            check_arguments(Takes, {name: value}, "here")
    for name, (values, expected) in BAD.items():
        for value in values:
            with pytest.raises(UsageError) as error:
                check_arguments(Takes, {name: value}, "here")
            assert str(error.value) == f"here.{name} is {value!r}: Takes expects {expected}"
