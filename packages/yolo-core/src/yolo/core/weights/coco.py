"""The classes of COCO, which published weights have without saying so. Importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files


@cache
def coco_names() -> tuple[str, ...]:
    """Return the names of COCO's 80 object classes (arXiv:1405.0312), in order of their published category ids."""
    return tuple(files("yolo.core.weights").joinpath("coco_names.txt").read_text(encoding="utf-8").split("\n")[:-1])


def assumed_names(num_classes: int, *, wanted: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Return COCO's names for the classes of published weights that have none of their own, if there are 80 of them.

    The assumption is dropped where 80 ``wanted`` classes are not COCO's and yet none of COCO's is among them at another
    place: then these are weights of other classes, or names were spelt in another way, and the order says more.

    Args:
        num_classes: in the file.
        wanted: names of the classes that the weights are to be used for.
    """
    names = coco_names()
    if num_classes != len(names):
        return None
    if len(wanted) == len(names) and tuple(wanted) != names:
        places = {name: index for index, name in enumerate(names)}
        if all(places.get(name, index) == index for index, name in enumerate(wanted)):
            return None
    return names


def coco_category_ids(class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Return COCO's published category id of each class, 1 to 90 with gaps, if the classes are COCO's 80, else None."""
    if tuple(class_names) != coco_names():
        return None
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    return tuple(number for number in range(1, 91) if number not in gaps)
