"""The lazy API: what it takes, how it cuts and places levels, its cache and its progress."""

from __future__ import annotations

import copy
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import ngff_core
from ngff_core import (
    LPS,
    RAS,
    AnatomicalOrientation,
    Methods,
    NgffImage,
    NgffProgress,
    NgffProgressCallback,
    config,
    to_multiscales,
    to_ngff_image,
    to_ngff_zarr,
)
from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.lazy import cache_pass
from ngff_core.lazy.cutting import block_bytes, box_shape
from ngff_core.lazy.image_cache import release_caches, remove_stale_caches
from ngff_core.to_multiscales import (
    _cache_1d_segments,
    _cache_2d_strips,
    _find_optimal_chunk_size,
    _large_image_serialization,
    _ngff_image_scale_factors,
)
from tests.support.doubles import Bar, Counted

BIN = Methods.ITKWASM_BIN_SHRINK
GAUSSIAN = Methods.ITKWASM_GAUSSIAN


def samples(*shape: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 60000, shape).astype(dtype)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test caches among what a user has cached."""
    monkeypatch.setattr(config, "cache_store", tmp_path / "cache")
    return tmp_path / "cache"


# ------------------------------------------------------------------ names


def test_the_function_and_its_module_go_by_one_name() -> None:
    """In a fresh interpreter, in whichever order they are asked for."""
    program = """
import sys, ngff_core
assert "dask" not in sys.modules
import ngff_core.to_multiscales
from ngff_core.to_multiscales import _ngff_image_scale_factors, to_multiscales as inner
from ngff_core import to_multiscales
assert ngff_core.to_multiscales is to_multiscales is inner
assert to_multiscales([[1, 2], [3, 4]]).images[0].data.shape == (2, 2)
assert "to_multiscales" in dir(ngff_core)
assert not hasattr(ngff_core, "to_megascales")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# ------------------------------------------------------------------ inputs


def as_path(array: Any, folder: Path) -> Any:
    zarr.save_array(str(folder / "a.zarr"), array)
    return str(folder / "a.zarr")


def as_mapping(array: Any, folder: Path) -> Any:
    zarr.save_array(str(folder / "a.zarr"), array)
    files = (p for p in (folder / "a.zarr").rglob("*") if p.is_file())
    return {p.relative_to(folder / "a.zarr").as_posix(): p.read_bytes() for p in files}


def as_ome_zarr(array: Any, folder: Path) -> Any:
    to_ngff_zarr(folder / "a.ome.zarr", to_multiscales(array, []))
    return str(folder / "a.ome.zarr")


def as_store(array: Any, folder: Path) -> Any:
    store = zarr.storage.MemoryStore()
    zarr.create_array(store, data=array)
    return store


INPUTS: dict[str, Callable[[Any, Path], Any]] = {
    "NgffImage": lambda array, _: NgffImage(array),
    "lazy NgffImage": lambda array, _: NgffImage(da.from_array(array, chunks=16)),
    "NgffImage of zarr": lambda array, _: NgffImage(zarr.array(array, chunks=(7, 9, 16))),
    "numpy": lambda array, _: array,
    "lists": lambda array, _: array.tolist(),
    "dask": lambda array, _: da.from_array(array, chunks=(5, 40, 17)),
    "zarr": lambda array, _: zarr.array(array),
    "path": as_path,
    "Path": lambda array, folder: Path(as_path(array, folder)),
    "mapping": as_mapping,
    "zarr store": as_store,
    "OME-Zarr": as_ome_zarr,
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_documented_input_gives_the_same_pyramid(kind: str, tmp_path: Path) -> None:
    """Lazy levels of the same samples, whatever the image came in."""
    array = samples(40, 48, 56)
    data = INPUTS[kind](array, tmp_path)
    found = to_multiscales(data, [2, 4], BIN)
    expected = to_multiscales(array, [2, 4], BIN)
    assert all(isinstance(image.data, da.Array) for image in found.images)
    for a, b in zip(found.images, expected.images, strict=True):
        np.testing.assert_array_equal(a.data.compute(), b.data.compute())
        assert (a.dims, a.scale, a.translation, a.name) == (b.dims, b.scale, b.translation, b.name)
    np.testing.assert_array_equal(found.images[0].data.compute(), array)


@pytest.mark.parametrize("uri", ["memory://to-multiscales/a.zarr", "file://{}/a.zarr"])
def test_a_uri_is_opened(uri: str, tmp_path: Path, memory_filesystem: Any) -> None:
    """Of any file system that fsspec knows."""
    array = samples(40, 48)
    uri = uri.format(tmp_path)
    zarr.save_array(uri, array)
    np.testing.assert_array_equal(to_multiscales(uri).images[0].data.compute(), array)


def test_what_is_stored_as_an_image_keeps_its_place_and_name(tmp_path: Path) -> None:
    """Scale, translation, units, orientation and name come from its metadata."""
    image = NgffImage(
        samples(64, 64),
        scale={"y": 0.5, "x": 0.25},
        translation={"x": 3.0},
        name="cells",
        axes_units={"x": "micrometer"},
        axes_orientations=RAS,
    )
    to_ngff_zarr(tmp_path / "a.ome.zarr", to_multiscales(image, [2], BIN))
    read = to_multiscales(tmp_path / "a.ome.zarr", [2], BIN).images[1]
    assert read.scale == {"y": 1.0, "x": 0.5}
    assert read.translation == {"y": 0.25, "x": 3.125}
    assert (read.name, read.axes_units) == ("cells", {"x": "micrometer"})
    assert read.axes_orientations == {"y": RAS["y"], "x": RAS["x"]}


@pytest.mark.parametrize(
    ("ndim", "dims", "shape"),
    [
        (1, ("x",), (3,)),
        (2, ("y", "x"), (3, 4)),
        (3, ("z", "y", "x"), (3, 4, 5)),
        (4, ("c", "z", "y", "x"), (6, 3, 4, 5)),
        (5, ("t", "c", "z", "y", "x"), (3, 7, 4, 5, 6)),
    ],
)
def test_dims_are_assumed_by_number_and_brought_in_order(
    ndim: int, dims: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    """x, yx, zyx, zyxc, tzyxc come out as t, c, z, y, x."""
    array = samples(*range(3, 3 + ndim))
    image = to_multiscales(array).images[0]
    assert (image.dims, image.data.shape) == (dims, shape)
    assert image.scale == dict.fromkeys(dims, 1.0)
    assert image.translation == dict.fromkeys(dims, 0.0)
    assert image.name == "image"
    expected = np.moveaxis(array, -1, dims.index("c")) if "c" in dims else array
    np.testing.assert_array_equal(image.data.compute(), expected)


def test_other_dimensions_need_names() -> None:
    """Six of them cannot have any."""
    with pytest.raises(ValueError, match="give dims"):
        to_multiscales(np.zeros((1,) * 6))
    with pytest.raises(ValueError, match="give dims"):
        to_multiscales(3.0)


def test_the_callers_image_is_never_changed() -> None:
    """Neither the object nor the array nor the mappings in it, nor by the cache."""
    array = samples(40, 48, 3)
    image = NgffImage(array, "yxc", {"x": 0.5}, name="cell", axes_orientations={"x": LPS["x"]})
    before = copy.deepcopy(vars(image))
    multiscales = to_multiscales(image, [2], BIN, cache=True, orientation="RAS")
    multiscales.images[1].data.compute()
    assert image.data is array
    after = vars(image)
    np.testing.assert_array_equal(after.pop("data"), before.pop("data"))
    assert after == before


def test_either_byte_order_and_bool_and_complex_are_taken() -> None:
    """Levels are in the machine's order."""
    for dtype in (">u2", ">f4", "bool", "complex64"):
        array = samples(40, 40).astype(dtype)
        multiscales = to_multiscales(array, [2], BIN)
        for image in multiscales.images:
            assert image.data.dtype == array.dtype.newbyteorder("=") == image.data.compute().dtype
        np.testing.assert_array_equal(multiscales.images[0].data.compute(), array)


def test_a_dtype_that_a_method_gets_wrong_is_refused_at_once() -> None:
    """Labels are not complex; without levels no method is needed."""
    array = np.zeros((40, 40), "complex64")
    with pytest.raises(UnsupportedDtypeError):
        to_multiscales(array, [2], Methods.ITKWASM_LABEL_IMAGE)
    assert len(to_multiscales(array, [], Methods.ITKWASM_LABEL_IMAGE).images) == 1


def test_nothing_is_computed_until_it_is_asked_for() -> None:
    """Ten gigabytes that must not be touched."""

    def fail(block: Any) -> Any:
        raise AssertionError("a block was computed")

    huge = da.zeros((100, 10_000, 10_000), chunks=(10, 1000, 1000), dtype="u1").map_blocks(
        fail, meta=np.empty((0, 0, 0), "u1")
    )
    multiscales = to_multiscales(huge, [2, 4], BIN, cache=False)
    assert [image.data.shape[1] for image in multiscales.images] == [10_000, 5000, 2500]
    assert len(multiscales.images[1].data.__dask_graph__().layers) > 1


def test_levels_survive_pickling() -> None:
    """So that a cluster can compute them."""
    array = samples(40, 48)
    image = to_multiscales(array, [2], BIN).images[1]
    again = pickle.loads(pickle.dumps(image.data))
    np.testing.assert_array_equal(again.compute(), image.data.compute())


def test_to_ngff_image_wraps_an_array_as_it_is_named() -> None:
    """The caller's order of axes is kept; defaults need no thought."""
    image = to_ngff_image(samples(4, 5, 3), dims=["x", "y", "z"], scale={"x": 2.0}, name="a")
    assert image.dims == ("x", "y", "z")
    assert (image.scale, image.name) == ({"x": 2.0, "y": 1.0, "z": 1.0}, "a")
    assert isinstance(image.data, da.Array)
    assert to_ngff_image(np.zeros((4, 5))).dims == ("y", "x")
    with pytest.raises(InvalidOptionError, match="2 axis names"):
        to_ngff_image(np.zeros((4, 5, 6)), dims="yx")


# ------------------------------------------------------------------ chunks


@pytest.mark.parametrize(
    ("data", "dims", "expected"),
    [
        (da.zeros((200, 300, 400)), "zyx", (128, 128, 128)),
        (da.zeros((300, 400)), "yx", (256, 256)),
        (da.zeros((3, 2, 200, 300, 400), chunks=-1), "tczyx", (1, 2, 128, 128, 128)),
        (da.zeros((4, 300, 400), chunks=(3, 300, 400)), "cyx", (3, 256, 256)),
        # tiled: three equal chunks or more, larger than the default
        (da.zeros((300, 1200), chunks=(300, 300)), "yx", (300, 300)),
        (da.zeros((2000, 2000), chunks=(600, 500)), "yx", (600, 500)),
        (da.zeros((600, 600), chunks=(300, 300)), "yx", (256, 256)),
        # unequal chunks are no tiles, and one piece is none either
        (da.zeros((2000, 2000), chunks=((700, 300, 1000), 2000)), "yx", (256, 256)),
        # never longer than the image
        (da.zeros((20, 30, 40)), "zyx", (20, 30, 40)),
    ],
)
def test_default_chunks(data: Any, dims: str, expected: tuple[int, ...]) -> None:
    """128 with z, 256 without, t 1, c as the input; tiled inputs keep larger chunks."""
    image = to_multiscales(NgffImage(data, dims), []).images[0]
    assert image.data.chunksize == expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (16, (1, 3, 16, 16)),
        (np.int64(16), (1, 3, 16, 16)),
        ((24, 16, 2, 1), (1, 2, 16, 24)),
        ((24, 16), (1, 3, 16, 24)),
        ({"x": 16}, (1, 3, 50, 16)),
        ({"x": 16, "c": 1, "t": 2}, (2, 1, 50, 16)),
        ({"y": None, "x": (16, 16)}, (1, 3, 50, 16)),
        (((16, 16, 8), (20, 20, 10), (3,), (2,)), (2, 3, 20, 16)),
        (1000, (1, 3, 50, 40)),
    ],
)
def test_every_documented_form_of_chunks(chunks: Any, expected: tuple[int, ...]) -> None:
    """An int is spatial, a tuple goes by the caller's position, a mapping by name."""
    image = NgffImage(da.zeros((40, 50, 3, 2), chunks=-1), "xyct")
    multiscales = to_multiscales(image, [], chunks=chunks)
    assert multiscales.images[0].data.chunksize == expected
    assert multiscales.chunks == dict(zip("tcyx", expected, strict=True))


@pytest.mark.parametrize("chunks", [0, -3, 1.5, {"x": 0}, (0, 4), {"q": 4}, (1, 2, 3), True])
def test_chunks_that_make_no_sense_are_value_errors(chunks: Any) -> None:
    """Zero, negative, not whole, unknown axes, too many."""
    with pytest.raises(ValueError, match="chunks"):
        to_multiscales(np.zeros((40, 40)), chunks=chunks)


def test_levels_have_the_same_chunks_where_they_are_long_enough() -> None:
    """A level shorter than a chunk is one chunk."""
    multiscales = to_multiscales(np.zeros((100, 90), "u1"), [2, 4], BIN, chunks=32)
    assert [image.data.chunksize for image in multiscales.images] == [(32, 32), (32, 32), (25, 22)]


# ------------------------------------------------------------------ factors


@pytest.mark.parametrize(
    ("dims", "shape", "chunks", "min_length", "expected"),
    [
        ("yx", (1024, 1024), 256, 1, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), 256, 64, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), 256, 128, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), 256, 100_000, [(2, 2)]),
        ("zyx", (64, 1024, 1024), 128, 128, [(1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ("yx", (256, 256), 256, 128, []),
        ("zyx", (256, 1024, 1024), 128, 128, [(1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        (
            "tzyx",
            (1, 125, 1024, 1024),
            {"t": 1, "z": 50, "y": 51, "x": 50},
            128,
            [(1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)],
        ),
    ],
)
def test_factors_from_an_int(
    dims: str, shape: tuple[int, ...], chunks: Any, min_length: int, expected: list[Any]
) -> None:
    """The vectors of the specification, by both functions."""
    image = NgffImage(da.zeros(shape, dtype="u1"), dims)
    multiscales = to_multiscales(image, min_length, BIN, chunks=chunks)
    spatial = [d for d in dims if d != "t"]
    wanted = [dict(zip(spatial, factors, strict=True)) for factors in expected]
    assert multiscales.scale_factors == wanted
    cut = chunks if isinstance(chunks, dict) else dict.fromkeys(dims, chunks)
    assert _ngff_image_scale_factors(image, min_length, cut) == wanted
    sizes = dict(zip(dims, shape, strict=True))
    for level, factor in zip(multiscales.images[1:], wanted, strict=True):
        assert level.data.shape == tuple(sizes[d] // factor.get(d, 1) for d in dims)


def test_every_documented_form_of_a_list_of_factors() -> None:
    """Ints, mappings, numpy's ints; a missing axis keeps what it had at the level before."""
    array = np.zeros((96, 120), "u1")
    for factors, expected in (
        ([2, 4], [(2, 2), (4, 4)]),
        ((2, np.int64(4)), [(2, 2), (4, 4)]),
        ([{"x": 2, "y": 4}, {"x": 5, "y": 10}], [(4, 2), (10, 5)]),
        ([{"x": 2}, {"y": 3}], [(1, 2), (3, 2)]),
        ([2, {"x": 3}], [(2, 2), (2, 3)]),
        ([], []),
    ):
        multiscales = to_multiscales(array, factors, BIN)
        assert [(f["y"], f["x"]) for f in multiscales.scale_factors or ()] == expected
        shapes = [image.data.shape for image in multiscales.images[1:]]
        assert shapes == [(96 // y, 120 // x) for y, x in expected]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([2.0], "2.0 is not a whole number"),
        ([0], "0 is not positive"),
        ([-2], "-2 is not positive"),
        ([4, 2], "below the 4"),
        ([2, 2], "no coarser"),
        ([64], "leaves nothing"),
        ([{"c": 2}], "'c' is not a spatial axis"),
        ("24", "neither an int nor a list"),
        (0, "not positive"),
    ],
)
def test_factors_that_make_no_sense_are_named(factors: Any, message: str) -> None:
    """Before anything is computed."""
    with pytest.raises(ValueError, match=message):
        to_multiscales(np.zeros((40, 60)), factors, BIN)


def test_a_level_comes_from_the_nearest_earlier_one_that_divides_it() -> None:
    """5 is no whole step from 2, so it comes from the full image; 10 comes from 5."""
    array = samples(120, 110)
    factors = [2, 5, 10]
    levels = [i.data.compute() for i in to_multiscales(array, factors, BIN, chunks=16).images]
    np.testing.assert_array_equal(
        levels[2], to_multiscales(array, [5], BIN).images[1].data.compute()
    )
    np.testing.assert_array_equal(
        levels[3], to_multiscales(levels[2], [2], BIN).images[1].data.compute()
    )


# ------------------------------------------------------------------ geometry


def ramp(shape: tuple[int, ...], scale: dict[str, float], dims: str) -> np.ndarray[Any, Any]:
    """Samples that are a linear function of their position."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    weights = dict(zip(dims, (7.0, 1.0, 0.1), strict=False))
    return np.asarray(sum(weights[d] * scale[d] * a for d, a in zip(dims, axes, strict=True)))


@pytest.mark.parametrize(
    "method", [GAUSSIAN, BIN, Methods.DASK_IMAGE_GAUSSIAN, Methods.DASK_BIN_SHRINK]
)
@pytest.mark.parametrize(
    ("dims", "factors"),
    [("yx", [2, 4, 8, 16]), ("yx", [3, 6, {"y": 12, "x": 6}, 24]), ("zyx", [2, 4])],
)
def test_a_ramp_reads_back_as_the_metadata_says(
    method: Methods, dims: str, factors: list[Any]
) -> None:
    """Away from the borders, at every level, by the true factor and no ratio of shapes."""
    shape = (515, 397)[: len(dims)] if dims == "yx" else (61, 67, 71)
    scale = dict(zip(dims, (0.5, 2.0, 0.25), strict=False))
    image = NgffImage(ramp(shape, scale, dims).astype("f4"), dims, scale)
    multiscales = to_multiscales(image, factors, method, chunks=150)
    weights = dict(zip(dims, (7.0, 1.0, 0.1), strict=False))
    for level in multiscales.images:
        found = level.data.compute()
        places = np.ogrid[tuple(slice(n) for n in found.shape)]
        expected = sum(
            weights[d] * (level.translation[d] + level.scale[d] * place)
            for d, place in zip(dims, places, strict=True)
        )
        inside = tuple(slice(4, -4) for _ in dims)
        np.testing.assert_allclose(found[inside], np.asarray(expected)[inside], rtol=1e-5)
        assert min(found[inside].shape) > 0


SELECTING = {
    # where in a bin of k samples the chosen one lies, if all samples differ and grow
    "itkwasm_label_image": lambda k: (k - 1) // 2,
    "dask_image_nearest": lambda k: (k - 1) // 2,
    "dask_image_mode": lambda k: 0,
}


@pytest.mark.parametrize("method", SELECTING)
def test_a_selecting_method_takes_the_sample_that_its_rule_names(method: str) -> None:
    """Through four levels: labels are their own positions, and each tie goes one way."""
    shape, steps = (120, 131), (2, 3, 2, 4)
    array = np.arange(math.prod(shape), dtype="i4").reshape(shape)
    factors = [int(f) for f in np.cumprod(steps)]
    multiscales = to_multiscales(array, factors, Methods(method), chunks=33)
    taken = [np.arange(n) for n in shape]
    for step, level in zip(steps, multiscales.images[1:], strict=True):
        offset = SELECTING[method](step)
        taken = [t[: len(t) // step * step].reshape(-1, step)[:, offset] for t in taken]
        np.testing.assert_array_equal(level.data.compute(), array[np.ix_(*taken)])


def test_metadata_has_the_true_factor() -> None:
    """101 samples at factor 2 make 50, and a scale of 2 all the same."""
    image = NgffImage(
        np.zeros((101, 103), "u1"), scale={"y": 0.5, "x": 0.25}, translation={"y": 10}
    )
    multiscales = to_multiscales(image, [2, 4], BIN)
    found = [(i.scale["y"], i.translation["y"], i.translation["x"]) for i in multiscales.images]
    assert found == [(0.5, 10.0, 0.0), (1.0, 10.25, 0.125), (2.0, 10.75, 0.375)]
    for level, dataset in zip(multiscales.images, multiscales.metadata.datasets, strict=True):
        scale, translation = dataset.coordinateTransformations
        assert scale.scale == [level.scale[d] for d in "yx"]
        assert translation.translation == [level.translation[d] for d in "yx"]


def test_metadata_names_method_and_paths() -> None:
    """``scale{i}/{name}``, the method's value, and how it was made."""
    multiscales = to_multiscales(NgffImage(np.zeros((40, 40), "u1"), name="cells"), [2], BIN)
    metadata = multiscales.metadata
    assert [d.path for d in metadata.datasets] == ["scale0/cells", "scale1/cells"]
    assert (metadata.type, metadata.name) == ("itkwasm_bin_shrink", "cells")
    assert (metadata.metadata or {})["method"].startswith("itkwasm_downsample.")
    assert multiscales.method is BIN
    assert to_multiscales(np.zeros((40, 40))).method is GAUSSIAN
    assert to_multiscales(np.zeros((40, 40)), method="itkwasm_bin_shrink").method is BIN


def test_orientation_replaces_what_the_image_carries() -> None:
    """A preset or a mapping; every level and the axes of the metadata have it."""
    image = NgffImage(np.zeros((40, 40, 40), "u1"), axes_orientations=LPS)
    kept = to_multiscales(image, [2], BIN)
    assert kept.images[1].axes_orientations == dict(LPS)
    replaced = to_multiscales(image, [2], BIN, orientation="ras")
    assert [i.axes_orientations for i in replaced.images] == [dict(RAS)] * 2
    assert [axis.orientation for axis in replaced.metadata.axes] == [RAS[d] for d in "zyx"]
    only = {"x": AnatomicalOrientation(value="apex-to-base")}
    assert to_multiscales(image, [], orientation=only).images[0].axes_orientations == only
    with pytest.raises(ValueError, match="LAS"):
        to_multiscales(image, [], orientation="LAS")
    with pytest.raises(ValueError, match="not an axis of this image"):
        to_multiscales(np.zeros((4, 4)), [], orientation={"z": LPS["z"]})


# ------------------------------------------------------------------ chunks of the cache


@given(st.integers(1, 2000), st.integers(1, 3000), st.sampled_from([1, 2, 16, 32]))
def test_the_optimal_chunk_is_the_nearest_divisor(first: int, size: int, divisor: int) -> None:
    """A multiple of the divisor where two are as near; tiny axes are one chunk."""
    found = _find_optimal_chunk_size(first, size, divisor)
    if size <= divisor:
        assert found == size
        return
    assert size % found == 0
    distances = {d: abs(d - first) for d in range(1, size + 1) if size % d == 0}
    assert distances[found] == min(distances.values())
    as_near = [d for d, distance in distances.items() if distance == distances[found]]
    if found % divisor:
        assert all(d % divisor for d in as_near)


def test_the_optimal_chunk_by_example() -> None:
    """Two as near as each other, and a prime."""
    assert _find_optimal_chunk_size(512, 4096) == 512
    assert _find_optimal_chunk_size(24, 96) == 24
    assert _find_optimal_chunk_size(40, 96, 16) in (32, 48)
    assert _find_optimal_chunk_size(512, 7919) == 1
    assert _find_optimal_chunk_size(5, 13) == 13


def cache_folders(place: Path) -> list[Path]:
    return sorted(place.glob("ngff-flows-cache-*"))


@pytest.mark.parametrize(
    ("dims", "shape", "chunk"),
    [
        ("zyx", (1031, 3, 1024), (512, 3, 512)),
        ("yx", (2003, 3000), (1024, 1000)),
        ("tyx", (2, 300, 2048), (1, 300, 1024)),
        ("x", (5000,), (1000,)),
    ],
)
def test_cache_chunks_divide_evenly_and_primes_get_the_target(
    dims: str, shape: tuple[int, ...], chunk: tuple[int, ...], own_cache: Path
) -> None:
    """512 with z, 1024 without, t 1: 1031 and 2003 are primes, whose divisors nobody wants."""
    array = samples(*shape, dtype="uint8")
    cached = _large_image_serialization(NgffImage(array, dims), None)
    (folder,) = cache_folders(own_cache)
    assert zarr.open_array(folder, mode="r").chunks == chunk
    np.testing.assert_array_equal(cached.data.compute(), array)


# ------------------------------------------------------------------ the cache


@pytest.mark.parametrize("cache", [True, False, None])
@pytest.mark.parametrize(
    ("dims", "shape"),
    [("x", (700,)), ("cyx", (2, 130, 170)), ("tczyx", (2, 2, 61, 70, 53))],
)
def test_the_cache_decides_no_sample(
    cache: bool | None, dims: str, shape: tuple[int, ...], own_cache: Path
) -> None:
    """On, off, or as it thinks fit."""
    array = samples(*shape)
    lazy = da.from_array(array, chunks=37)
    found = to_multiscales(NgffImage(lazy, dims), [2, 4], BIN, chunks=29, cache=cache)
    expected = to_multiscales(NgffImage(array, dims), [2, 4], BIN, cache=False)
    assert len(cache_folders(own_cache)) == (1 if cache else 0)
    for a, b in zip(found.images, expected.images, strict=True):
        np.testing.assert_array_equal(a.data.compute(), b.data.compute())


def test_none_caches_what_is_larger_than_the_memory_target(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what is as large."""
    array = samples(100, 100)
    monkeypatch.setattr(config, "memory_target", array.nbytes)
    to_multiscales(array, [])
    assert not cache_folders(own_cache)
    monkeypatch.setattr(config, "memory_target", array.nbytes - 1)
    to_multiscales(array, [], cache=False)
    assert not cache_folders(own_cache)
    to_multiscales(array, [])
    assert len(cache_folders(own_cache)) == 1


def test_none_caches_what_has_more_tasks_than_the_target(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that is too long is cut there."""
    assert config.task_target == 50_000
    lazy = da.ones((100, 100), chunks=10)
    tasks = len(lazy.__dask_graph__())
    monkeypatch.setattr(config, "task_target", tasks)
    to_multiscales(lazy, [])
    assert not cache_folders(own_cache)
    monkeypatch.setattr(config, "task_target", tasks - 1)
    multiscales = to_multiscales(lazy, [])
    assert len(cache_folders(own_cache)) == 1
    assert len(multiscales.images[0].data.__dask_graph__()) < tasks


@pytest.mark.parametrize(
    ("dims", "shape", "chunks"),
    [
        ("tczyx", (3, 2, 200, 60, 70), (1, 2, 17, 60, 70)),
        ("zyx", (300, 100, 90), (1, 100, 90)),
        ("cyx", (3, 400, 500), (1, 64, 500)),
        ("yx", (1000, 300), (128, 128)),
        ("x", (300_000,), (1000,)),
    ],
)
@pytest.mark.parametrize("memory", [100_000, 1_000_000, 10**9])
def test_a_piece_fits_the_memory_target_and_covers_whole_chunks(
    dims: str, shape: tuple[int, ...], chunks: tuple[int, ...], memory: int
) -> None:
    """With t, c and the blocks around it counted; at least one chunk."""
    data = da.zeros(shape, chunks=chunks, dtype="u1")
    unit = tuple(min(n, 64) if d in "zyx" else 1 for d, n in zip(dims, shape, strict=True))
    along = "z" if "z" in dims else max(("y", "x"), key=lambda d: dict(zip(dims, shape)).get(d, 0))  # noqa: B905
    piece = box_shape(data, dims, unit, along, memory)
    for p, u, n in zip(piece, unit, shape, strict=True):
        assert p % u == 0 or p == n
    touched = [
        max(b - a for a, b in spans(n, p, c)) for n, p, c in zip(shape, piece, chunks, strict=True)
    ]
    assert math.prod(piece) + math.prod(touched) <= memory or piece == unit
    if memory == 10**9:
        assert piece == shape


@pytest.mark.parametrize("memory", [30_000, 100_000, 10**6])
@pytest.mark.parametrize(
    ("dims", "shape", "chunks"),
    [
        ("zyx", (64, 100, 90), (4, 20, 90)),
        ("zyx", (31, 33, 37), ((7, 9, 15), (11, 11, 11), (10, 17, 10))),
        # channels by the hundred, which a chunk of 16 x 16 x 16 has all
        ("czyx", (500, 20, 20, 20), (500, 1, 2, 6)),
        ("tcyx", (3, 300, 64, 64), (1, 300, 3, 5)),
        ("x", (100_000,), (1000,)),
    ],
)
def test_the_work_on_a_piece_fits_any_target_that_a_block_leaves_room_in(
    dims: str,
    shape: tuple[int, ...],
    chunks: Any,
    memory: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cache chunks become as small as it takes; none is too small to be worth an object."""
    data = da.zeros(shape, chunks=chunks, dtype="u2")
    assert block_bytes(data) < memory
    monkeypatch.setattr(config, "memory_target", memory)
    cut = cache_pass._cache_chunks(dims, data)
    unit = tuple(cut[d] for d in dims)
    along = "z" if "z" in dims else dims[-1]
    piece = box_shape(data, dims, unit, along, memory)
    touched = [
        max(b - a for a, b in touching(sizes, p))
        for p, sizes in zip(piece, data.chunks, strict=True)
    ]
    assert 2 * (4 * math.prod(piece) + math.prod(touched)) <= memory
    assert math.prod(unit) >= 128 or unit == shape


def touching(sizes: Sequence[int], piece: int) -> Iterator[tuple[int, int]]:
    """Where the blocks that each piece along an axis touches begin and end."""
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    for start in range(0, edges[-1], piece):
        stop = min(edges[-1], start + piece)
        yield max(e for e in edges if e <= start), min(e for e in edges if e >= stop)


def test_blocks_beyond_the_target_are_not_computed_once_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing keeps to a target that one block exceeds; then each is computed a few times."""
    watched = Counted(samples(64, 128, 128))
    lazy = da.from_array(watched, chunks=(16, 128, 128), meta=np.empty((0, 0, 0), "u2"))
    monkeypatch.setattr(config, "memory_target", 10_000)
    cached = to_multiscales(lazy, [], cache=True)
    assert watched.reads <= 4 * 8
    np.testing.assert_array_equal(cached.images[0].data.compute(), watched.array)


def test_what_is_stored_is_read_in_parts_that_a_small_target_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the same source under another target is another array, by its name too."""
    array = samples(64, 128, 128)
    before = to_multiscales(array, [], cache=False).images[0].data
    monkeypatch.setattr(config, "memory_target", 100_000)
    image = to_ngff_image(array)
    assert block_bytes(image.data) <= 100_000 // 8
    np.testing.assert_array_equal((image.data - before).compute(), np.zeros_like(array))


def spans(n: int, piece: int, chunk: int) -> Iterator[tuple[int, int]]:
    """What of blocks of ``chunk`` the pieces of ``piece`` along an axis touch."""
    for start in range(0, n, piece):
        stop = min(n, start + piece)
        yield start // chunk * chunk, min(n, -(-stop // chunk) * chunk)


def test_caching_computes_every_block_of_the_input_once_where_memory_allows() -> None:
    """And a small target makes many small pieces."""
    watched = Counted(samples(64, 128, 128))
    lazy = da.from_array(watched, chunks=(16, 128, 128), meta=np.empty((0, 0, 0), "u2"))
    to_multiscales(lazy, [], cache=True)
    assert watched.reads == 4


def test_a_small_memory_target_makes_small_pieces(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a 2 MiB image, with 1 MiB to work in."""
    array = samples(64, 128, 128)
    monkeypatch.setattr(config, "memory_target", 2**20)
    log = Bar()
    cached = to_multiscales(array, [], cache=True, progress=NgffProgress(log))
    np.testing.assert_array_equal(cached.images[0].data.compute(), array)
    caching = [t for d, t in zip(log.descriptions, log.totals, strict=True) if "Caching" in d]
    (total,) = caching
    assert total >= 8
    (folder,) = cache_folders(own_cache)
    assert 3 * math.prod(zarr.open_array(folder, mode="r").chunks) * 2 <= 2**20


@pytest.mark.parametrize("store", ["mapping", "zarr", "uri"])
def test_the_cache_store_is_any_store(
    store: str, monkeypatch: pytest.MonkeyPatch, memory_filesystem: Any
) -> None:
    """A mapping, a zarr store, a URI."""
    mapping: dict[str, bytes] = {}
    stores = {"mapping": mapping, "zarr": zarr.storage.MemoryStore(), "uri": "memory://a-cache"}
    monkeypatch.setattr(config, "cache_store", stores[store])
    array = samples(50, 60)
    multiscales = to_multiscales(array, [2], BIN, cache=True)
    np.testing.assert_array_equal(multiscales.images[0].data.compute(), array)
    if store == "mapping":
        assert mapping
    release_caches([image.data for image in multiscales.images])
    assert not mapping


@pytest.mark.parametrize("function", [_cache_2d_strips, _cache_1d_segments])
def test_the_parts_of_the_cache_pass_by_themselves(function: Any, tmp_path: Path) -> None:
    """Each takes data, dims, chunks, store, folder and progress, and gives a dask array."""
    shape, dims = ((3, 90, 200), "cyx") if function is _cache_2d_strips else ((3, 900), "cx")
    array = samples(*shape)
    log = Bar()
    lazy = da.from_array(array, chunks=50)
    rechunks = {"c": 3, "y": 40, "x": 64}
    cached = function(lazy, dims, rechunks, tmp_path / "store", "a/b", NgffProgress(log))
    np.testing.assert_array_equal(cached.compute(), array)
    stored = zarr.open_array(tmp_path / "store" / "a" / "b", mode="r")
    assert stored.chunks == tuple(rechunks[d] for d in dims)
    np.testing.assert_array_equal(stored[...], array)
    assert log.counts[0][-1] == log.totals[0]


def test_the_cache_is_removed_when_the_pyramid_has_been_written(
    own_cache: Path, tmp_path: Path
) -> None:
    """Lazy images still give their samples afterwards, from the caller's array."""
    array = samples(100, 120)
    multiscales = to_multiscales(da.from_array(array, chunks=33), [2], BIN, cache=True)
    assert cache_folders(own_cache)
    to_ngff_zarr(tmp_path / "a.ome.zarr", multiscales)
    assert not cache_folders(own_cache)
    np.testing.assert_array_equal(multiscales.images[0].data.compute(), array)
    to_ngff_zarr(tmp_path / "b.ome.zarr", multiscales, version="0.4")
    for path in ("a", "b"):
        stored = zarr.open_array(tmp_path / f"{path}.ome.zarr" / "scale0" / "image", mode="r")
        np.testing.assert_array_equal(stored[...], array)


def test_all_zeros_are_cached_as_zeros(own_cache: Path) -> None:
    """A chunk of nothing but the fill value is there, and not taken for one that is gone."""
    watched = Counted(np.zeros((128, 128), "u2"))
    lazy = da.from_array(watched, chunks=64, meta=np.empty((0, 0), "u2"))
    multiscales = to_multiscales(lazy, [], cache=True)
    before = watched.reads
    assert not multiscales.images[0].data.compute().any()
    assert watched.reads == before


PROGRAM = """
import sys, time
import numpy as np
import ngff_core
ngff_core.config.cache_store = sys.argv[1]
image = np.ones((64, 64), "u1")
multiscales = ngff_core.to_multiscales(image, [], cache=True)
print("cached", flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


def run_cached(place: Path, what: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "cached\n"
    assert len(cache_folders(place)) == 1 or what == "end"
    return process


def test_the_cache_is_removed_at_exit(own_cache: Path) -> None:
    """Where nothing was written."""
    process = run_cached(own_cache, "end")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not cache_folders(own_cache)


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
def test_ctrl_c_ends_a_process_that_has_cached_and_its_cache_goes(own_cache: Path) -> None:
    """Python's own KeyboardInterrupt, with its traceback."""
    process = run_cached(own_cache, "wait")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert not cache_folders(own_cache)


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
def test_sigterm_ends_a_process_that_has_cached_and_age_removes_the_cache(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands between the signal and the process; a later one tidies up."""
    process = run_cached(own_cache, "wait")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    (left,) = cache_folders(own_cache)
    remove_stale_caches(config.cache_store)
    assert left.exists()
    week = 7 * 24 * 3600
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + week + 60)
    to_multiscales(np.ones((8, 8)), [], cache=True)
    assert not left.exists()


def test_what_a_live_process_cached_is_never_stale(own_cache: Path) -> None:
    """However old; and what does not look like a cache is nobody's to remove."""
    host = socket.gethostname().replace("-", "_")
    kept = [
        own_cache / f"ngff-flows-cache-1000-{host}-{os.getpid()}-abcdef01",
        own_cache / "ngff-flows-cache-of-somebody",
        own_cache / "thesis",
    ]
    gone = [own_cache / f"ngff-flows-cache-1000-{host}_elsewhere-{os.getpid()}-abcdef01"]
    for folder in (*kept, *gone):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    remove_stale_caches(own_cache)
    assert all((folder / "file").exists() for folder in kept)
    assert not any((folder / "file").exists() for folder in gone)


def test_signal_handlers_are_left_alone() -> None:
    """Before and after the cache pass they are the same."""
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(kind) for kind in kinds]
    to_multiscales(np.ones((8, 8)), [], cache=True)
    assert [signal.getsignal(kind) for kind in kinds] == before


# ------------------------------------------------------------------ progress


@pytest.mark.parametrize("kind", [NgffProgress, NgffProgressCallback])
def test_updates_come_after_each_piece_and_end_at_the_total(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts never go backwards, in the cache pass and in that over the levels."""
    monkeypatch.setattr(config, "memory_target", 2**18)
    log = Bar()
    to_multiscales(samples(100, 200, 60), [2, 4], BIN, cache=True, progress=kind(log))
    passes = [i for i, total in enumerate(log.totals) if total is not None]
    assert len(passes) == 2
    for task in passes:
        assert log.counts[task] == list(range(1, int(log.totals[task]) + 1))
    assert (len(log.totals) > 2) == (kind is NgffProgressCallback)


def test_an_update_is_sent_after_its_piece_is_done(own_cache: Path) -> None:
    """At the first update the piece is in the cache."""
    seen: list[int] = []

    class Progress(NgffProgress):
        def update_cache_task_completed(self, completed: int) -> None:
            (folder,) = cache_folders(own_cache)
            seen.append(int(zarr.open_array(folder, mode="r")[...].sum()))

    to_multiscales(np.ones((64, 64), "u1"), [], cache=True, progress=Progress(Bar()))
    assert seen == [64 * 64]


def test_a_real_bar_is_moved() -> None:
    """rich's own."""
    from rich.progress import Progress

    with Progress(disable=True) as bar:
        callback = NgffProgressCallback(bar)
        to_multiscales(samples(100, 100), [2], BIN, cache=True, progress=callback)
    assert bar.finished or all(t.total in (t.completed, None) for t in bar.tasks)


def test_dask_configuration_of_the_caller_holds() -> None:
    """Levels are ordinary dask arrays: any scheduler computes them."""
    image = to_multiscales(samples(80, 90), [2], BIN, chunks=16).images[1]
    with dask.config.set(scheduler="synchronous"):
        alone = image.data.compute()
    np.testing.assert_array_equal(alone, image.data.compute(scheduler="threads"))
    part = replace(image, data=image.data[5:20, 7:9]).data.compute()
    np.testing.assert_array_equal(part, alone[5:20, 7:9])


def test_ngff_core_shows_what_users_of_ngff_zarr_know() -> None:
    """Each name, at the top."""
    names = (
        "to_ngff_image to_multiscales to_ngff_zarr from_ngff_zarr Methods NgffImage "
        "NgffMultiscales Multiscales NgffProgress NgffProgressCallback AnatomicalOrientation "
        "AnatomicalOrientationValues LPS RAS config Metadata Axis Dataset Scale Translation"
    )
    for name in names.split():
        assert hasattr(ngff_core, name)
        assert name in ngff_core.__all__
