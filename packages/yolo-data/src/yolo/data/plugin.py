"""What yolo-data adds to ``yolo``: loaders, formats, augmentations and commands. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import AugmentationSpec, CommandSpec, DatasetFormatSpec, ImageLoaderSpec, hookimpl


@hookimpl
def yolo_image_loaders() -> Iterator[ImageLoaderSpec]:
    """Image loaders."""
    yield ImageLoaderSpec(
        "default",
        target="yolo.data.loaders.default:DefaultImageLoader",
        summary="Decode any common format with Pillow.",
    )
    yield ImageLoaderSpec(
        "fast",
        target="yolo.data.loaders.fast:FastImageLoader",
        summary="Decode JPEG and PNG with OpenCV, large files from mapped memory.",
    )
    yield ImageLoaderSpec(
        "turbojpeg",
        target="yolo.data.loaders.turbojpeg:TurboJPEGLoader",
        summary="Decode JPEG with libjpeg-turbo, OpenCV where it is missing.",
    )
    yield ImageLoaderSpec(
        "encrypted",
        target="yolo.data.loaders.encrypted:EncryptedImageLoader",
        summary="Decrypt .enc images in memory.",
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
    """Augmentations, in the order in which they happen."""
    package = "yolo.data.augment"
    mixes = {
        "letterbox": ("letterbox:LetterBox", "One image, fitted into the middle."),
        "mosaic": ("mosaic:Mosaic", "Four images around a random centre."),
        "mosaic9": ("mosaic9:Mosaic9", "Nine images in a grid around a random middle."),
        "bbox_mosaic": ("bbox_mosaic:BBoxMosaic", "Four whole documents, each turned on its own, none cut off."),
        "mixup": ("mixup:MixUp", "Two mosaics blended, with the boxes of both."),
        "cutmix": ("cutmix:CutMix", "A region of another image pasted in."),
    }
    samples = {
        "perspective": ("affine:RandomPerspective", "Rotation, zoom, shear, shift and perspective in one warp."),
        "hsv": ("hsv:RandomHSV", "Hue, saturation and brightness."),
        "flip": ("flip:RandomFlip", "Mirror images."),
    }
    for name, (target, summary) in mixes.items():
        yield AugmentationSpec(name, target=f"{package}.{target}", summary=summary, stage="mix")
    for name, (target, summary) in samples.items():
        yield AugmentationSpec(name, target=f"{package}.{target}", summary=summary)


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Commands."""
    yield CommandSpec(
        "data", target="yolo.data.commands.group:data", summary="Check data sets, encrypt and decrypt their images."
    )
    yield CommandSpec(
        "visualize-aug",
        target="yolo.data.commands.visualize:visualize_aug",
        summary="Draw augmented training samples with their boxes.",
    )
    caches = {
        "create": "Make the cache of a data set without training.",
        "export": "Write a cache into one archive.",
        "import": "Unpack a cache from an archive.",
        "info": "Show what is in a cache.",
        "verify": "Check every image of a cache.",
        "rekey": "Change the key of an encrypted cache.",
    }
    for name, summary in caches.items():
        target = f"yolo.data.commands.cache_{name}:cache_{name}"
        yield CommandSpec(f"cache-{name}", target=target, summary=summary)
