"""``yolo plugins``: what is installed, what it adds, and what is broken."""

from __future__ import annotations

from dataclasses import asdict

import click

from yolo.core.errors import UsageError
from yolo.core.plugins import HOOKS, PluginRecord, PluginSpec, get_manager
from yolo.core.plugins.suggest import unknown_name

from ..output import print_json, print_table


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with the tracebacks of broken plugins.")
@click.option("--hook", metavar="HOOK", help=f"Show one kind only: {', '.join(HOOKS)}.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool, hook: str | None) -> None:
    """List the installed plugins: name, distribution, version, what each adds, and whether it works.

    The status is ok, broken (with the error below the table; 'yolo --debug plugins' adds the traceback), conflict (a
    name that another plugin has too) or disabled (YOLO_DISABLE_PLUGINS, --no-plugins).
    """
    kind = None if hook is None else _kind(hook)
    records = get_manager().plugins
    if kind is not None:
        records = [record for record in records if record.adds.get(kind) or record.status != "ok"]
    if as_json:
        print_json([_to_dict(record, kind) for record in records])
        return
    if kind is None:
        rows = [(r.name, r.distribution, r.version, _adds(r), r.status) for r in records]
        print_table(("Plugin", "Distribution", "Version", "Adds", "Status"), rows)
    else:
        found = [(spec, record) for record in records for spec in record.adds.get(kind, ())]
        print_table(
            ("Name", "Distribution", "Version", "Status", "Details", "Summary"),
            [(s.name, r.distribution, r.version, r.status, _details(s), s.summary) for s, r in found],
        )
    _tell_errors(records, debug=bool(ctx.find_root().params.get("debug")))


def _kind(hook: str) -> str:
    """The kind that ``hook`` means; ``yolo_image_loaders`` and ``image-loaders`` are ``image_loaders`` too."""
    kind = hook.replace("-", "_").removeprefix("yolo_")
    if kind not in HOOKS:
        raise UsageError(f"--hook: {unknown_name('hook', hook, HOOKS)}")
    return kind


def _to_dict(record: PluginRecord, kind: str | None) -> dict[str, object]:
    plain = record.to_dict()
    if kind is not None:
        plain["adds"] = {key: specs for key, specs in plain["adds"].items() if key == kind}
    return plain


def _adds(record: PluginRecord) -> str:
    parts = []
    for kind, specs in record.adds.items():
        what = HOOKS[kind][2] + ("s" if len(specs) > 1 else "")
        parts.append(f"{what} {', '.join(spec.name for spec in specs)}")
    return "; ".join(parts) or "-"


def _details(spec: PluginSpec) -> str:
    """What the record says beyond name, target and summary: ``stage=sample``."""
    extra = {key: value for key, value in asdict(spec).items() if key not in ("name", "target", "summary") and value}
    return " ".join(f"{key}={','.join(value) if isinstance(value, tuple) else value}" for key, value in extra.items())


def _tell_errors(records: list[PluginRecord], *, debug: bool) -> None:
    for record in records:
        if record.error:
            click.echo(f"\n{record.name} ({record.dist}): {record.error}")
            if debug and record.traceback:
                click.echo(record.traceback.rstrip())
