"""Optimisers and their parameter groups."""

from yolo.training.optim.build import build_optimizer

__all__ = ["build_optimizer"]
