"""Data small enough for many short trainings."""

from pathlib import Path

import pytest

from yolo.data.synthetic import ensure_synthetic


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four validation pictures of 64 pixels, in both layouts."""
    return ensure_synthetic(tmp_path_factory.mktemp("tiny") / "data", train=8, val=4, image_size=64)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer list of two heads that trains several times as fast as the smallest published network."""
    path = tmp_path_factory.mktemp("network") / "small.yaml"
    path.write_text(
        "name: small\n"
        "class_width: {per_class: 2, at_most: 128}\n"
        "backbone:\n"
        "  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}\n"
        "  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}}\n"
        "  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B3}\n"
        "  - AConv: {args: {out_channels: 16}, tags: B4}\n"
        "detection:\n"
        "  - MultiheadDetection: {source: [B3, B4], tags: Main}\n"
    )
    return path
