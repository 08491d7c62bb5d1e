"""`yolo ray fit`: options of its own, and everything else for `yolo fit`."""

from __future__ import annotations

import click

# What is none of our options passes through, as `--data.root X`, `--trainer.max_epochs=3`, and all behind `--`.
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True}


@click.group("ray")
def ray_group() -> None:
    """Train on a Ray cluster, or on a local Ray that lives as long as the command."""


@ray_group.command("fit", context_settings=_PASS_ON, short_help="Train with several worker processes under Ray.")
@click.option("--num-workers", required=True, type=click.IntRange(1), help="Processes that train together.")
@click.option(
    "--address",
    default="local",
    show_default=True,
    help="'local' starts a Ray of its own on this machine; 'auto' or HOST:PORT joins a running cluster.",
)
@click.option("--use-gpu", is_flag=True, help="Give every worker a GPU.")
@click.option("--cpus-per-worker", default=1, show_default=True, type=click.IntRange(1), help="Cores to reserve.")
@click.option(
    "--gpus-per-worker", default=1, show_default=True, type=click.IntRange(1), help="GPUs to reserve, with --use-gpu."
)
@click.option("--storage", help="Folder or URI where Ray keeps metrics and checkpoints.  [default: runs/ray]")
@click.option(
    "--max-failures",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="How often lost workers are started again, from the last checkpoint.",
)
@click.option(
    "--start-timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Seconds to wait for nodes and workers.",
)
@click.argument("fit_options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF 'yolo fit']...")
def fit(
    *,
    num_workers: int,
    address: str,
    use_gpu: bool,
    cpus_per_worker: int,
    gpus_per_worker: int,
    storage: str | None,
    max_failures: int,
    start_timeout: float,
    fit_options: tuple[str, ...],
) -> None:
    """Train a detector with several worker processes under Ray.

    Every other option goes to 'yolo fit' as it is ('yolo fit --help' lists them). Working folder and data must be seen
    under the same path on all nodes. The run folder is that of 'yolo fit', in the working folder.
    """
    # Imported here, so that the help is as quick as any other.
    from yolo_ray.launch import launch
    from yolo_ray.options import RayOptions

    launch(
        RayOptions(
            num_workers=num_workers,
            address=address,
            gpus_per_worker=gpus_per_worker if use_gpu else 0,
            cpus_per_worker=cpus_per_worker,
            storage=storage,
            max_failures=max_failures,
            start_timeout=start_timeout,
        ),
        fit_options,
    )
