"""Callbacks of a training run; those that exist in every run are set by name (``--ema.decay``, ...)."""

from yolo.training.callbacks.checkpoint import YOLOCheckpoint
from yolo.training.callbacks.dashboard import EvalDashboardCallback
from yolo.training.callbacks.early_stopping import YOLOEarlyStopping
from yolo.training.callbacks.ema import EMACallback
from yolo.training.callbacks.guard import NonFiniteError, NonFiniteGuard
from yolo.training.callbacks.interrupt import InterruptCallback, Stopped
from yolo.training.callbacks.pictures import TrainingPictures
from yolo.training.callbacks.plots import MetricPlots
from yolo.training.callbacks.progress import YOLOProgressBar
from yolo.training.callbacks.rates import RateCurves
from yolo.training.callbacks.record import RunRecord
from yolo.training.callbacks.resume_point import ResumePoint
from yolo.training.callbacks.selftest import DeviceSelfTest, SelfTestError
from yolo.training.callbacks.summary import TrainingSummaryCallback

__all__ = [
    "DeviceSelfTest",
    "EMACallback",
    "EvalDashboardCallback",
    "InterruptCallback",
    "MetricPlots",
    "NonFiniteError",
    "NonFiniteGuard",
    "RateCurves",
    "ResumePoint",
    "RunRecord",
    "SelfTestError",
    "Stopped",
    "TrainingPictures",
    "TrainingSummaryCallback",
    "YOLOCheckpoint",
    "YOLOEarlyStopping",
    "YOLOProgressBar",
]
