"""``yolo doctor``: is this installation able to work?"""

from __future__ import annotations

from dataclasses import asdict

import click

from yolo.core.plugins import get_manager

from ..diagnosis import Finding, devices, limits, plugin_states, self_tests, versions
from ..output import note, print_json, print_table

_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@click.command("doctor")
@click.option("--self-test", "test", is_flag=True, help="Compute on a device and compare with the CPU.")
@click.option("--device", help="Device of the self-test: auto, cpu, cuda, cuda:1 or mps.  [default: auto]")
@click.option(
    "--precision", type=click.Choice(_PRECISIONS), multiple=True, help="Precision of the self-test.  [default: all]"
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def doctor(ctx: click.Context, *, test: bool, device: str | None, precision: tuple[str, ...], as_json: bool) -> None:
    """Check versions, devices, plugins and limits of the system.

    With --self-test, forward pass, loss, NMS and backward pass of a small network are computed on a device and compared
    with the CPU in float32.

    Ends with 1 when something cannot work; a warning alone ends with 0. Add the output to a report of a problem.
    """
    if (device or precision) and not test:
        raise click.UsageError("--device and --precision belong to --self-test.")
    plugins = get_manager().plugins
    findings = [*versions(plugins), *devices(), *plugin_states(plugins), *limits()]
    if test:
        findings += self_tests(device or "auto", precision or _PRECISIONS)
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
