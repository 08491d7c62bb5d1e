"""The kinds of repairs, each told twice: for many at once in a training's log, for one in ``yolo data check``."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        name: in ``--json`` and as the heading of a list.
        many: what was found and done, for the one warning with a count.
        one: the same of one finding.
    """

    name: str
    many: str
    one: str


# Boxes.
EMPTY_BOX = Kind(
    "empty-box",
    "boxes have no width or height and were dropped",
    "the box has no width or height; training drops it",
)
OVER_EDGE = Kind(
    "box-over-edge",
    "boxes reach over the image edge and were clipped",
    "the box reaches over the image edge; training clips it",
)
OUTSIDE = Kind(
    "box-outside",
    "boxes lie outside their image and were dropped",
    "the box lies outside the image; training drops it",
)
REPEATED_LINE = Kind(
    "duplicate-box",
    "lines repeat a box and were dropped",
    "the line repeats a box of this file; training drops it",
)
REPEATED_BOX = Kind(
    "duplicate-box",
    "annotations repeat a box with its class (kept, so that figures stay comparable)",
    "the box occurs before with the same class",
)
POLYGON = Kind(
    "polygon",
    "polygons were replaced by their enclosing boxes",
    "a polygon where a box is expected; its enclosing box is used",
)
NO_BBOX = Kind(
    "missing-bbox",
    "annotations without bbox were given the enclosing box of their polygon",
    "there is no bbox; the enclosing box of the polygon is used",
)
BAD_AREA = Kind(
    "bad-area",
    "areas are not positive numbers and were replaced by width x height",
    "the area is not a positive number; width x height is used",
)
NO_BOXES = Kind("no-boxes", "images, and not one box", "not one image of the split has a box")

# Files.
MISSING_LABEL = Kind(
    "missing-label",
    "images have no label file and are taken as background",
    "the image has no label file; it is taken as background",
)
ORPHAN_LABEL = Kind(
    "orphan-label",
    "label files have no image and were ignored",
    "the label file has no image; it is ignored",
)
SHARED_LABEL = Kind(
    "shared-label",
    "label files are shared by images of one name",
    "several images share this label file",
)
UPPER_CASE = Kind(
    "upper-case-suffix",
    "label files end in upper case (.TXT) and were used",
    "the label file ends in upper case; other programs may not find it",
)
LISTED_TWICE = Kind("listed-twice", "images are listed twice and used once", "the image is listed twice and used once")
REPEATED_ENTRY = Kind(
    "listed-twice", "lines repeat an image and were dropped", "the line repeats an image; it is used once"
)
REPEATED_SOURCE = Kind(
    "repeated-source",
    "sources of a split are repeated and used once",
    "a source of the split is repeated; it is used once",
)
WRONG_SIZE = Kind(
    "wrong-size",
    "images have another size than the json says; the file's is used",
    "the json states another size than the file has; the file's is used",
)

# Class names.
MISSING_NAMES = Kind(
    "missing-names",
    "class names are missing: the classes are called class0, class1, …",
    "there are no class names; the classes are called class0, class1, …",
)
NAME_NOT_TEXT = Kind(
    "name-not-text",
    "class names were not text and are used as text: quote them",
    "a class name is not text and is used as text: quote it",
)
NAME_CHANGED = Kind(
    "name-changed",
    "class names were empty or held control characters or spare spaces, and were changed",
    "a class name is empty or holds control characters or spare spaces; it is changed",
)
NAME_AMBIGUOUS = Kind(
    "name-ambiguous",
    "class names look like numbers or yes/no and are used as text: quote them",
    "a class name looks like a number or yes/no and is used as text: quote it",
)
INDEX_TEXT = Kind(
    "name-index-text",
    "class indices were text and are used as numbers",
    "class indices are text; they are used as numbers",
)
