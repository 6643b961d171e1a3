"""How the samples of a channel are shown: summaries of samples, and windows made from them.

A summary counts samples in at most 65 536 ordered bins. Integers of 8 and 16 bits have a bin for
each value. Other real samples are counted by the upper 16 bits of their float32 form (sign,
exponent, 7 bits of mantissa), so a bin is less than 0.8 % wide. Counts are added, which gives the
same result in any order: a summary of an image does not depend on how the image was cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ngff_core.blocks import Block

LOWER, UPPER = 10, 999
"""Per mille of the samples that are at most black, and at most the full color.

Cameras and slides have outliers on both sides: 1 % dark pixels and borders, and 0.1 % of hot
pixels, dust and reflections. The upper share is the smaller one, because what is bright is often
small and is what one looks for; the dark end is background."""

_BINS = 2**16
_PIECE = 2**16
_SIGN = 0x8000
_INFINITE = 0x7F80
"""Upper 16 bits of infinity as float32; those of every NaN are not smaller."""


@dataclass(frozen=True)
class Window:
    """How samples of a channel are shown, in the image's own numbers.

    ``low`` and ``high`` are the smallest and the largest sample, ``start`` is shown as black and
    ``end`` as the full color; ``low <= start < end <= high``.
    """

    low: float
    high: float
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Summary:
    """How often the finite samples of a channel fall into each bin, and their extremes.

    ``bins`` has the numbers of the bins with samples, in order, ``counts`` the samples in each.
    Without samples ``low`` is infinity, and ``high`` its negative.
    """

    dtype: np.dtype[Any]
    low: float
    high: float
    bins: npt.NDArray[np.uint16]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, samples: Block) -> Self:
        """The summary of real samples, in native byte order."""
        low, high, counts = math.inf, -math.inf, np.zeros(_BINS, np.int64)
        finite = _finite(samples.reshape(-1))
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            _count(finite, counts)
        return cls._sparse(samples.dtype, low, high, _ordered(counts, samples.dtype))

    @classmethod
    def merged(cls, dtype: np.dtype[Any], summaries: Iterable[Summary]) -> Self:
        """The summary of all samples of several summaries, whose order does not matter."""
        low, high, counts = math.inf, -math.inf, np.zeros(_BINS, np.int64)
        for one in summaries:
            low, high = min(low, one.low), max(high, one.high)
            counts[one.bins] += one.counts
        return cls._sparse(dtype, low, high, counts)

    @classmethod
    def _sparse(
        cls, dtype: np.dtype[Any], low: float, high: float, counts: npt.NDArray[np.int64]
    ) -> Self:
        bins = np.flatnonzero(counts)
        return cls(dtype, low, high, bins.astype(np.uint16), counts[bins])

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.counts.sum())

    def window(self) -> Window | None:
        """From the 1st percentile to the 99.9th, see `LOWER`; None without samples.

        Where both are the same number, as in an image of few bright spots, the window is all
        from the smallest sample to the largest; where these are the same too, it is widened.
        """
        if not len(self.bins):
            return None
        start, end = self._edges(LOWER)[0], self._edges(UPPER)[1]
        start, end = max(start, self.low), min(end, self.high)
        if start >= end:
            start, end = self.low, self.high
        if start >= end:
            start, end = _widened(self.low, self.dtype)
        return Window(min(self.low, start), max(self.high, end), start, end)

    def _edges(self, per_mille: int) -> tuple[float, float]:
        """The edges of the bin of this percentile: the first to which so many samples belong."""
        reached = np.cumsum(self.counts) * 1000
        index = int(np.searchsorted(reached, self.samples * per_mille))
        return _edges(int(self.bins[index]), self.dtype)


def is_measurable(dtype: np.dtype[Any]) -> bool:
    """Whether a window of samples can be measured: complex numbers and booleans have no order of
    brightness that would have to be found out."""
    return dtype.kind in "iuf"


def _finite(samples: Block) -> Block:
    """The samples without NaN and infinities."""
    if samples.dtype.kind != "f" or not samples.size:
        return samples
    if samples.dtype.itemsize == 2:
        # numpy works on float16 one by one: this is ten times as fast.
        samples = samples.astype(np.float32)
    # The extremes are not finite where any sample is not.
    if np.isfinite(samples.min()) and np.isfinite(samples.max()):
        return samples
    return samples[np.isfinite(samples)]


def _is_exact(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _count(samples: Block, counts: npt.NDArray[np.int64]) -> None:
    """Add finite samples to ``counts``, by the bits of each: 8 or 16, or the upper 16."""
    # In pieces, since numpy's bincount makes 8 bytes of each sample.
    for start in range(0, samples.size, _PIECE):
        found = np.bincount(_bits(samples[start : start + _PIECE]))
        counts[: found.size] += found


def _bits(samples: Block) -> Block:
    if _is_exact(samples.dtype):
        return samples.view(f"u{samples.dtype.itemsize}")
    if samples.dtype.kind == "f" and samples.dtype.itemsize > 4:
        # Finite numbers stay finite.
        samples = np.clip(samples, *_float32_range())
    return (samples.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def _float32_range() -> tuple[float, float]:
    info = np.finfo(np.float32)
    return float(info.min), float(info.max)


def _ordered(counts: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> npt.NDArray[np.int64]:
    """Counts by bits, in the order of the numbers that the bits stand for."""
    if not _is_exact(dtype):
        return np.concatenate([counts[_SIGN:][::-1], counts[:_SIGN]])
    if dtype.kind == "u":
        return counts
    half = 2 ** (8 * dtype.itemsize - 1)
    ordered = np.zeros_like(counts)
    ordered[: 2 * half] = np.roll(counts[: 2 * half], half)
    return ordered


def _edges(number: int, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and the largest number in a bin; the same where a bin is a value."""
    if _is_exact(dtype):
        value = float(number + int(np.iinfo(dtype).min))
        return value, value
    if number >= _SIGN:
        return _magnitude(number - _SIGN), _magnitude(number - _SIGN + 1)
    bits = _SIGN - 1 - number
    return -_magnitude(bits + 1), -_magnitude(bits)


def _magnitude(bits: int) -> float:
    """The number of which these are the upper 16 bits as float32, the others being zero."""
    if bits >= _INFINITE:
        return math.inf
    return float(np.array([bits << 16], np.uint32).view(np.float32)[0])


def _widened(value: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """A window for an image of one value: to the next whole number, or by about 1 %."""
    width = max(1.0, abs(value) / 128)
    most = float(np.iinfo(dtype).max if dtype.kind in "iu" else np.finfo(dtype).max)
    return (value - width, value) if value > most - width else (value, value + width)
