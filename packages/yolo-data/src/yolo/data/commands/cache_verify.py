"""``yolo cache-verify``: whether a cache is what was written."""

from __future__ import annotations

from pathlib import Path

import click

from yolo.data.commands.cache_options import cache_dir, environment_key, show_progress

_SHOWN = 20


@click.command("cache-verify")
@cache_dir
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
@click.pass_context
def cache_verify(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Check every image of a cache.

    Reads, authenticates and decodes every record, and names the images whose record is damaged. The exit code is 1
    when there is one. The key of an encrypted cache comes from YOLO_ENCRYPTION_KEY.
    """
    from yolo.cli.output import note, print_json, print_table
    from yolo.data.cache.verify import verify_cache

    report = verify_cache(folder, environment_key(), show_progress)
    if as_json:
        print_json({"path": str(folder), **report.as_dict()})
        ctx.exit(report.exit_code)
    if report.damaged:
        print_table(("Image", "Damage"), [(one.path, one.reason) for one in report.damaged[:_SHOWN]])
        if len(report.damaged) > _SHOWN:
            note(f"and {len(report.damaged) - _SHOWN:,} more; --json shows all")
    click.echo(f"Images: {report.records:,}, damaged: {len(report.damaged):,}")
    if report.damaged:
        note("Make the cache again: --data.cache_refresh true with 'yolo cache-create', or import it again.")
    ctx.exit(report.exit_code)
