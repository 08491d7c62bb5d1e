"""Evaluations as one HTML file that anybody can open: no server, no address, no library of others."""

from yolo.training.report.write import write_comparison, write_report

__all__ = ["write_comparison", "write_report"]
