"""Learning-rate schedules: a curve, and the warm-up in front of it."""

from yolo.training.schedulers.course import Course, plan_course
from yolo.training.schedulers.length import TrainingLength
from yolo.training.schedulers.warmup import WarmupSchedule, build_schedule

__all__ = ["Course", "TrainingLength", "WarmupSchedule", "build_schedule", "plan_course"]
