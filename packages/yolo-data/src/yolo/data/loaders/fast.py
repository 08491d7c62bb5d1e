"""The loader that decodes with OpenCV."""

from __future__ import annotations

from yolo.core.decoders.contents import contents
from yolo.core.decoders.header import Buffer, Header
from yolo.core.decoders.quick import Decoder, decode_opencv, decode_plain
from yolo.core.images import read_image
from yolo.data.loaders.base import ImageLoader, Pixels


class FastImageLoader(ImageLoader):
    """Decode ordinary JPEG and PNG files with OpenCV, and everything else as :class:`DefaultImageLoader` does.

    Ordinary: 8 bits, grey, RGB or RGBA, complete, of usual size and with metadata that can be read. About every other
    file the decision is the default loader's, so that all loaders agree.

    Args:
        use_mmap: Map files of more than 1 MB into memory instead of reading them: the decoder then takes the bytes from
            the system's file cache without a copy. A mapped file must not be shortened by another program meanwhile.
    """

    needs_files = True
    can_reduce = True

    def __init__(self, *, use_mmap: bool = True) -> None:
        self.use_mmap = use_mmap

    def __call__(self, path: str) -> Pixels:
        """Return uint8 ``[H, W, 3]`` RGB; raise YoloError naming the path for anything that is not a sound image."""
        return self._load(path, None)

    def reduced(self, path: str, least: tuple[int, int]) -> Pixels:
        """As a call, a JPEG reduced where that leaves ``least``."""
        return self._load(path, least)

    def _load(self, path: str, least: tuple[int, int] | None, decoder: Decoder | None = None) -> Pixels:
        with contents(path, use_mmap=self.use_mmap) as data:
            pixels = None if data is None else decode_plain(data, decoder or self._decode, least=least)
        return read_image(path, least=least) if pixels is None else pixels

    def _decode(self, data: Buffer, header: Header, factor: int) -> Pixels | None:
        return decode_opencv(data, header, factor)
