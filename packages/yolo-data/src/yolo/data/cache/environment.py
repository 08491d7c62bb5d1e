"""The database of a cache: :mod:`yolo.data.cache.readers` and :mod:`yolo.data.cache.writer`."""

from __future__ import annotations

from yolo.data.cache.readers import DATABASE, close_all, close_reader, database_file, open_reader, reader
from yolo.data.cache.writer import Item, Writer

__all__ = ["DATABASE", "Item", "Writer", "close_all", "close_reader", "database_file", "open_reader", "reader"]
