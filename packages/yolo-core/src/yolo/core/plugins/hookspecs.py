"""The seven hooks of the pluggy project ``yolo``, one per kind of thing that a plugin may add.

A plugin implements any of them in a light module and names that module in its ``pyproject.toml``::

    [project.entry-points."yolo.plugins"]
    rain = "yolo_rain.plugin"

Each hook takes no arguments and yields records of one type. Import nothing heavy in that module: the records hold
strings, and the things themselves are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pluggy

from .records import (
    AugmentationSpec,
    CommandSpec,
    ConfigSpec,
    DatasetFormatSpec,
    ExportBackendSpec,
    ImageLoaderSpec,
    LRSchedulerSpec,
    PluginSpec,
)

PROJECT = "yolo"

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of the hook of the same name."""

_hookspec = pluggy.HookspecMarker(PROJECT)


@_hookspec
def yolo_image_loaders() -> Iterable[ImageLoaderSpec]:
    """Add ways to read an image.

    Example::

        from yolo.core.plugins import ImageLoaderSpec, hookimpl

        @hookimpl
        def yolo_image_loaders():
            yield ImageLoaderSpec("raw16", target="my_plugin.loader:Raw16Loader", summary="16-bit camera files.")
    """
    return ()


@_hookspec
def yolo_dataset_formats() -> Iterable[DatasetFormatSpec]:
    """Add layouts of images and labels.

    Example::

        from yolo.core.plugins import DatasetFormatSpec, hookimpl

        @hookimpl
        def yolo_dataset_formats():
            yield DatasetFormatSpec("voc", target="my_plugin.voc:load", summary="Pascal VOC XML files.")
    """
    return ()


@_hookspec
def yolo_augmentations() -> Iterable[AugmentationSpec]:
    """Add random changes of training images.

    Example::

        from yolo.core.plugins import AugmentationSpec, hookimpl

        @hookimpl
        def yolo_augmentations():
            yield AugmentationSpec("rain", target="yolo_rain.augment:Rain", summary="Synthetic rain streaks.")
    """
    return ()


@_hookspec
def yolo_lr_schedulers() -> Iterable[LRSchedulerSpec]:
    """Add learning-rate schedules.

    Example::

        from yolo.core.plugins import LRSchedulerSpec, hookimpl

        @hookimpl
        def yolo_lr_schedulers():
            yield LRSchedulerSpec("wsd", target="my_plugin.wsd:WSD", summary="Warm-up, stable, decay.")
    """
    return ()


@_hookspec
def yolo_export_backends() -> Iterable[ExportBackendSpec]:
    """Add file formats to export to.

    Example::

        from yolo.core.plugins import ExportBackendSpec, hookimpl

        @hookimpl
        def yolo_export_backends():
            yield ExportBackendSpec(
                "openvino",
                target="my_plugin.openvino:Backend",
                summary="OpenVINO IR.",
                suffix=".xml",
                requires=("openvino",),
                extra="openvino",
                runtime="my_plugin.openvino:Runtime",
            )
    """
    return ()


@_hookspec
def yolo_commands() -> Iterable[CommandSpec]:
    """Add subcommands of ``yolo``.

    Example::

        from yolo.core.plugins import CommandSpec, hookimpl

        @hookimpl
        def yolo_commands():
            yield CommandSpec("rain-preview", target="yolo_rain.preview:preview", summary="Show rain on an image.")
    """
    return ()


@_hookspec
def yolo_configs() -> Iterable[ConfigSpec]:
    """Add configurations that users name instead of a path.

    Example::

        from yolo.core.plugins import ConfigSpec, hookimpl

        @hookimpl
        def yolo_configs():
            yield ConfigSpec("drone", target="my_plugin.configs:drone", summary="Small objects from above.")
    """
    return ()


HOOKS: Mapping[str, tuple[str, type[PluginSpec], str]] = {
    "image_loaders": ("yolo_image_loaders", ImageLoaderSpec, "image loader"),
    "dataset_formats": ("yolo_dataset_formats", DatasetFormatSpec, "dataset format"),
    "augmentations": ("yolo_augmentations", AugmentationSpec, "augmentation"),
    "lr_schedulers": ("yolo_lr_schedulers", LRSchedulerSpec, "learning-rate schedule"),
    "export_backends": ("yolo_export_backends", ExportBackendSpec, "export backend"),
    "commands": ("yolo_commands", CommandSpec, "command"),
    "configs": ("yolo_configs", ConfigSpec, "packaged configuration"),
}
"""Per kind: the hook, the type of its records, and what to call one of them in a sentence."""

KINDS: tuple[str, ...] = tuple(HOOKS)
"""The kinds of things that a plugin may add."""
