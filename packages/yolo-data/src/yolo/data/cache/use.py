"""How training and the other commands come to the cache that a configuration asks for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.build import Track, build_cache, refresh_labels
from yolo.data.cache.errors import DamagedCacheError, MissingCacheError, encryption_mismatch, format_mismatch
from yolo.data.cache.head import UNKNOWN, read_head
from yolo.data.cache.listed import absolute_paths, listed_images, placed
from yolo.data.cache.loader import CachedImageLoader
from yolo.data.cache.promote import heal
from yolo.data.cache.readers import database_file
from yolo.data.cache.resources import check_resources
from yolo.data.cache.settings import CacheSettings, cache_folder, check_encryption
from yolo.data.cache.stale import Verdict, examine
from yolo.data.cache.store import CacheStore
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import Key, find_key, hand_on, parse_key
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader, open_loader

_log = logging.getLogger("yolo.data")


def cache_key(config: DataConfig) -> Key | None:
    """Return the key of the image cache, None where it is not encrypted. Workers will find it too.

    Raises:
        UsageError: there is none, or it is no key.
    """
    if not config.cache_encrypt:
        return None
    text = config.encryption_key
    key = find_key() if text is None else parse_key(text, source="data.encryption_key")
    hand_on(key)
    return key


def fill_cache(config: DataConfig, tables: Mapping[str, LabelTable], *, track: Track | None = None) -> bool:
    """See to it that the image cache of a configuration exists and fits, then read it into memory if that is asked for.

    Nothing is done with ``cache_images: none``. With ``cache_only`` nothing is built, only checked.

    Args:
        config: the ``data:`` section.
        tables: labels of each split that is needed.
        track: shows progress.

    Returns:
        Whether it was built (or went on being built).

    Raises:
        UsageError: an encrypted loader with a cache in clear; no key.
        CacheError: the cache there belongs to other settings, or cannot be read.
        YoloError: not enough memory or disk space.
    """
    if config.cache_images == "none":
        return False
    folder, key = cache_folder(config), cache_key(config)
    built = False
    if not config.cache_only:
        loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
        check_encryption(config, loader)
        heal(folder)
        verdict = _examine(config, folder, key, tables)
        if verdict.reason is not None:
            if folder.exists():
                _log.warning("Image cache %s is built anew: %s", folder, verdict.reason)
            _build(config, folder, key, {**_further_splits(config, tables, verdict), **tables}, loader, track)
            built = True
        elif verdict.needs_refresh:
            if verdict.labels_changed:
                _log.info("Image cache %s: the labels have changed and are replaced in it", folder)
            try:
                refresh_labels(folder, tables, root=config.folder, key=key, sync=config.cache_sync, verdict=verdict)
            except YoloError as error:  # this run has the labels as they are now
                _log.warning("The labels in the image cache stay the old ones: %s", error)
    store = open_store(config)
    if config.cache_images == "ram":
        size = store.file_size()
        check_resources(folder, size, mode="ram", max_memory_gb=config.cache_max_memory_gb, present=size)
        store.prefault()
    return built


def open_images(config: DataConfig, tables: Mapping[str, LabelTable], *, checked: bool = False) -> ImageLoader:
    """Return what reads the pictures of a configuration: the cache where one fits, else the files.

    It builds nothing, see :func:`fill_cache`. With ``cache_only`` only the cache is read.

    Args:
        config: the ``data:`` section.
        tables: labels of the splits whose images will be read.
        checked: :func:`fill_cache` has just been here, so that the files need not be compared with the cache again.

    Raises:
        CacheError: ``cache_only``, and there is no cache that fits.
    """
    if config.cache_only:
        store = open_store(config)
        return CachedImageLoader(store, absolute_paths(store.index.paths, config.folder), None)
    files = open_loader(config.image_loader, encryption_key=config.encryption_key)
    if config.cache_images == "none":
        return files
    folder, key = cache_folder(config), cache_key(config)
    if not checked and _examine(config, folder, key, tables).reason is not None:
        return files
    store = open_store(config)
    return CachedImageLoader(store, absolute_paths(store.index.paths, config.folder), files)


def cached_labels(config: DataConfig, split: str) -> LabelTable:
    """Return the labels of a split from the cache alone.

    A list file of the split (``data.<split>_split``) that is there chooses among all the images of the cache.

    Raises:
        CacheError: there is no cache that fits.
        UsageError: the cache does not hold the split.
    """
    index = open_store(config).index
    if index.settings.dataset_format != config.format:
        raise format_mismatch(cache_folder(config), wanted=config.format, found=index.settings.dataset_format)
    listing = config.path("split", split)
    if listing is not None and listing.is_file():
        usual = config.folder / "images"
        folders = [config.path("images", split) or usual / split, usual / split, usual]
        return listed_images(index, listing, config.folder, folders)
    if split not in index.splits:
        known = ", ".join(sorted(index.splits))
        raise UsageError(
            f"the cache {str(cache_folder(config))!r} holds no {split} images, only {known}: "
            "make it again with `yolo cache-create` where the images are"
        )
    return placed(index.splits[split].table, config.folder)


def open_store(config: DataConfig) -> CacheStore:
    """Open the cache of a configuration.

    Raises:
        CacheError: it is not there, is encrypted while ``cache_encrypt`` is false (or the other way round), belongs to
            another version or key, or is damaged.
    """
    folder, key = cache_folder(config), cache_key(config)
    if not folder.exists():
        heal(folder)  # it may have been on its way to its place
    head = read_head(folder)
    if head is None:
        raise MissingCacheError(_missing(folder))
    if head.encrypted != config.cache_encrypt:
        raise encryption_mismatch(folder, encrypted=head.encrypted)
    return _opened(folder, key)


_last: dict[tuple[object, ...], CacheStore] = {}


def _opened(folder: Path, key: Key | None) -> CacheStore:
    """Open a cache, once as long as its file stays what it is: the index of a large one takes a second to read."""
    try:
        file = database_file(folder).stat()
    except OSError:
        return CacheStore.open(folder, key=key)  # which says what is missing
    identity = (folder, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, key)
    if identity not in _last:
        store = CacheStore.open(folder, key=key)
        _last.clear()
        _last[identity] = store
    return _last[identity]


def _examine(config: DataConfig, folder: Path, key: Key | None, tables: Mapping[str, LabelTable]) -> Verdict:
    """Whether the cache that is there can be used, and if not, why.

    Raises:
        CacheError: building would destroy what somebody may want to keep.
    """
    if config.cache_refresh:  # before anything is read: what is there may be beyond reading
        return Verdict("data.cache_refresh is set", splits=_present_splits(folder, key))
    head = read_head(folder)
    if head is None:
        return Verdict("there is none")
    if head.version == UNKNOWN:
        raise DamagedCacheError(
            f"{str(folder)!r} is no cache of this program, or a damaged one, perhaps encrypted: remove it, or let "
            "data.cache_refresh: true replace it"
        )
    if head.encrypted and not config.cache_encrypt:
        raise encryption_mismatch(folder, encrypted=True)
    settings = CacheSettings.of(config)
    early = examine(head, None, settings, tables, config.folder)
    if early.reason is not None or not head.complete:
        return Verdict(early.reason or "it is not complete", splits=_present_splits(folder, None))
    index = _opened(folder, key).index
    if index.settings.dataset_format != config.format:
        raise format_mismatch(folder, wanted=config.format, found=index.settings.dataset_format)
    return replace(examine(head, index, settings, tables, config.folder), splits=frozenset(index.splits))


def _present_splits(folder: Path, key: Key | None) -> frozenset[str]:
    """The splits of the cache that is there, as far as it can be read."""
    try:
        return frozenset(CacheStore.open(folder, key=key).index.splits)
    except YoloError:
        return frozenset()


def _further_splits(config: DataConfig, tables: Mapping[str, LabelTable], verdict: Verdict) -> dict[str, LabelTable]:
    """The labels, as they are now, of splits that the present cache holds and this run does not need."""
    from yolo.data.formats import load_labels  # which reads caches itself

    kept = {}
    for split in verdict.splits - tables.keys():
        try:
            kept[split] = load_labels(config, split)
        except YoloError as error:
            _log.warning("The %s images are left out of the cache: %s", split, error)
    return kept


def _build(
    config: DataConfig,
    folder: Path,
    key: Key | None,
    tables: Mapping[str, LabelTable],
    loader: ImageLoader,
    track: Track | None,
) -> None:
    build_cache(
        folder,
        CacheSettings.of(config),
        tables,
        root=config.folder,
        loader=loader,
        key=key,
        workers=config.cache_workers,
        sync=config.cache_sync,
        fresh=config.cache_refresh,
        memory_limit_gb=config.cache_max_memory_gb if config.cache_images == "ram" else None,
        track=track,
    )


def _missing(folder: Path) -> str:
    others = sorted(path.name for path in folder.parent.glob(".yolo_cache_*") if (path / "cache.lmdb").is_dir())
    text = f"there is no cache {str(folder)!r}"
    others = [name for name in others if not name.endswith((".partial", ".old", ".copy", ".import", ".rekey"))]
    if others:
        keys = "data.image_size, data.cache_resize_images and data.data_fraction"
        return f"{text}, but {', '.join(others)}: set {keys} to match"
    return f"{text}: make it with `yolo cache-create` where the images are, then bring it here with `yolo cache-import`"
