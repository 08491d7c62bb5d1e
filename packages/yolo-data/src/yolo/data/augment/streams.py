"""One generator made into many, each found again by the name of what draws from it."""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np

# PCG64 is a counter: positions this far apart (2 ** 128 over the golden ratio, as in its `jumped`) never meet.
_STEP = 0x9E3779B97F4A7C15F39CC0605CEDC835
_PERIOD = 1 << 128


class Streams:
    """Streams of random numbers that do not depend on each other, or on which others exist.

    Args:
        rng: over PCG64, as ``np.random.default_rng`` makes it. It is wound to the stream that was asked for last: draw
            from one before asking for the next.

    Raises:
        TypeError: another kind of generator, which cannot be wound forward.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        bits = rng.bit_generator
        if not isinstance(bits, np.random.PCG64):
            raise TypeError(f"the generator of a sample is numpy's PCG64, not {type(bits).__name__}")
        self._rng, self._bits, self._start = rng, bits, bits.state
        self._seen: Counter[str] = Counter()

    def of(self, what: object) -> np.random.Generator:
        """Return the stream of a thing, named by its class; the second thing of one class has another stream."""
        name = type(what).__name__
        self._seen[name] += 1
        number = zlib.crc32(f"{name} {self._seen[name]}".encode())
        self._bits.state = self._start
        self._bits.advance(number * _STEP % _PERIOD)
        return self._rng
