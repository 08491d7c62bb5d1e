"""What yolo-data registers: everything loads, and finding it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from yolo.core.plugins import registry
from yolo.data import plugin
from yolo.data.loaders import ImageLoader


@pytest.mark.parametrize("spec", list(plugin.yolo_image_loaders()), ids=lambda spec: spec.name)
def test_loaders(spec) -> None:  # type: ignore[no-untyped-def]  # any record
    assert issubclass(registry("image_loaders").load(spec.name), ImageLoader)


@pytest.mark.parametrize("spec", list(plugin.yolo_dataset_formats()), ids=lambda spec: spec.name)
def test_formats(spec) -> None:  # type: ignore[no-untyped-def]  # any record
    assert callable(registry("dataset_formats").load(spec.name))


@pytest.mark.parametrize("spec", list(plugin.yolo_augmentations()), ids=lambda spec: spec.name)
def test_augmentations(spec) -> None:  # type: ignore[no-untyped-def]  # any record
    assert isinstance(registry("augmentations").load(spec.name), type)
    assert registry("augmentations").get(spec.name) == spec


def test_finding_plugins_and_the_config_import_nothing_heavy() -> None:
    code = (
        "import sys, yolo.data.plugin, yolo.data.config; "
        "print(sorted({'torch', 'numpy', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
