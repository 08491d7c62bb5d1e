"""``yolo cache-import``: a cache out of an archive."""

from __future__ import annotations

from pathlib import Path

import click

from yolo.data.commands.cache_options import show_progress


@click.command("cache-import")
@click.option(
    "--archive", required=True, type=click.Path(path_type=Path), help="Archive that 'yolo cache-export' wrote."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=".",
    help="Folder to put the cache into: data.root, or data.cache_dir.",
)
@click.option("--force", is_flag=True, help="Replace the cache that is there, once the new one was checked.")
def cache_import(archive: Path, output: Path, force: bool) -> None:
    """Unpack a cache from an archive.

    The archive may come from anywhere: what is not exactly a cache is refused, nothing is ever written outside the
    folder, and the cache appears there only when it is complete and its hash was found to be right.
    """
    from yolo.cli.output import note
    from yolo.data.cache.archive import import_cache
    from yolo.data.cache.head import read_head

    folder = import_cache(archive, output, force=force, track=show_progress)
    head = read_head(folder)
    images = "" if head is None else f", {head.records:,} images"
    key = "" if head is None or not head.encrypted else f", encrypted (key id {head.key_id})"
    click.echo(f"Unpacked: {folder}{images}{key}")
    encrypt = " --data.cache_encrypt true" if key else ""
    note(f"Train from it with: --data.root {output} --data.cache_images disk --data.cache_only true{encrypt}")
