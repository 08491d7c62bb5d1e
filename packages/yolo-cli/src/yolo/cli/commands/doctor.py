"""``yolo doctor``: is this installation able to work?"""

from __future__ import annotations

from dataclasses import asdict

import click

from yolo.core.plugins import get_manager

from ..diagnosis import Finding, devices, limits, plugin_states, versions
from ..output import note, print_json, print_table


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check versions, devices, plugins and limits of the system.

    Ends with 1 when something cannot work; a warning alone ends with 0. Add the output to a report of a problem.
    """
    plugins = get_manager().plugins
    findings = [*versions(plugins), *devices(), *plugin_states(plugins), *limits()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.level == "failed" for finding in findings):
        ctx.exit(1)


def _print(findings: list[Finding]) -> None:
    for section in dict.fromkeys(finding.section for finding in findings):
        rows = [(f.name, f.value, f.level) for f in findings if f.section == section]
        print_table((section, "Found", "Status"), rows)
        click.echo()
    troubled = [finding for finding in findings if finding.level != "ok"]
    for finding in troubled:
        click.echo(f"{finding.level}: {finding.name}: {finding.value}. {finding.hint}")
    note("Everything looks fine." if not troubled else f"{len(troubled)} finding(s) need attention.")
