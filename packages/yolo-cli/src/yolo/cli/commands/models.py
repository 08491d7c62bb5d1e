"""``yolo models``: the networks that come with the package, their layers, and their published weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from yolo.core.errors import UsageError
from yolo.core.models.spec import zoo_names
from yolo.core.weights.published import Published, published

from ..byte_bar import byte_bar
from ..output import note, print_json, print_table


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def models(ctx: click.Context, *, as_json: bool) -> None:
    """List the networks: family, size, published accuracy, and the licence of the published weights.

    Every one can be trained: 'yolo fit --model.model_config NAME'. 'yolo models show NAME' prints its layers, 'yolo
    models download NAME' fetches its published weights.
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise UsageError(f"--json belongs behind the command: yolo models {ctx.invoked_subcommand} ... --json")
        return
    known = [(name, published(name)) for name in zoo_names()]
    if as_json:
        print_json([_to_dict(name, facts) for name, facts in known])
        return
    columns = ("Model", "Family", "Parameters", "GFLOPs", "AP", "AP50", "AP75", "Licence of the weights")
    print_table(columns, [_row(name, facts) for name, facts in known])
    note("Parameters and GFLOPs: fused, 80 classes, 640x640. AP: as published (COCO val2017), not measured here.")


@models.command("show", short_help="Print the layers of a network with their shapes.")
@click.argument("model")
@click.option("--size", help="Input size of the shapes: 640, or width x height as 640x384.", show_default="640")
@click.option("--classes", type=click.IntRange(1), help="Number of classes.", show_default="80")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def show(*, model: str, size: str | None, classes: int | None, as_json: bool) -> None:
    """Print the layers of a network with the shapes of their outputs.

    MODEL is a name such as v9-c, a YAML file, or a file of weights (then size and classes are its own).
    """
    from .model_table import Description, describe

    found: Description = describe(model, size=size, classes=classes)
    if as_json:
        print_json(found.to_dict())
        return
    print_table(("Layer", "Tag", "Section", "Block", "From", "Arguments", "Output", "Parameters"), found.rows())
    click.echo()
    print_table((found.title(), "Parameters", "GFLOPs"), found.totals())


@models.command("download", short_help="Fetch published weights.")
@click.argument("name")
@click.option("--mirror", help="Address to fetch from instead; default: the environment variable YOLO_WEIGHTS_MIRROR.")
def download(*, name: str, mirror: str | None) -> None:
    """Fetch the published weights of a network into the cache folder, and print where they are.

    A download that was cut off goes on where it stopped. The folder is YOLO_HOME, else the user's cache folder.
    """
    from yolo.core.weights.download import fetch_weights

    facts = published(name)
    if facts is not None:
        note(facts.licence_line)
    with byte_bar(f"Downloading {name}") as report:
        path: Path = fetch_weights(name, mirror=mirror, progress=report)
    click.echo(str(path))


def _row(name: str, facts: Published | None) -> tuple[str, ...]:
    if facts is None:
        return (name, *["-"] * 6, "unknown")
    return (
        name,
        facts.family,
        f"{facts.parameters_m:8.1f} M",
        f"{facts.gflops:6.1f}",
        *(_number(value) for value in (facts.ap, facts.ap50, facts.ap75)),
        facts.licence or "unknown",
    )


def _number(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.1f}"


def _to_dict(name: str, facts: Published | None) -> dict[str, object]:
    return {"name": name, **({} if facts is None else asdict(facts))}
