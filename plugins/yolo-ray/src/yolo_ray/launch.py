"""Start or join Ray, train, and tell in one line what went wrong."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from yolo.cli.output import note
from yolo.core.errors import UsageError, YoloError
from yolo.training.processes import OtherProcessError
from yolo_ray.options import RayOptions, check

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # lines that differ in numbers only are what a training prints
    # These would write everything that a worker prints or logs a second time.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else workers of `uv run yolo` make an environment of their own
}
# Of a Ray of our own. The first one is Ray's switch between a cluster and the loopback interface alone, on any system.
_LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away
    "RAY_worker_niceness": "0",  # trains as fast beside other programs as `yolo fit` does
}
_OBJECT_STORE = 100 * 2**20  # bytes; no data goes through it


def launch(options: RayOptions, args: Sequence[str]) -> None:
    """Train with several workers under Ray.

    Args:
        options: of Ray.
        args: for ``yolo fit``.

    Raises:
        UsageError: an option or a configuration key is wrong; Ray is not started then.
        YoloError: Ray cannot be had, or a worker failed.
    """
    check(options, args)
    with _ray(options) as ray:
        _wait_for_nodes(ray, options)
        result = _train(options, list(args))
    if result.checkpoint is not None:
        note(f"Ray keeps the last and the best checkpoint in {result.checkpoint.path}")


@contextmanager
def _ray(options: RayOptions) -> Iterator[Any]:
    """Start or join Ray, and leave it."""
    local = options.address == "local"
    for name, value in (_ENVIRONMENT | (_LOCAL_ENVIRONMENT if local else {})).items():
        os.environ.setdefault(name, value)
    if not sys.stdout.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    if local:  # or Ray would write a token into the user's home
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(options.start_timeout)
    try:
        import ray
    except ImportError as error:
        raise YoloError(f"Ray is not installed here ({error}): pip install 'ray[train]'") from error
    settings: dict[str, Any] = {"runtime_env": {"worker_process_setup_hook": "yolo_ray.quiet.quiet"}}
    if local:
        cores = max(os.cpu_count() or 1, options.num_workers * options.cpus_per_worker)
        settings |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    _start(ray, options, settings)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, options: RayOptions, settings: dict[str, Any]) -> None:
    """Start or join Ray; on a busy machine it does not always succeed at once."""
    deadline = time.monotonic() + options.start_timeout
    local = options.address == "local"
    while True:
        try:
            if not local:
                _knock(options.address)
            ray.init(address=options.address, logging_level="warning", **settings)
            return
        except Exception as error:  # of no kind in particular, where a service of Ray is slow
            ray.shutdown()
            if not local:
                raise UsageError(
                    f"--address {options.address}: no Ray cluster can be joined from here ({_first_line(error)}); "
                    "start one with 'ray start --head', or leave --address out"
                ) from error
            if isinstance(error, (ValueError, TypeError)) or time.monotonic() > deadline:
                raise YoloError(f"Ray could not be started: {_first_line(error)}") from error


def _knock(address: str) -> None:
    """Raise OSError when nobody answers at an address; Ray itself would try for five minutes."""
    try:
        from ray._private.services import canonicalize_bootstrap_address
    except ImportError:  # it is private to Ray, and may move
        return
    found = canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("no cluster is running here")
    host, _, port = found.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _wait_for_nodes(ray: Any, options: RayOptions) -> None:
    """Wait until the cluster is large enough; Ray itself would wait for ever."""
    needed = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    total = {name: count * options.num_workers for name, count in needed.items()}
    deadline = time.monotonic() + (0 if options.address == "local" else options.start_timeout)
    while True:
        there = ray.cluster_resources()
        missing = [name for name, count in total.items() if there.get(name, 0) < count]
        if not missing:
            return
        if time.monotonic() > deadline:
            name = missing[0]
            raise YoloError(
                f"--num-workers {options.num_workers} with {needed[name]} {name}s each needs {total[name]} {name}s, "
                f"and there are {there.get(name, 0):g}: take fewer workers, or add nodes"
            )
        time.sleep(1)


def _train(options: RayOptions, args: list[str]) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from yolo_ray.worker import work

    # A name that exists would go on where that run stopped.
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    pointer = None if "://" in options.storage_path else str(Path(options.storage_path, name, "run.json"))
    resources: dict[str, float] = {"CPU": options.cpus_per_worker}
    if options.gpus_per_worker:
        resources["GPU"] = options.gpus_per_worker
    trainer = TorchTrainer(
        work,
        train_loop_config={"args": args, "folder": str(Path.cwd()), "pointer": pointer},
        scaling_config=ScalingConfig(
            num_workers=options.num_workers, use_gpu=options.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=name,
            storage_path=options.storage_path,
            checkpoint_config=CheckpointConfig(num_to_keep=1),  # each holds the last and the best
            failure_config=FailureConfig(max_failures=options.max_failures, controller_failure_limit=0),
        ),
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except ray_errors() as error:
        raise _told(error) from error
    except SystemExit as error:
        if error.code:
            raise
        raise KeyboardInterrupt from error  # how Ray's own handler of an interrupt ends, once the workers are stopped
    finally:
        signal.signal(signal.SIGINT, handler)


def ray_errors() -> tuple[type[Exception], ...]:
    """What a training under Ray ends with when it fails."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    return (TrainingFailedError, RayError)


def _told(error: Exception) -> YoloError:
    """Choose the failure that says most: a worker that is lost or confused makes the others fail, too."""
    failures = getattr(error, "worker_failures", None)
    if not failures:
        return YoloError(f"Ray gave up: {_first_line(getattr(error, 'controller_failure', error))}")
    rank, failure = min(failures.items(), key=lambda item: (_is_collateral(item[1]), item[0]))
    if isinstance(failure, YoloError):
        return failure
    return YoloError(
        f"worker {rank} failed: {type(failure).__name__}: {_first_line(failure)} ('yolo --debug ray fit ...' shows the "
        "worker's traceback)"
    )


def _is_collateral(failure: BaseException) -> bool:
    if isinstance(failure, YoloError):
        return isinstance(failure, OtherProcessError)
    text = str(failure).lower()
    return any(word in text for word in ("connection closed", "connection reset", "gloo", "nccl", "socket"))


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
