"""Reading an annotation json strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yolo.data.formats.report import DataError, Place
from yolo.data.formats.textfile import decode, read_bytes

#: Bytes of the largest json that is read.
LARGEST = 3 << 30


class _DuplicateKeyError(ValueError):
    pass


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a json file.

    Raises:
        DataError: naming the file, and line and column where there are some: not there, too large, not UTF-8, not
            valid json, nested without end, a key written twice, or something else than an object.
    """
    text = decode(read_bytes(path, limit=LARGEST), path)
    if not text.strip():
        raise _wrong(path, "the file is empty")
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = Place(str(path), error.lineno, column=error.colno)
        raise DataError("bad-json", place, f"not valid json: {error.msg}") from None
    except _DuplicateKeyError as error:
        raise _wrong(path, f"the key {error} is written twice in one object, of which one would be lost") from None
    except RecursionError:
        raise _wrong(path, "nested too deeply to be an annotation file") from None
    except ValueError as error:  # a number of thousands of digits
        raise _wrong(path, f"not valid json: {str(error)[:100]}") from None
    if isinstance(value, list) and value and isinstance(value[0], dict) and "score" in value[0]:
        raise _wrong(path, "this is a COCO results file (a list with scores), not an annotation file")
    if not isinstance(value, dict):
        raise _wrong(path, "an object with images, annotations and categories is expected")
    return value


def _wrong(path: Path, text: str) -> DataError:
    return DataError("bad-json", Place(str(path)), text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(repr(key[:40]))
            seen.add(key)
    return result
