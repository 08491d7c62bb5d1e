"""What yolo-data adds to the ``yolo`` command: loaders, formats and augmentations. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import AugmentationSpec, DatasetFormatSpec, ImageLoaderSpec, hookimpl


@hookimpl
def yolo_image_loaders() -> Iterator[ImageLoaderSpec]:
    """Image loaders."""
    yield ImageLoaderSpec(
        "default",
        target="yolo.data.loaders.default:DefaultImageLoader",
        summary="Decode any common format with Pillow.",
    )


@hookimpl
def yolo_dataset_formats() -> Iterator[DatasetFormatSpec]:
    """Dataset formats."""
    yield DatasetFormatSpec("coco", target="yolo.data.formats.coco:load_coco", summary="COCO json annotations.")
    yield DatasetFormatSpec("yolo", target="yolo.data.formats.yolo:load_yolo", summary="YOLO txt label files.")
    yield DatasetFormatSpec(
        "synthetic",
        target="yolo.data.synthetic:load_synthetic",
        summary="Shapes and glyphs, drawn on first use: the quickstart's data.",
    )


@hookimpl
def yolo_augmentations() -> Iterator[AugmentationSpec]:
    """Augmentations."""
    yield AugmentationSpec(
        "mosaic", target="yolo.data.augment.mosaic:Mosaic", summary="Four images around a random centre.", stage="mix"
    )
    yield AugmentationSpec(
        "affine",
        target="yolo.data.augment.affine:RandomAffine",
        summary="Rotation, zoom, shear, shift and perspective in one warp.",
    )
    yield AugmentationSpec("hsv", target="yolo.data.augment.hsv:RandomHSV", summary="Hue, saturation and brightness.")
    yield AugmentationSpec("flip", target="yolo.data.augment.flip:RandomFlip", summary="Mirror images.")
