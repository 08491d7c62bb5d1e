"""The ``data:`` section of a configuration: one frozen dataclass that every command reads."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from yolo.core.errors import UsageError
from yolo.data.config_bbox import BBoxMosaicConfig
from yolo.data.encryption.keys import without_keys
from yolo.data.ranges import VIEW_LIMITS, at_least, one_of, positive, within

SPLITS = ("train", "val", "test")
_PROBABILITIES = ("mosaic_prob", "mosaic_9_prob", "mixup_prob", "cutmix_prob", "flip_lr", "flip_ud")
_RANGES = dict.fromkeys((*_PROBABILITIES, "hsv_h", "hsv_s", "hsv_v"), 1.0) | VIEW_LIMITS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images and labels are, and how they are fed to the network.

    Relative paths are relative to ``root``. Folders and files that are not set are looked for in the usual places of
    the format (``docs/how-to/datasets.md`` lists them).

    Args:
        root: Folder of the data set, or the path of a ``data.yaml``.
        format: Layout of the labels: ``coco``, ``yolo``, or a format that a plugin adds.
        train_images: Folder of the training images.
        val_images: Folder of the validation images.
        test_images: Folder of the test images.
        train_ann: COCO json of the training images.
        val_ann: COCO json of the validation images.
        test_ann: COCO json of the test images.
        train_labels: Folder of the YOLO label files of the training images.
        val_labels: Folder of the YOLO label files of the validation images.
        test_labels: Folder of the YOLO label files of the test images.
        train_split: Text file that lists the training images, one name or path a line.
        val_split: Text file that lists the validation images.
        test_split: Text file that lists the test images.
        num_classes: Number of classes to expect. Not set: taken from the data. A different number in the data is an
            error.
        image_size: Size of the network's input in pixels: one number, or ``[width, height]``. Multiples of 32. Not set:
            640.
        batch_size: Images a batch, per process.
        num_workers: Processes that load images; 0 loads in the main process.
        pin_memory: Keep batches in page-locked memory, from which a GPU copies faster.
        prefetch_factor: Batches that each worker prepares ahead.
        image_loader: What reads an image file: a registered name, or ``class_path`` and ``init_args`` of a subclass of
            ``yolo.data.loaders.ImageLoader``. Not set: ``default``.
        encryption_key: Key of encrypted images and caches, 64 hexadecimal characters. Not set: the environment variable
            ``YOLO_ENCRYPTION_KEY``. It is never printed and never saved.
        cache_labels: Read the labels from a cache where nothing has changed since they were parsed.
        cache_images: Keep the pictures decoded once in a cache: ``none``; ``disk``, read as needed; ``ram``, read into
            memory at the start. Both use the same files (``docs/how-to/cache.md``).
        cache_format: How pictures are kept: ``jpeg``, small; ``raw``, without any loss.
        jpeg_quality: Of the pictures in a ``jpeg`` cache, 1 to 100.
        cache_resize_images: Keep pictures no larger than ``image_size`` shows them. Not: in their original size.
        cache_dir: Folder of the caches. Not set: ``root``.
        cache_max_memory_gb: Largest cache that may be read into memory, GB.
        cache_workers: Threads that fill a cache. Not set: one for each core.
        cache_refresh: Build the caches anew, whatever is there.
        cache_sync: Make sure that a new cache is on the disk and not in a write buffer (some external volumes refuse).
        cache_encrypt: Encrypt the image cache with the encryption key.
        cache_only: Train from the cache alone: neither images nor labels need to be there.
        scaled_decode: Decode JPEG files at half, a quarter or an eighth of their size where a sample shows them smaller
            still.
        share_decoded: Take the other images of mosaics from the sample's own batch, so that each file of a batch is
            decoded once. Faster, with less variety.
        data_fraction: Share of the images of every class to train and validate on, above 0 to 1.
        mosaic_prob: Probability that a training sample is a mosaic.
        mosaic_9_prob: Probability that a mosaic has nine images and not four.
        mixup_prob: Probability that a mosaic is blended with another mosaic.
        mixup_alpha: Both parameters of the beta distribution of that blend; the larger, the nearer to half and half.
        cutmix_prob: Probability that a training sample that is no mosaic gets a region of another image.
        bbox_mosaic: Mosaics of whole documents, an object of each of four images.
        close_mosaic_epochs: Number of epochs at the end of training without mosaics and other mixes.
        degrees: Largest rotation, in degrees either way.
        translate: Largest shift, as a fraction of the image size.
        scale: Zoom range: the factor is drawn from ``1 - scale`` to ``1 + scale``.
        shear: Largest shear angle, in degrees either way.
        perspective: Largest perspective coefficient, 0 to 0.01 is sensible.
        hsv_h: Largest hue shift, as a fraction of the colour circle.
        hsv_s: Largest relative change of saturation.
        hsv_v: Largest relative change of brightness.
        flip_lr: Probability of a left-right flip.
        flip_ud: Probability of an upside-down flip.
        augmentations: Augmentations of plugins, each ``{use: name, p: probability, ...its own options}``.
        seed: Seed of every random choice in the data pipeline. Not set: the run's ``seed_everything``, else 0.
    """

    root: str = "data/coco"
    format: str = "coco"
    train_images: str | None = None
    val_images: str | None = None
    test_images: str | None = None
    train_ann: str | None = None
    val_ann: str | None = None
    test_ann: str | None = None
    train_labels: str | None = None
    val_labels: str | None = None
    test_labels: str | None = None
    train_split: str | None = None
    val_split: str | None = None
    test_split: str | None = None
    num_classes: int | None = None
    image_size: int | tuple[int, int] | None = None
    batch_size: int = 16
    num_workers: int = 8
    pin_memory: bool = True
    prefetch_factor: int = 4
    image_loader: str | dict[str, Any] | None = None
    encryption_key: str | None = field(default=None, repr=False)
    cache_labels: bool = True
    cache_images: Literal["none", "ram", "disk"] = "none"
    cache_format: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: int = 95
    cache_resize_images: bool = True
    cache_dir: str | None = None
    cache_max_memory_gb: float = 8.0
    cache_workers: int | None = None
    cache_refresh: bool = False
    cache_sync: bool = False
    cache_encrypt: bool = False
    cache_only: bool = False
    scaled_decode: bool = True
    share_decoded: bool = False
    data_fraction: float = 1.0
    mosaic_prob: float = 1.0
    mosaic_9_prob: float = 0.0
    mixup_prob: float = 0.15
    mixup_alpha: float = 32.0
    cutmix_prob: float = 0.0
    bbox_mosaic: BBoxMosaicConfig = field(default_factory=BBoxMosaicConfig)
    close_mosaic_epochs: int = 15
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.9
    shear: float = 0.0
    perspective: float = 0.0
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    flip_lr: float = 0.5
    flip_ud: float = 0.0
    augmentations: list[dict[str, Any]] = field(default_factory=list)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.root:
            raise UsageError("data.root is empty: give the folder of the data set")
        if not self.format:
            raise UsageError("data.format is empty: give coco, yolo, or a format that `yolo plugins` lists")
        if self.image_size is not None:
            _check_size(self.image_size)
        lowest: dict[str, int] = {"batch_size": 1, "prefetch_factor": 1, "num_workers": 0, "close_mosaic_epochs": 0}
        for key, low in (lowest | {"num_classes": 1, "seed": 0}).items():
            if key in lowest or getattr(self, key) is not None:
                at_least(f"data.{key}", getattr(self, key), low)
        for key, high in _RANGES.items():
            within(f"data.{key}", getattr(self, key), 0, high)
        positive("data.mixup_alpha", self.mixup_alpha, 1000)
        positive("data.data_fraction", self.data_fraction, 1)
        self._check_cache()
        object.__setattr__(self, "bbox_mosaic", BBoxMosaicConfig.of(self.bbox_mosaic))
        _check_augmentations(self.augmentations)

    def __repr__(self) -> str:
        shown = without_keys({item.name: getattr(self, item.name) for item in fields(self) if item.repr})
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _check_cache(self) -> None:
        one_of("data.cache_images", self.cache_images, ("none", "ram", "disk"))
        one_of("data.cache_format", self.cache_format, ("jpeg", "raw"))
        within("data.jpeg_quality", self.jpeg_quality, 1, 100)
        positive("data.cache_max_memory_gb", self.cache_max_memory_gb, 1e6)
        if self.cache_workers is not None:
            at_least("data.cache_workers", self.cache_workers, 1)
        if self.cache_only and self.cache_images == "none":
            raise UsageError("data.cache_only needs data.cache_images: set it to disk or ram")
        if self.cache_only and self.cache_refresh:
            raise UsageError("data.cache_refresh cannot build a cache without the images: leave out data.cache_only")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the network's input, pixels."""
        value = 640 if self.image_size is None else self.image_size
        if isinstance(value, int):
            return value, value
        width, height = value
        return width, height

    @property
    def folder(self) -> Path:
        """``root`` as an absolute folder; the parent when ``root`` is a yaml file."""
        path = Path(self.root).expanduser().absolute()
        return path.parent if path.suffix.lower() in (".yaml", ".yml") else path

    def path(self, kind: str, split: str) -> Path | None:
        """Absolute path of the key ``<split>_<kind>`` (kind: images, ann, labels, split), None when it is not set."""
        if split not in SPLITS:
            raise UsageError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
        value = getattr(self, f"{split}_{kind}")
        return None if value is None else self.folder / Path(value).expanduser()


def _check_size(value: object) -> None:
    sides = [value] if isinstance(value, int) else list(value) if isinstance(value, tuple | list) else []
    if len(sides) not in (1, 2) or (len(sides) == 1 and not isinstance(value, int)):
        raise UsageError(f"data.image_size is {value!r}: give one number or [width, height]")
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int) or side < 32 or side % 32:
            raise UsageError(f"data.image_size is {value!r}: each side must be a multiple of 32, 32 or more")


def _check_augmentations(entries: object) -> None:
    if not isinstance(entries, list | tuple):
        raise UsageError(f"data.augmentations is {entries!r}: it must be a list of {{use: name, p: probability}}")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
            raise UsageError(f"data.augmentations[{position}] has no `use: name`: {entry!r}")
        p = entry.get("p", 1.0)
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
            raise UsageError(f"data.augmentations[{position}].p is {p!r}: it must be a number from 0 to 1")
