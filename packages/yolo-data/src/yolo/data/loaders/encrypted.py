"""The loader for encrypted images."""

from __future__ import annotations

from yolo.core.decoders.contents import read_whole
from yolo.core.decoders.header import plain_header
from yolo.core.decoders.quick import decode_opencv, decode_plain
from yolo.core.errors import YoloError
from yolo.core.images import ImageError, decode_image, encoded_size
from yolo.data.encryption.container import LARGEST, OVERHEAD, SUFFIX, EncryptionError, decrypt, is_own
from yolo.data.encryption.keys import Key, find_key, hand_on, parse_key
from yolo.data.loaders.base import ImageLoader, Pixels
from yolo.data.loaders.default import DefaultImageLoader
from yolo.data.loaders.fast import FastImageLoader


class EncryptedImageLoader(ImageLoader):
    """Decrypt ``.enc`` files in memory, load other files as they are.

    Both containers of :mod:`yolo.data.encryption.container` are read. The key is not part of a pickled loader, see
    :mod:`yolo.data.encryption.keys`. It is looked for when the first encrypted file is loaded, so that a data set
    without such files needs none.

    Args:
        use_opencv: Decode with OpenCV (as :class:`FastImageLoader`) and not with Pillow.
        key: 64 hexadecimal characters. Not set: ``data.encryption_key``, else the environment variable
            ``YOLO_ENCRYPTION_KEY``.

    Raises:
        UsageError: the key is not 64 hexadecimal characters.
    """

    needs_files = True
    confidential = True
    can_reduce = True
    extra_suffixes = frozenset({SUFFIX})

    def __init__(self, *, use_opencv: bool = True, key: str | None = None) -> None:
        self.use_opencv = use_opencv
        self._key_id: str | None = None
        if key is not None:
            self.use_key(parse_key(key, source="init_args.key of the encrypted image loader"))

    def use_key(self, key: Key) -> None:
        """Decrypt with this key and not with that of the environment, in the workers of this process too."""
        self._key_id = key.id
        hand_on(key)

    @property
    def has_key(self) -> bool:
        """Whether a key was given, by the configuration or by :meth:`use_key`."""
        return self._key_id is not None

    def __call__(self, path: str) -> Pixels:
        """Return uint8 ``[H, W, 3]`` RGB, upright.

        Raises:
            EncryptionError: the file cannot be decrypted: a wrong key, or damage.
            UsageError: there is no key.
            ImageError: it is no sound image.
        """
        return self._load(path, None)

    def reduced(self, path: str, least: tuple[int, int]) -> Pixels:
        """As a call, a JPEG reduced where that leaves ``least``."""
        return self._load(path, least)

    def size(self, path: str) -> tuple[int, int]:
        """Return (width, height) of an encrypted picture, from its decrypted header."""
        content, own = self._content(path)
        header = plain_header(content)
        if header is not None:
            return header.size
        try:
            return encoded_size(content, name=path)
        except ImageError as error:
            raise _explained(error, own=own) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}(use_opencv={self.use_opencv}, key={self._key_id})"

    def _load(self, path: str, least: tuple[int, int] | None) -> Pixels:
        if not path.lower().endswith(SUFFIX):
            loader = FastImageLoader() if self.use_opencv else DefaultImageLoader()
            return loader(path) if least is None else loader.reduced(path, least)
        content, own = self._content(path)
        pixels = decode_plain(content, decode_opencv, least=least) if self.use_opencv else None
        if pixels is not None:
            return pixels
        try:
            return decode_image(content, name=path, least=least)
        except ImageError as error:
            raise _explained(error, own=own) from error

    def _content(self, path: str) -> tuple[bytes, bool]:
        """The decrypted file, and whether its authenticity was checked."""
        try:
            data = read_whole(path, LARGEST + OVERHEAD)
        except FileNotFoundError:
            raise ImageError(f"{path!r}: no such image file") from None
        except OSError as error:
            raise ImageError(f"{path!r} cannot be opened: {error.strerror}") from error
        if data is None:
            raise ImageError(f"{path!r} is refused before decrypting: it is larger than {LARGEST >> 30} GiB")
        return decrypt(data, find_key(self._key_id), name=path), is_own(data)


def _explained(error: ImageError, *, own: bool) -> YoloError:
    """Damage inside an old container may as well be a wrong key."""
    if own:
        return error
    return EncryptionError(f"{error}; it was decrypted without a check (AES-CBC): is the key the right one?")
