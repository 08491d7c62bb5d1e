"""The resolved configuration, saved in the run folder."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.core.files import write_atomically
from yolo.data.encryption.keys import hide_keys
from yolo.training.runs import run_folder


class ConfigCallback(Callback):
    """Writes ``config.yaml``, without keys, into the run folder, never into the user's working folder.

    Args:
        parser: the parser the configuration came from.
        config: the parsed configuration.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self.text = hide_keys(parser.dump(config, skip_unset=False))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file before the training starts."""
        if trainer.is_global_zero and stage == "fit":
            write_atomically(run_folder(trainer) / "config.yaml", self.text.encode())
