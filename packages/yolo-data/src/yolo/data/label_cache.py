"""Labels are parsed once: :func:`cached_table` keeps them, and notices every change of what they were parsed from."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.formats.report import Told, recorded, tell
from yolo.data.label_file import StoredLabels, raw_paths, read_labels_file, write_labels
from yolo.data.label_inputs import KNOWN_FORMATS, Facts, image_facts, input_facts, loader_class, root_of
from yolo.data.labels import LabelTable

_log = logging.getLogger("yolo.data")

# Clocks of file systems go in steps: a file that changes twice within one looks as if it had changed once.
_STEP = 20_000_000
_COARSE_STEP = 2_000_000_000
_ROOT, _FOLDER = "\0", "\1"  # stand for the data set's folder in the kept lines


def cached_table(config: DataConfig, split: str, parse: Callable[[], LabelTable]) -> LabelTable:
    """Return the labels of a split from its cache file, or from ``parse``, whose result is then kept.

    What the parser warned of is logged again when the cache is used. Nothing is kept, and nothing kept is used, without
    ``data.cache_labels``, for a format whose inputs are not known (:data:`yolo.data.label_inputs.KNOWN_FORMATS`), an
    image loader from elsewhere, an image loader that is confidential, and with ``data.cache_encrypt``: nothing then
    writes labels in clear.

    Args:
        config: the ``data:`` section; ``cache_dir``, ``cache_refresh`` and ``cache_encrypt`` matter here.
            ``data_fraction`` does not: the table is that of the whole split.
        split: ``train``, ``val`` or ``test``.
        parse: reads the labels; it may raise what it likes.

    Returns:
        Equal to what ``parse`` gives, also after any of its inputs changed: see :mod:`yolo.data.label_inputs`.
    """
    if not _may_keep(config):
        return parse()
    path, root = label_cache_path(config, split), root_of(config)
    try:
        facts = input_facts(config, split)
    except YoloError:
        return parse()  # something is missing, which the parser says best
    newest = facts.newest
    stored = None if config.cache_refresh else read_labels_file(path, root=root)
    if stored is not None and stored.inputs == facts.digest:
        images = image_facts(config, raw_paths(stored.table.paths))
        if images.digest == stored.images:
            tell(_with_folder(line, config) for line in stored.told)
            return stored.table
        newest = max(newest, images.newest)
    if 0 <= time.time_ns() - newest < _STEP:
        time.sleep(_STEP / 1e9)  # until a change of a file that has just been written will show
    start = time.time_ns()
    with recorded() as told:
        table = parse()
    _keep(config, split, table, [_without_folder(line, config) for line in told], facts, start)
    return table


def label_cache_path(config: DataConfig, split: str) -> Path:
    """Return the cache file of a split: in ``data.cache_dir``, or in the data set's folder."""
    parent = config.folder if config.cache_dir is None else config.folder / Path(config.cache_dir).expanduser()
    return parent / f".yolo_labels_{config.format}_{split}.cache"


def _may_keep(config: DataConfig) -> bool:
    if not config.cache_labels or config.cache_encrypt or config.format not in KNOWN_FORMATS:
        return False
    loader = loader_class(config)
    return loader.__module__.startswith("yolo.data.loaders.") and not loader.confidential


def _keep(config: DataConfig, split: str, table: LabelTable, told: list[Told], before: Facts, start: int) -> None:
    """Write the cache, unless something changed while the labels were read."""
    try:
        after, images = input_facts(config, split), image_facts(config, raw_paths(table.paths))
    except YoloError:
        return
    newest = max(after.newest, images.newest)
    step = _COARSE_STEP if newest % 1_000_000_000 == 0 else _STEP
    if after != before or newest > start - step:
        _log.info("%s: files changed while the labels were read: they are not kept", config.root)
        return
    path = label_cache_path(config, split)
    try:
        _respect(path.parent)
        write_labels(path, StoredLabels(after.digest, images.digest, table, told), root=root_of(config))
    except OSError as error:
        _log.info("labels are not kept: %s cannot be written: %s", path, error.strerror or error)


def _respect(folder: Path) -> None:
    """Raise PermissionError for a folder that nobody may write, although an administrator could."""
    if folder.exists() and not folder.stat().st_mode & 0o222:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _without_folder(line: Told, config: DataConfig) -> Told:
    """A line in which the data set's folder, however it was written, is left open."""
    source = _ROOT + line.source.removeprefix(config.root) if line.source.startswith(config.root) else line.source
    folder = root_of(config) + os.sep
    return line._replace(source=source.replace(folder, _FOLDER), text=line.text.replace(folder, _FOLDER))


def _with_folder(line: Told, config: DataConfig) -> Told:
    folder = root_of(config) + os.sep
    source = line.source.replace(_ROOT, config.root).replace(_FOLDER, folder)
    return line._replace(source=source, text=line.text.replace(_FOLDER, folder))
