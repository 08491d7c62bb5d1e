"""``yolo cache-rekey``: another key for an encrypted cache."""

from __future__ import annotations

import os
from pathlib import Path

import click

from yolo.core.errors import UsageError
from yolo.data.commands.cache_options import NEW_KEY, cache_dir, show_progress


@click.command("cache-rekey")
@cache_dir
def cache_rekey(folder: Path) -> None:
    """Change the key of an encrypted cache.

    The old key comes from YOLO_ENCRYPTION_KEY, the new one from YOLO_NEW_ENCRYPTION_KEY; no command takes a key as an
    option, where others could see it. Everything is encrypted anew, which needs room for a second cache meanwhile; the
    old cache is removed when the new one is complete. Copies and archives of it keep the old key.
    """
    from yolo.cli.output import note
    from yolo.data.cache.rekey import rekey_cache
    from yolo.data.encryption.keys import VARIABLE, find_key, parse_key

    old = find_key()
    text = os.environ.get(NEW_KEY)
    if text is None:
        raise UsageError(f"{NEW_KEY} is not set: it takes the new key, 64 hexadecimal characters")
    new = parse_key(text, source=NEW_KEY)
    rekey_cache(folder, old, new, track=show_progress)
    click.echo(f"The key of {folder} is now the one with the id {new.id} (it was {old.id}).")
    note(f"Set {VARIABLE} to the new key from now on.")
