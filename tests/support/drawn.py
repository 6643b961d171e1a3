"""Images, steps, regions and slices that property tests of several files draw."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from ngff_core.geometry import Region
from ngff_core.kernels.contract import Kernel
from tests.support.oracles import Shape, assert_same_bytes, piece, whole

SINGLE = ("?", "i1", "u1", "<i2", ">u2", "<u2", "f2", "<f4", ">f4", "c8")
"""Numbers that float32 holds exactly."""
DOUBLE = (">i4", "u4", "i8", ">u8", "u8", "f8", ">f8", "c16")
NUMBERS = (*SINGLE, *DOUBLE)


def pixels(rng: np.random.Generator, dtype: Any, shape: Shape, style: str) -> Any:
    """An image of ``dtype``: of few values, of its whole range, of its extremes, or, for floats,
    of values that cancel, so that another order of additions gives another sum.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        part = "f4" if dtype.itemsize == 8 else "f8"
        image = np.empty(shape, dtype)
        image.real, image.imag = pixels(rng, part, shape, style), pixels(rng, part, shape, style)
        return image
    if dtype.kind == "f":
        return _floats(rng, dtype, shape, style).astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if style == "few":
        return rng.integers(max(low, -2), min(high, 3), shape, endpoint=True).astype(dtype)
    native = dtype.newbyteorder("=") if dtype.kind != "b" else np.dtype(np.uint8)
    if style == "extreme":
        ends = [low, low, min(low + 1, high), max(high - 1, low), high, high]
        return rng.choice(np.array(ends, native), shape).astype(dtype)
    return rng.integers(low, high, shape, native, endpoint=True).astype(dtype)


def _floats(rng: np.random.Generator, dtype: np.dtype[Any], shape: Shape, style: str) -> Any:
    if style == "few":
        return rng.integers(-2, 3, shape)
    if style == "extreme":
        return rng.choice([float(np.finfo(dtype).tiny), 0.0, 0.1, -2.5, 1e4], shape)
    if style == "cancelling" and dtype.itemsize > 2:
        return rng.choice([1e30, -1e30, 1.0, 3.0], shape)
    return rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape)


@st.composite
def cases(
    draw: st.DrawFn,
    dtypes: Sequence[str],
    styles: Sequence[str] = ("range", "extreme", "cancelling"),
    longest: tuple[int, int, int, int] = (400, 40, 17, 7),
    largest: int = 16,
) -> tuple[Any, Shape]:
    """An image of 1 to 5 axes, a step of up to ``largest`` per axis, and whole bins on each.

    ``longest`` are the samples at most of an axis in images of 1, 2 and 3 axes, and of more.
    """
    ndim = draw(st.integers(1, 5))
    spatial = draw(st.integers(max(1, ndim - 2), min(3, ndim)))
    most = longest[spatial - 1] if ndim < 4 else longest[3]
    step = draw(st.tuples(*[st.integers(1, min(largest, most))] * spatial))
    sizes = [draw(st.integers(k, max(k, most))) for k in step]
    outer = ndim - spatial
    shape = (*draw(st.tuples(*[st.integers(1, 3)] * outer)), *sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(dtypes))
    image = pixels(rng, dtype, shape, draw(st.sampled_from(styles)))
    return image, (1,) * outer + step


@st.composite
def regions(draw: st.DrawFn, shape: Shape) -> Region:
    """Any box of an array of ``shape`` that is not empty."""
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return Region(start, stop)


def slices(n: int) -> st.SearchStrategy[slice]:
    """Slices of an axis of ``n`` samples, their bounds left out or beyond its ends at times."""
    bound = st.none() | st.integers(-n - 2, n + 2)
    return st.builds(slice, bound, bound)


def check_region(
    kernel: Kernel,
    image: Any,
    step: Shape,
    data: st.DataObject,
    *cuts: tuple[ModuleType, str, Sequence[int]],
) -> None:
    """Any region has, from the window that it needs, the bytes that it has in the whole level.

    ``cuts`` are a module, the name of a size in it, and the sizes it may have meanwhile.
    """
    expected = whole(kernel, image, step)
    region = data.draw(regions(expected.shape))
    with pytest.MonkeyPatch.context() as patch:
        for module, name, sizes in cuts:
            patch.setattr(module, name, data.draw(st.sampled_from(sizes)))
        found = piece(kernel, image, step, region)
    assert_same_bytes(found, np.ascontiguousarray(expected[region.slices]))
