"""Learning-rate schedules: a curve, and the warm-up in front of it."""

from yolo.training.schedulers.warmup import WarmupSchedule, build_schedule

__all__ = ["WarmupSchedule", "build_schedule"]
