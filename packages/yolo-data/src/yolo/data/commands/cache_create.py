"""``yolo cache-create``: the cache of a data set, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolo.core.errors import UsageError
from yolo.data.commands.cache_options import show_progress

if TYPE_CHECKING:
    from yolo.data.config import DataConfig


def _refuse_compress(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise UsageError(
            "--compress is gone: choose with --cache-format what is kept: jpeg (small) or raw (lossless, with LZ4)"
        )


@click.command("cache-create", context_settings={"ignore_unknown_options": True})
@click.option("--config", "-c", "configs", multiple=True, help="Configuration file or packaged name; later ones win.")
@click.option("--size", type=click.IntRange(32), help="Image size. Not set: that of the configuration, else 640.")
@click.option("--no-resize", is_flag=True, help="Keep images in their original size.")
@click.option("--encrypt", is_flag=True, help="Encrypt everything with the key in YOLO_ENCRYPTION_KEY.")
@click.option("--cache-format", type=click.Choice(["jpeg", "raw"]), help="jpeg is smaller, raw is lossless.")
@click.option("--jpeg-quality", type=click.IntRange(1, 100), help="Quality of jpeg. Not set: data.jpeg_quality.")
@click.option("--workers", type=click.IntRange(1), help="Threads that work at once. Not set: one per core.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "both"]),
    default="both",
    show_default=True,
    help="Split to cache; both: train and val, and test where there is one.",
)
@click.option("--sync", is_flag=True, help="Write everything through to the disk; some external volumes refuse.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the cache. Not set: data.cache_dir, else data.root.",
)
@click.option("--compress", is_flag=False, flag_value="", hidden=True, expose_value=False, callback=_refuse_compress)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--data.KEY VALUE]...")
def cache_create(configs: tuple[str, ...], split: str, options: tuple[str, ...], **given: Any) -> None:
    """Make the cache of a data set without training.

    The cache holds all that training needs: images, labels, names and splits. Where the data is stands in the `data:`
    section of a configuration, or in options such as --data.root cells --data.format yolo, which win. A cache that was
    interrupted is gone on with, one that fits already is left alone; --data.cache_refresh true makes it anew.
    """
    from yolo.cli.notes import shown_notes
    from yolo.data.config_files import data_settings

    for option in options:
        if option.startswith("-") and not option.startswith("--data."):
            raise UsageError(f"{option}: there is no such option; see 'yolo cache-create --help'")
    if not configs and not any(option.partition("=")[0] == "--data.root" for option in options):
        raise UsageError("say where the data set is: --config FILE, or --data.root FOLDER --data.format yolo")
    if any(option.partition("=")[0] == "--data.cache_only" for option in options):
        raise UsageError("--data.cache_only: a cache is made from images; it is for the training that follows")
    config = _changed(data_settings(configs, options), **given)
    with shown_notes():
        _create(config, split)


def _changed(
    config: DataConfig,
    *,
    size: int | None,
    no_resize: bool,
    encrypt: bool,
    cache_format: str | None,
    jpeg_quality: int | None,
    workers: int | None,
    sync: bool,
    output_dir: Path | None,
) -> DataConfig:
    """Return the configuration with what the options say."""
    if no_resize and size is not None:
        raise UsageError("--size and --no-resize contradict each other: give one of them")
    if size is not None and size % 32:
        raise UsageError(f"--size {size}: it must be a multiple of 32")
    changes: dict[str, Any] = {
        "image_size": size,
        "cache_resize_images": False if no_resize else True if size is not None else None,
        "cache_encrypt": encrypt or None,
        "cache_format": cache_format,
        "jpeg_quality": jpeg_quality,
        "cache_workers": workers,
        "cache_sync": sync or None,
        "cache_dir": None if output_dir is None else str(output_dir.expanduser().absolute()),
        "cache_images": "disk",
        "cache_only": False,
    }
    return replace(config, **{key: value for key, value in changes.items() if value is not None})


def _create(config: DataConfig, split: str) -> None:
    from yolo.cli.output import note
    from yolo.data.cache.errors import MismatchError, WrongCacheKeyError
    from yolo.data.cache.readers import database_file
    from yolo.data.cache.settings import cache_folder, check_encryption
    from yolo.data.cache.store import read_head
    from yolo.data.cache.use import cache_key, fill_cache
    from yolo.data.check.splits import existing_splits
    from yolo.data.formats import load_labels
    from yolo.data.loaders import open_loader

    key = cache_key(config)
    check_encryption(config, open_loader(config.image_loader, encryption_key=config.encryption_key))
    splits = existing_splits(config) if split == "both" else [split]
    tables = {name: load_labels(config, name) for name in splits}
    folder = cache_folder(config)
    try:
        built = fill_cache(config, tables, track=show_progress)
    except (MismatchError, WrongCacheKeyError):
        note("To make the cache anew with the settings of now: --data.cache_refresh true")
        raise
    head = read_head(folder)
    images = 0 if head is None else head.records
    parts = [f"{name} {len(table):,}" for name, table in tables.items()]
    facts = f"{images:,} images ({', '.join(parts)}), {database_file(folder).stat().st_size:,} bytes"
    if key is not None:
        facts += f", encrypted (key id {key.id})"
    click.echo(f"{'Written' if built else 'Nothing to do, the cache fits'}: {folder}: {facts}")
