"""``yolo cache-export``: a cache as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from yolo.data.commands.cache_options import cache_dir, show_progress


@click.command("cache-export")
@cache_dir
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Archive to write. Not set: the cache's name without its dot, here, such as yolo_cache_640x640_f1.0.tar.gz.",
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "none"]),
    default="gzip",
    show_default=True,
    help="none is faster, and with images that are compressed already hardly larger.",
)
@click.option("--force", is_flag=True, help="Replace an existing archive.")
def cache_export(folder: Path, output: Path | None, compression: Literal["gzip", "none"], force: bool) -> None:
    """Write a cache into one archive.

    The archive holds everything that training needs: images, labels, names and splits. What is encrypted stays
    encrypted, and no key is asked for; an archive of a cache that is not encrypted can be read by everybody.
    """
    from yolo.cli.output import note
    from yolo.data.cache.archive import export_cache
    from yolo.data.cache.head import read_head

    path = export_cache(folder, output, compression=compression, force=force, track=show_progress)
    click.echo(f"Written: {path}, {path.stat().st_size:,} bytes")
    head = read_head(folder)
    if head is not None and not head.encrypted:
        note("The cache is not encrypted: whoever has the archive sees the images.")
    note(f"Unpack it with: yolo cache-import --archive {path.name} --output FOLDER")
