"""What kernels must compute, written out in numpy and plain Python, and how they are asked.

Slow and plain on purpose: this is the definition to read where a kernel's sample is in doubt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ngff_core.geometry import Region, window_of
from ngff_core.kernels.contract import Kernel

Shape = tuple[int, ...]
Pass = Callable[[Any, int, int], Any]
"""Samples smoothed for a step along an axis."""


# ------------------------------------------------------------------ the Gaussian


def horner(x: float, *coefficients: float) -> float:
    """Polynomial in ``x``, lowest power first."""
    value = 0.0
    for c in reversed(coefficients):
        value = c + x * value
    return value


def bessel_i0(y: float) -> float:
    """Abramowitz & Stegun 9.8.1 and 9.8.2."""
    if y < 3.75:
        small = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
        return horner((y / 3.75) ** 2, *small)
    large = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281)
    large += (-0.02057706, 0.02635537, -0.01647633, 0.00392377)
    return math.exp(y) / math.sqrt(y) * horner(3.75 / y, *large)


def bessel_i1(y: float) -> float:
    """Abramowitz & Stegun 9.8.3 and 9.8.4."""
    if y < 3.75:
        small = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
        return y * horner((y / 3.75) ** 2, *small)
    large = (0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555)
    large += (0.02282967, -0.02895312, 0.01787654, -0.00420059)
    return horner(3.75 / y, *large) * (math.exp(y) / math.sqrt(y))


def bessel_in(n: int, y: float) -> float:
    """Downward recurrence from 2 (n + int(√(40 n))), rescaled past 10¹⁰."""
    above, here, found = 0.0, 1.0, 0.0
    for j in range(2 * (n + int(math.sqrt(40 * n))), 0, -1):
        above, here = here, above + j * (2.0 / y) * here
        if abs(here) > 1e10:
            above, here, found = above * 1e-10, here * 1e-10, found * 1e-10
        if j == n:
            found = above
    return found * (bessel_i0(y) / here)


def gaussian_weights(step: int) -> np.ndarray[Any, Any]:
    """Weights 0 … radius of the discrete Gaussian of variance (k² - 1) / (8 ln 2).

    The module is given its root, and squares it again: that decides the weights' last bit.
    """
    sigma = math.sqrt((step * step - 1) / (8 * math.log(2)))
    t = sigma * sigma
    weights = [math.exp(-t) * bessel_i0(t), math.exp(-t) * bessel_i1(t)]
    total = weights[0] + 2 * weights[1]
    while total < 0.99 and len(weights) <= 32:
        weights.append(math.exp(-t) * bessel_in(len(weights), t))
        total += 2 * weights[-1]
    return np.array([w / total for w in weights])


def ascending(samples: Any, step: int, axis: int) -> Any:
    """One pass in the samples' precision: float64 sums, taps in ascending order."""
    if step == 1:
        return samples
    weights = gaussian_weights(step)
    radius, n = len(weights) - 1, samples.shape[axis]
    around = [(radius, radius) if i == axis else (0, 0) for i in range(samples.ndim)]
    padded = np.pad(samples, around, mode="edge").astype(np.float64)
    total = np.zeros(samples.shape)
    for j in range(2 * radius + 1):
        total = total + weights[abs(j - radius)] * np.take(padded, range(j, j + n), axis)
    return total.astype(samples.dtype)


def rounded(samples: Any, dtype: np.dtype[Any]) -> Any:
    """Half to even and clipped, in Python's own integers."""
    if dtype.kind == "f":
        return samples.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = [min(max(int(v), low), high) for v in np.rint(samples).ravel().tolist()]
    return np.array(values, dtype).reshape(samples.shape)


def gaussian(image: Any, step: Shape, smooth: Pass = ascending) -> Any:
    """Passes along slow axes first, interpolation along x first, in float64.

    Passes are in float32 where that holds every value of the dtype, else in float64.
    """
    if image.dtype.kind == "c":
        out = np.empty(bins(image, step), image.dtype)
        out.real = gaussian(image.real, step, smooth)
        out.imag = gaussian(image.imag, step, smooth)
        return out
    small = image.dtype.itemsize <= (4 if image.dtype.kind == "f" else 2)
    work = np.float32 if small else np.float64
    samples = image.astype(work)
    for axis, k in enumerate(step):
        samples = smooth(samples, k, axis)
    samples = samples.astype(np.float64)
    for axis, k in reversed(list(enumerate(step))):
        lower = np.arange(image.shape[axis] // k) * k + (k - 1) // 2
        a = np.take(samples, lower, axis)
        samples = a if k % 2 else a + (np.take(samples, lower + 1, axis) - a) * 0.5
    return rounded(samples.astype(work), image.dtype.newbyteorder("="))


# ------------------------------------------------------------------ bin by bin


def by_bin(reduce: Callable[[Any, Shape], Any]) -> Callable[[Any, Shape], Any]:
    """``reduce`` on one bin at a time, in plain Python."""

    def whole(image: Any, step: Shape) -> Any:
        out = np.empty([n // k for n, k in zip(image.shape, step, strict=True)], image.dtype)
        for i in np.ndindex(out.shape):
            bin_ = tuple(slice(p * k, p * k + k) for p, k in zip(i, step, strict=True))
            out[i] = reduce(image[bin_], step)
        return out

    return whole


def mean(samples: Any, _: Shape) -> Any:
    """Exact and half up for integers; a float64 sum in raster order for floats."""
    if samples.dtype.kind == "c":
        return complex(mean(samples.real, _), mean(samples.imag, _))
    values, n = samples.ravel().tolist(), samples.size
    if samples.dtype.kind in "biu":
        return (2 * sum(values) + n) // (2 * n)
    total = 0.0  # not sum(), which compensates
    for value in values:
        total += value
    return samples.dtype.type(total / n)


def vote(samples: Any, step: Shape) -> Any:
    """Most frequent of the voxels next to the centre, smallest on a tie."""
    centre = tuple(slice((k - 1) // 2, k // 2 + 1) for k in step)
    counts = Counter(samples[centre].ravel().tolist())
    return min(v for v, n in counts.items() if n == max(counts.values()))


def mode(samples: Any, _: Shape) -> Any:
    """Most frequent of the whole bin, smallest on a tie."""
    counts = Counter(samples.ravel().tolist())
    return min(v for v, n in counts.items() if n == max(counts.values()))


def lower_centre(samples: Any, step: Shape) -> Any:
    """The sample at (k - 1) // 2 of each axis."""
    return samples[tuple((k - 1) // 2 for k in step)]


# ------------------------------------------------------------------ asking a kernel


def bins(image: Any, step: Shape) -> Shape:
    return tuple(n // k for n, k in zip(image.shape, step, strict=True))


def whole(kernel: Kernel, image: Any, step: Shape) -> Any:
    """The level above ``image``, in one piece."""
    return kernel.reduce(image, (0,) * image.ndim, step, bins(image, step))


def piece(kernel: Kernel, image: Any, step: Shape, region: Region) -> Any:
    """One region of the level above ``image``, from the least window it needs."""
    window = window_of(region, step, kernel.halo(step), image.shape)
    return kernel.reduce(image[window.box.slices], window.offset, step, region.shape)


def assert_same_bytes(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes()


def assert_only_read(kernel: Kernel, definition: Any, base: Any, step: Shape) -> None:
    """Views of ``base`` that are read-only and not contiguous work, and keep their samples."""
    before = base.copy()
    views = [
        base[::2, ::-1].transpose(2, 0, 1),
        base[1::2, :, 1:],
        base[:, ::3],
        base[..., ::2],
        np.broadcast_to(base[:1], (6, *base.shape[1:])),
    ]
    for view in views:
        view.setflags(write=False)
        found = whole(kernel, view, step)
        np.testing.assert_array_equal(found, definition(view.copy(), step))
    np.testing.assert_array_equal(base, before)


def assert_threads_agree(kernel: Kernel, images: Sequence[Any], step: Shape) -> None:
    """Four threads at once get what one thread gets."""
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: whole(kernel, image, step), images))
    for image, found in zip(images, together, strict=True):
        assert_same_bytes(found, whole(kernel, image, step))
