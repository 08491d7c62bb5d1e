"""Optimisers and their parameter groups."""

from yolo.training.optim.build import build_optimizer, check_optimizer, settle_groups

__all__ = ["build_optimizer", "check_optimizer", "settle_groups"]
