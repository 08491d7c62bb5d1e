"""The running means of an epoch, which Lightning forgets when a run stops within one."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer


def running_values(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Return what the training steps of the present epoch have logged so far, by name: sums and what they are of."""
    return {
        metric.meta.name: {
            "key": key,
            "value": metric.value.detach().clone(),
            "count": metric.cumulated_batch_size.detach().clone() if metric.meta.is_mean_reduction else None,
            "mean_is": metric.meta.forked_name(on_step=False),
            "logged": metric.meta.logger,
        }
        for key, metric in trainer.fit_loop.epoch_loop._results.items()
        if metric.is_tensor and metric.meta.on_epoch and not metric.has_reset and metric.meta.fx == "training_step"
    }


def add_running_values(trainer: Trainer, values: dict[str, dict[str, Any]]) -> None:
    """Put the values of an interrupted epoch under those of its first batch after the interruption."""
    results = trainer.fit_loop.epoch_loop._results
    for saved in values.values():
        metric = results.get(saved["key"])
        if metric is None or not metric.is_tensor:
            continue
        value = saved["value"].to(metric.value.device)
        if metric.meta.is_mean_reduction:
            metric.value = value + metric.value
            metric.cumulated_batch_size = saved["count"].to(metric.value.device) + metric.cumulated_batch_size
        elif metric.meta.is_sum_reduction:
            metric.value = value + metric.value
        else:
            metric.value = metric.meta.reduce_fx(value, metric.value)
        metric._computed = None


def log_running_values(trainer: Trainer, module: LightningModule, values: dict[str, dict[str, Any]]) -> None:
    """Log the values of an epoch that was interrupted after its last batch, as its end would have."""
    for name, saved in values.items():
        value = saved["value"].to(module.device)
        count = saved["count"]
        synchronise = trainer.world_size > 1
        if count is not None:
            count = count.to(module.device)
            if synchronise:
                value, count = (trainer.strategy.reduce(item, reduce_op="sum") for item in (value, count))
            value = value / count
        module.log(saved["mean_is"], value, logger=saved["logged"])
        trainer.callback_metrics[name] = value
