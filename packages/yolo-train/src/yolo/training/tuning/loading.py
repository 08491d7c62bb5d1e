"""How fast samples are made: by loaders with several numbers of workers, and by one process with other settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from yolo.data.cache.pictures import SourceFacts, decode_record, encode_record
from yolo.data.cache.plan import shrink
from yolo.data.cache.settings import CacheSettings
from yolo.data.cache.use import open_images
from yolo.data.collate import collate
from yolo.data.dataset import TrainDataset
from yolo.data.loader import build_loader
from yolo.data.loaders import ImageLoader
from yolo.data.loaders.base import Pixels
from yolo.data.loaders.turbojpeg import open_turbojpeg
from yolo.data.sampler import SampleKey
from yolo.training.tuning.clock import Rate
from yolo.training.tuning.samples import first_keys
from yolo.training.tuning.settings import Pictures
from yolo.training.tuning.stages import batches_of, one_thread

_PATIENCE = 4.0  # times the seconds that were asked for
_ROUNDS = 3
_MOST_KEPT = 1 << 30  # bytes
_NO_FILE = SourceFacts(0, 0, 0, bytes(16))


def worker_counts(cores: int, *wanted: int) -> list[int]:
    """Return the numbers of workers to try: 0, 1, 2, 4, ... up to the cores, those, and the wanted ones below that."""
    powers = [1 << power for power in range(cores.bit_length())]
    return sorted({0, *powers, cores, *(count for count in wanted if 0 <= count <= cores)})


def loader_rate(pictures: Pictures, *, workers: int, seconds: float) -> Rate:
    """Measure the images a second of a training loader that nothing waits for.

    Starting the workers is not counted; the borders between epochs are.

    Args:
        pictures: what to load.
        workers: processes; 0 loads in this one.
        seconds: to measure.
    """
    config = replace(pictures.config, num_workers=workers)
    loader = build_loader(config, pictures.table, images=pictures.images, training=True)
    group = max(workers, 1)  # as many batches come at about the same time
    rates: list[float] = []
    images, batches, epoch = 0, 0, 0
    begin = opened = None
    while True:
        loader.batches.set_epoch(epoch)
        found = iter(loader)
        for batch in found:
            images += len(batch.images)
            batches += 1
            if batches < group:
                continue
            now = time.perf_counter()
            if opened is None or begin is None:
                begin = now
            else:
                rates.append(images / (now - opened))
                measured = now - begin
                if (measured >= seconds and len(rates) >= 3) or measured >= _PATIENCE * seconds:
                    found.close()  # type: ignore[attr-defined]  # it is a generator
                    return Rate.of(rates)
            opened, images, batches = now, 0, 0
        epoch += 1


@dataclass(frozen=True)
class Variant:
    """Another way to make the same samples.

    Attributes:
        name: of the setting, such as ``data.image_loader turbojpeg``; empty for the present settings.
        rate: samples a second of one process that has a core to itself.
        price: what else it costs, in words.
        estimated: whether it stands for something that was not made for the measurement.
    """

    name: str
    rate: Rate
    price: str = ""
    estimated: bool = False


def compare_variants(pictures: Pictures, *, seconds: float) -> list[Variant]:
    """Make the same samples in several ways, in turns, and measure the processor's time.

    Args:
        pictures: with the present settings.
        seconds: for each way, about.

    Returns:
        The present settings first.
    """
    ways = _ways(pictures)
    count = min(max(pictures.config.batch_size, 16), 64)
    prepared: list[tuple[Variant, TrainDataset, list[SampleKey]]] = []
    for make in ways:
        variant, other = make()
        dataset, keys = first_keys(other.config, other.table, other.images, count=count)
        prepared.append((variant, dataset, keys))
    rates: list[list[float]] = [[] for _ in prepared]
    with one_thread():
        for _, dataset, keys in prepared:  # files into memory, pictures into the imitated cache
            _processor_seconds(dataset, keys, pictures.config.batch_size)
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            for place, (_, dataset, keys) in enumerate(prepared):
                rates[place].append(len(keys) / _processor_seconds(dataset, keys, pictures.config.batch_size))
            if time.perf_counter() - start > seconds * len(prepared):
                break
    return [
        replace(variant, rate=Rate.of(found))
        for (variant, dataset, _), found in zip(prepared, rates, strict=True)
        if not getattr(dataset.loader, "overflown", False)
    ]


def _ways(pictures: Pictures) -> list[Callable[[], tuple[Variant, Pictures]]]:
    config = pictures.config
    nothing = Rate(0.0, None, 0)

    def other(
        name: str, price: str = "", *, estimated: bool = False, **found: object
    ) -> Callable[[], tuple[Variant, Pictures]]:
        def make() -> tuple[Variant, Pictures]:
            return Variant(name, nothing, price, estimated), replace(pictures, **found)  # type: ignore[arg-type]

        return make

    ways = [other("")]
    files = not hasattr(pictures.images, "store")
    if files and config.image_loader in (None, "default", "fast") and open_turbojpeg() is not None:
        images = open_images(replace(config, image_loader="turbojpeg"), {})
        ways.append(other("data.image_loader turbojpeg", images=images))
    mixed = config.mosaic_prob or config.mixup_prob or config.cutmix_prob or config.bbox_mosaic.prob
    if not config.share_decoded and mixed and config.batch_size >= 4:
        shared = replace(config, share_decoded=True)
        ways.append(other("data.share_decoded true", "less variety in mosaics", config=shared))
    if files and not pictures.images.confidential:
        kept = KeptPictures(pictures.images, CacheSettings.of(config))
        ways.append(other("data.cache_images disk", "room on the disk", estimated=True, images=kept))
    return ways


def _processor_seconds(dataset: TrainDataset, keys: Sequence[SampleKey], batch_size: int) -> float:
    start = time.thread_time()
    for batch in batches_of(keys, batch_size):
        collate(dataset.__getitems__(batch))
    return time.thread_time() - start


class KeptPictures(ImageLoader):
    """Keeps pictures in memory as a cache keeps them, to measure what a cache would gain without making one.

    Args:
        files: reads what is asked for the first time.
        settings: of the cache.
    """

    can_reduce = True

    def __init__(self, files: ImageLoader, settings: CacheSettings) -> None:
        self.files = files
        self.settings = settings
        self.overflown = False
        self._records: dict[str, bytes] = {}
        self._size = 0

    def __call__(self, path: str) -> Pixels:
        """Return the whole picture."""
        return self.read(path)

    def read(self, path: str, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Pixels:
        """Return the picture of a path, see :meth:`ImageLoader.read`."""
        if path not in self._records:
            self.overflown = self.overflown or self._size > _MOST_KEPT
            if self.overflown:
                return self.files.read(path, least=least, rows=rows)
            settings = self.settings
            picture = shrink(self.files.read(path), settings.size)
            record = encode_record(picture, _NO_FILE, picture_format=settings.picture_format, quality=settings.quality)
            self._records[path] = record
            self._size += len(record)
        whole = self.settings.size is None
        return decode_record(self._records[path], least=least, rows=rows if whole else None)
