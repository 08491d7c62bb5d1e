"""``run.lock.json`` in the run folder: what a run was made of, and what it came to."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from yolo.core.files import write_atomically
from yolo.training.module import YOLOModule
from yolo.training.run_facts import (
    data_facts,
    file_facts,
    git_facts,
    hardware,
    shown_arguments,
    shown_settings,
    software,
    weight_facts,
)
from yolo.training.runs import run_folder, writes_files

logger = logging.getLogger(__name__)

FILE = "run.lock.json"
FORMAT = 1
_COMPARED = ("versions", "data", "settings", "hardware", "git")
_NOT_COMPARED = {"settings.ckpt_path", "git.changed"}
_MOST_TOLD = 4  # of a section
_LONGEST = 40  # characters of a value


class RunLock(Callback):
    """Writes the file before the first step, and at the end what the run came to.

    A resumed run keeps the file of the run, adds itself to its list of resumes, and says in one line what is different.

    Args:
        settings: the resolved configuration as YAML, without encryption keys.
        command: the command line.
    """

    def __init__(self, settings: str, command: Sequence[str]) -> None:
        self.settings = settings
        self.command = list(command)
        self._content: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known before the first step."""
        if not writes_files(trainer) or not isinstance(pl_module, YOLOModule):
            return
        facts = self._facts(trainer, pl_module)
        self._content = {**facts, "resumes": [], "ended": None}
        if pl_module.resume_from:
            self._content = _resumed(trainer, facts, Path(pl_module.resume_from))
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add how it ended."""
        self._end(trainer, _reason(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add what stopped it; the text of an error may show what is secret, its kind does not."""
        if isinstance(exception, (SystemExit, KeyboardInterrupt)):
            reason = str(exception) if getattr(exception, "reason", None) else "interrupted"
        else:
            reason = f"error: {type(exception).__name__}"
        with contextlib.suppress(OSError):  # a full disk may be what stopped it
            self._end(trainer, reason)

    def _facts(self, trainer: Trainer, module: YOLOModule) -> dict[str, Any]:
        settings = shown_settings(yaml.safe_load(self.settings))
        facts = {
            "format": FORMAT,
            "started": _now(),
            "command": shown_arguments(self.command),
            "folder": str(Path.cwd()),
            "git": git_facts(Path.cwd()),
            "seed": settings.get("seed_everything"),
            "settings": settings,
            "versions": software(),
            "hardware": hardware(trainer),
            "data": data_facts(module),
            "weights": weight_facts(module),
        }
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain

    def _end(self, trainer: Trainer, reason: str) -> None:
        if self._content is None:
            return
        self._content["ended"] = {
            "time": _now(),
            "reason": reason,
            "epochs": int(trainer.fit_loop.epoch_progress.current.completed),
            "steps": int(trainer.global_step),
            "best": _best(trainer),
        }
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        text = json.dumps(self._content, indent=2, ensure_ascii=False)
        write_atomically(run_folder(trainer) / FILE, f"{text}\n".encode())


def read_lock(path: Path) -> dict[str, Any] | None:
    """Read a lock; None where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what is different in two locks: dotted name -> [old value, new value]."""
    before, after = (_flat({name: lock.get(name) for name in _COMPARED}) for lock in (old, new))
    names = [name for name in {**before, **after} if name not in _NOT_COMPARED]
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def told(found: Mapping[str, Sequence[Any]]) -> str:
    """Describe differences in one line."""
    parts = []
    for section in _COMPARED:
        names = [name for name in found if name == section or name.startswith(f"{section}.")]
        texts = [
            f"{name.removeprefix(f'{section}.')} {_short(found[name][0])} -> {_short(found[name][1])}" for name in names
        ]
        if len(texts) > _MOST_TOLD:
            texts[_MOST_TOLD:] = [f"{len(texts) - _MOST_TOLD} more"]
        if texts:
            parts.append(f"{section}: {', '.join(texts)}")
    return "; ".join(parts)


def _resumed(trainer: Trainer, facts: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the lock of the run with one more resume; that of another folder stays there, and is compared with."""
    own = read_lock(run_folder(trainer) / FILE)
    first = own or read_lock(checkpoint.absolute().parent.parent / FILE)
    found = differences(first, facts) if first is not None else {}
    if found:
        logger.warning("Resumed with other %s (all of it is in %s)", told(found), FILE)
    resume = {
        "started": facts["started"],
        "command": facts["command"],
        "checkpoint": file_facts(checkpoint) if checkpoint.is_file() else {"path": str(checkpoint)},
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "after": own["ended"] if own else None,
        "differences": found,
    }
    return {**(own or facts), "resumes": [*(own["resumes"] if own else []), resume], "ended": None}


def _reason(trainer: Trainer) -> str:
    epochs = trainer.fit_loop.epoch_progress.current.completed
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        return "max_epochs"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return "max_steps"
    stopping = [callback for callback in trainer.early_stopping_callbacks if isinstance(callback, EarlyStopping)]
    stopped = next((callback for callback in stopping if callback.stopped_epoch), None)
    return f"early stopping ({stopped.monitor})" if stopped else "stopped"


def _best(trainer: Trainer) -> dict[str, Any] | None:
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    saver = next((one for one in savers if one.monitor and one.best_model_score is not None), None)
    if saver is None:
        return None
    path = Path(saver.best_model_path)
    folder = run_folder(trainer)
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return {"metric": saver.monitor, "value": float(saver.best_model_score), "checkpoint": shown.as_posix()}  # type: ignore[arg-type]  # not None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= _flat(entry, f"{name}.{key}" if name else str(key))
    return found


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    if len(text) <= _LONGEST:
        return text
    return f"...{text[-_LONGEST:]}" if text.startswith("/") else f"{text[:12]}..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
