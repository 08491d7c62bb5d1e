"""``yolo cache-info``: what is in a cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolo.core.errors import UsageError, YoloError
from yolo.data.commands.cache_options import cache_dir, environment_key

if TYPE_CHECKING:
    from yolo.data.cache.head import Head
    from yolo.data.cache.index import CacheIndex
    from yolo.data.encryption.keys import Key

_LINE = "─" * 37


@click.command("cache-info")
@cache_dir
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
def cache_info(folder: Path, as_json: bool) -> None:
    """Show what is in a cache.

    Of an encrypted cache, everything but the number of images needs the key, in YOLO_ENCRYPTION_KEY.
    """
    from yolo.cli.output import note, print_json
    from yolo.data.cache.head import read_head
    from yolo.data.cache.promote import heal, partial_folder
    from yolo.data.cache.readers import database_file
    from yolo.data.cache.settings import VERSION

    heal(folder)
    head = read_head(folder)
    if head is None:
        if partial_folder(folder).exists():
            raise YoloError(f"the cache in {str(folder)!r} is not complete: 'yolo cache-create' goes on with it")
        raise UsageError(f"there is no cache in {str(folder)!r}: give the folder that `yolo cache-create` wrote")
    key = environment_key() if head.encrypted else None
    usable = head.complete and head.version == VERSION
    locked = head.encrypted and key is None
    index = _index(folder, key) if usable and not locked else None
    facts = _facts(folder, database_file(folder).stat().st_size, head, index)
    if as_json:
        print_json(facts)
    else:
        _print(facts)
    if head.version != VERSION:
        note(f"This version reads caches of version {VERSION}: make it again with 'yolo cache-create'.")
    elif not head.complete:
        note("The cache is not complete: run 'yolo cache-create' again, which goes on where it stopped.")
    elif locked:
        note("The rest is encrypted: set YOLO_ENCRYPTION_KEY to see it.")


def _index(folder: Path, key: Key | None) -> CacheIndex:
    from yolo.data.cache.store import CacheStore

    return CacheStore.open(folder, key=key).index


def _facts(folder: Path, size: int, head: Head, index: CacheIndex | None) -> dict[str, Any]:
    """Return what ``--json`` shows; what cannot be read is null."""
    from yolo.data.cache.settings import VERSION

    facts: dict[str, Any] = {
        "path": str(folder),
        "version": head.version,
        "complete": head.complete,
        "images": head.records if head.version == VERSION else None,
        "bytes": size,
        "encrypted": head.encrypted if head.version == VERSION else None,
        "key_id": head.key_id,
        "settings": None,
        "classes": None,
        "labels": None,
        "boxes": None,
        "splits": None,
    }
    if index is not None:
        tables = {name: split.table for name, split in index.splits.items()}
        facts["settings"] = index.settings.as_dict()
        facts["classes"] = list(next(iter(tables.values())).class_names) if tables else []
        facts["labels"] = sum(len(table) for table in tables.values())
        facts["boxes"] = sum(len(table.boxes) for table in tables.values())
        facts["splits"] = {name: len(table) for name, table in tables.items()}
    return facts


def _print(facts: dict[str, Any]) -> None:
    settings = facts["settings"]
    rows = [("Path", facts["path"]), ("Version", facts["version"])]
    if settings is not None:
        rows.append(("Format", settings["dataset_format"]))
    if facts["images"] is not None:
        rows.append(("Images", f"{facts['images']:,}"))
    if settings is not None:
        size, kind = settings["size"], settings["picture_format"]
        rows.append(("Size", "original" if size is None else f"{size[0]}x{size[1]}"))
        rows.append(("Cache Format", f"jpeg (quality: {settings['quality']})" if kind == "jpeg" else "raw (LZ4)"))
    if facts["encrypted"] is not None:
        rows.append(("Encrypted", f"Yes (key id: {facts['key_id']})" if facts["encrypted"] else "No"))
    if settings is not None:
        rows.append(("Labels", f"{facts['labels']:,}"))
        rows += [(name.capitalize(), f"{count:,} images") for name, count in facts["splits"].items()]
    rows.append(("On disk", f"{facts['bytes']:,} bytes"))
    click.echo("Cache Information")
    click.echo(_LINE)
    for name, text in rows:
        click.echo(f"  {name + ':':<12} {text}")
    click.echo(_LINE)
