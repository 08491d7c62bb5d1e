"""``yolo fit``: Lightning's command line, with our defaults and callbacks set by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, dict_to_namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from yolo.core.errors import UsageError
from yolo.core.weights.bundle import read_checkpoint
from yolo.data.config_files import check_retired, option_keys, read_config, refuse_data_file, settle_image_size
from yolo.data.encryption.keys import without_keys
from yolo.data.option_errors import refused_class, tell_plainly
from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.callback_list import NAMED_CALLBACKS, answer_place_in_list, merge_callbacks, settle_listed
from yolo.training.callbacks.interrupt import Stopped, interruptible
from yolo.training.callbacks.plots import MetricPlots
from yolo.training.configs import expand_config_names
from yolo.training.datamodule import YOLODataModule
from yolo.training.logger_config import (
    agree_on_versions,
    continue_loggers,
    default_logger,
    keep_metrics,
    logger_entries,
)
from yolo.training.memory import memory_hints
from yolo.training.module import YOLOModule
from yolo.training.processes import ending_together, one_voice
from yolo.training.run_lock import RunLock
from yolo.training.runs import check_place, go_on_in_folder, no_empty_folder
from yolo.training.saved_config import ConfigCallback
from yolo.training.trainer_options import check_sections, check_seed, check_trainer, naming_the_option


class YOLOCLI(LightningCLI):
    """Parse the options of a training, and build trainer, module and data from them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks of every run, and the checkpoint to resume from."""
        for name, kind in NAMED_CALLBACKS.items():
            parser.add_lightning_class_args(kind, name)
        parser.dump = _without_settings(parser.dump)  # which --print_config shows
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint of a run to resume.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; Lightning's own method warns that ``sys.argv`` holds other arguments, which is how we are called."""
        tell_plainly(parser, list(args))
        check_sections(args, ("trainer", *NAMED_CALLBACKS))
        self.config = parser.parse_args(list(args))
        check_trainer(self.config.trainer)
        check_seed(self.config.seed_everything)
        settle_listed(self.config, list(args))
        self._given = list(args)

    def before_instantiate_classes(self) -> None:
        """Let the image size stand under model, and find the run to resume."""
        _share_settings(self.config, self._given)
        path = self.config.ckpt_path
        if path is not None:
            if not Path(path).is_file():
                raise UsageError(f"--ckpt_path {path}: there is no such file")
            bundle = read_checkpoint(path)  # says clearly what is wrong with a file that is no checkpoint of ours
            self.resumed_step = int(bundle.extra.get("step", 0))
        if self.config.trainer.logger is True:
            self.config.trainer.logger = dict_to_namespace(default_logger())
        _settle_root(self.config)
        # What is recorded can start a new run: it names no folder of this one.
        self.recorded = self.config.clone()
        self.recorded.ckpt_path = None
        if path is not None:
            continue_loggers(self.config, Path(path))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        merged = merge_callbacks(
            config.pop("callbacks", None) or [],
            callbacks,
            checkpoints=config.get("enable_checkpointing") is not False,
            progress=config.get("enable_progress_bar") is not False,
        )
        saved = ConfigCallback(self.parser, self.recorded)
        config["callbacks"] = [*merged, MetricPlots(), saved, RunLock(saved.text, ["yolo", "fit", *self._given])]
        config["plugins"] = _with_atomic_checkpoints(config.get("plugins"))
        with naming_the_option(config):
            trainer = self.trainer_class(**config)
        agree_on_versions(trainer.loggers)
        if self.config.ckpt_path is not None:
            go_on_in_folder(trainer, Path(self.config.ckpt_path))
        return trainer


def _without_settings(dump: Callable[..., str]) -> Callable[..., str]:
    def hidden(cfg: Namespace, *args: Any, **kwargs: Any) -> str:
        shown = cfg.clone()
        for key in ("encryption_key", "image_loader"):
            shown.data[key] = without_keys({key: shown.data[key]})[key]
        return dump(shown, *args, **kwargs)

    return hidden


def make_cli(
    args: Sequence[str],
    kind: Callable[..., YOLOCLI] = YOLOCLI,
    *,
    command: str = "fit",
    description: str = (
        "Train a detector. 'yolo fit --dry-run' checks everything and trains nothing; "
        "'yolo fit --find-lr' looks for a learning rate first (--find-lr --help)."
    ),
) -> YOLOCLI:
    """Build trainer, module and data from options, without training.

    Args:
        args: everything behind ``yolo fit``.
        kind: what parses and builds.
        command: name of the command, for ``--help``.
        description: of the command.

    Raises:
        UsageError: an option or a configuration key is wrong.
    """
    made = partial(
        kind,
        YOLOModule,
        YOLODataModule,
        run=False,
        args=expand_config_names(args),
        save_config_callback=None,
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={
            "logger": default_logger(),
            "max_epochs": 500,
            "use_distributed_sampler": False,  # our samplers shard by themselves
            "enable_model_summary": False,  # our own says what counts, in one line
        },
        parser_kwargs={"prog": f"yolo {command}", "description": description, "allow_abbrev": False},
    )
    try:
        return made()
    except ValueError as error:  # a class that the configuration names refused to be made
        refused = refused_class(str(error))
        if refused is None:
            raise
        raise UsageError(refused) from error


def run_fit(args: Sequence[str], kind: Callable[..., YOLOCLI] = YOLOCLI) -> int:
    """Train as the options say, and return the exit code.

    Args:
        args: everything behind ``yolo fit``.
        kind: what parses and builds; a subclass builds the trainer for a launcher that is not Lightning's.

    Raises:
        UsageError: an option or a configuration key is wrong.
    """
    with one_voice():
        answer_old_options(args)
        cli = make_cli(args, kind)
        if cli.trainer.is_global_zero and not getattr(cli.trainer, "fast_dev_run", False):
            check_place(cli.trainer, cli.model.config)
    cli.model.resume_from = cli.config.ckpt_path
    if cli.config.ckpt_path is not None:
        keep_metrics(cli.trainer.loggers, before=cli.resumed_step)
    fit = partial(cli.trainer.fit, cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path)
    try:
        with (
            interruptible(cli.trainer),
            no_empty_folder(cli.trainer),
            ending_together(cli.trainer),
            memory_hints(cli.trainer, cli.datamodule),
        ):
            fit(weights_only=True)
    except Stopped as stopped:
        return stopped.code
    return 0


def _with_atomic_checkpoints(plugins: Any) -> list[Any]:
    listed = plugins if isinstance(plugins, list) else [plugins] if plugins else []
    return listed if any(isinstance(plugin, CheckpointIO) for plugin in listed) else [*listed, AtomicCheckpointIO()]


def _settle_root(config: Namespace) -> None:
    """Let ``trainer.default_root_dir`` hold the folder ``runs``, when that is where the logger writes."""
    for logger in logger_entries(config) if config.trainer.default_root_dir else []:
        if logger.init_args.get("save_dir") == "runs":
            logger.init_args.save_dir = str(Path(config.trainer.default_root_dir) / "runs")


def _share_settings(config: Namespace, args: Sequence[str]) -> None:
    """Let settings that model and data have in common be given once: image size, number of classes, seed."""
    if config.data.num_classes is None:
        config.data.num_classes = config.model.num_classes
    if config.data.seed is None:
        config.data.seed = int(config.seed_everything)
    given, own = config.model.image_size, config.data.image_size
    size = settle_image_size(given, own, _sources(args))
    config.data.image_size = tuple(size) if isinstance(size, list) else size
    if given is not None:  # so that what is recorded does not contradict itself
        config.model.image_size = list(size) if isinstance(size, tuple) else size


def _sources(args: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each configuration file says about model and data, and what the options behind them mention."""
    files = [read_config(arg.removeprefix("--config=")) for arg in args if arg.startswith("--config=")]
    names = {arg.partition("=")[0] for arg in args}
    sections = ("model", "data")
    # A whole section, `--data FILE`, may hold the size as well.
    given = [name for name in sections if names & {f"--{name}", f"--{name}.image_size"}]
    return [*files, {name: {"image_size": True} for name in given}]


def answer_old_options(args: Sequence[str]) -> None:
    """Raise UsageError for an option that was given up, or is another program's, saying what serves instead."""
    refuse_data_file(args)
    args = expand_config_names(args)
    answer_place_in_list(args)
    _answer_retired_keys(args)


def _answer_retired_keys(args: Sequence[str]) -> None:
    for arg in args:
        if arg.startswith("--config="):
            name = arg.removeprefix("--config=")
            check_retired(read_config(name).get("data") or {}, f"{name}: ")
    check_retired(option_keys(args), "--")
