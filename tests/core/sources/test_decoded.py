"""Decoded boxes are kept up to a number of bytes, and decoded once for all who wait."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.sources.decoded import DecodedCache, FrameArray
from tests.support.drawn import slices


def test_boxes_are_kept_up_to_the_limit():
    """The one that was used longest ago goes first."""
    made = []

    def make(key):
        made.append(key)
        return np.full(10, key, "u1")

    cache = DecodedCache(20)
    for key in (1, 2, 1, 3, 1, 2):
        assert (cache.get(key, lambda key=key: make(key)) == key).all()
    assert made == [1, 2, 3, 2]


def test_a_box_larger_than_the_limit_is_given_and_not_kept():
    """So memory stays bounded."""
    cache = DecodedCache(5)
    made = [cache.get(1, lambda: np.zeros(10, "u1")) for _ in range(2)]
    assert made[0] is not made[1]


def test_threads_that_want_one_box_decode_it_once():
    """The others wait."""
    made, gate = [], threading.Barrier(8)
    cache = DecodedCache()

    def make():
        made.append(1)
        return np.zeros(4)

    def ask(_):
        gate.wait()
        return cache.get("a", make)

    with ThreadPoolExecutor(8) as pool:
        assert len({id(each) for each in pool.map(ask, range(8))}) == 1
    assert made == [1]


def test_an_error_is_not_kept():
    """The next call decodes again."""
    cache = DecodedCache()

    def fail():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get(1, fail)
    assert cache.get(1, lambda: np.ones(1)).all()


@given(
    key=st.tuples(slices(3), slices(4), slices(5), slices(6)),
    frame=st.sampled_from([(2, 3), (0, 3), (1,), (), (0, 1, 2, 3)]),
)
def test_any_box_of_frames_is_what_numpy_gives(key, frame):
    """Whichever axes make a frame."""
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)
    outer = [i for i in range(4) if i not in frame]

    def read(position):
        index = [slice(None)] * 4
        for axis, at in zip(outer, position, strict=True):
            index[axis] = at
        return array[tuple(index)]

    frames = FrameArray(array.shape, array.dtype, frame, read, DecodedCache(100))
    box = tuple(slice(*s.indices(n)[:2]) for s, n in zip(key, array.shape, strict=True))
    box = tuple(slice(s.start, max(s.start, s.stop)) for s in box)
    np.testing.assert_array_equal(frames[box], array[box])
    assert frames.read_unit == tuple(n if i in frame else 1 for i, n in enumerate(array.shape))


def test_a_frame_of_another_shape_is_an_error():
    """A damaged file must not be broadcast into an image."""
    frames = FrameArray(
        (2, 3, 4), np.dtype("u1"), (1, 2), lambda _: np.zeros((3, 1)), DecodedCache()
    )
    with pytest.raises(ValueError, match=r"has the shape \(3, 1\), not \(3, 4\)"):
        frames[0:1, 0:3, 0:4]
