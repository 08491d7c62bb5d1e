"""The resolved configuration, saved in the run folder and given to loggers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from yolo.core.files import write_atomically
from yolo.data.encryption.keys import hide_keys
from yolo.training.runs import run_folder, writes_files


class ConfigCallback(Callback):
    """Writes ``config.yaml``, without keys, into the run folder, never into the user's working folder.

    Loggers get the same as hyperparameters (their own section, which may hold a key of theirs, left out), and
    TensorBoard as a text as well.

    Args:
        parser: the parser the configuration came from.
        config: the parsed configuration.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self.text = hide_keys(parser.dump(config, skip_unset=False))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file before the training starts."""
        if writes_files(trainer) and stage == "fit":
            write_atomically(run_folder(trainer) / "config.yaml", self.text.encode())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the configuration to the loggers."""
        if not trainer.is_global_zero:
            return
        settings = yaml.safe_load(self.text)
        settings.get("trainer", {}).pop("logger", None)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("config", _as_code(yaml.safe_dump(settings, sort_keys=False)), 0)
                _add_table(logger, settings)
            else:
                logger.log_hyperparams(settings)


def _as_code(text: str) -> str:
    """Indent a text so that TensorBoard, which reads Markdown, shows it as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _add_table(logger: TensorBoardLogger, settings: dict[str, Any]) -> None:
    """Fill TensorBoard's table of runs; Lightning's own way of doing it would log a metric that nobody measured."""
    from torch.utils.tensorboard.summary import hparams

    values = {key: value for section in settings for key, value in _flat(section, settings[section])}
    writer = logger.experiment._get_file_writer()
    for summary in hparams(values, {"val/mAP": 0.0}):  # type: ignore[no-untyped-call]  # torch has no types for it
        writer.add_summary(summary)


def _flat(name: str, value: Any) -> Iterator[tuple[str, bool | str | float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    elif value is not None:
        yield name, value if isinstance(value, (bool, int, float, str)) else str(value)
