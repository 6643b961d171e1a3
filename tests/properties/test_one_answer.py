"""One answer: samples depend on source, factors and method, and on nothing else.

Each test holds ways of making one pyramid against each other, to the byte, on images
that cross many chunks and shards.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core import (
    Methods,
    NgffImage,
    build_pyramid,
    config,
    to_multiscales,
    to_ngff_zarr,
)
from ngff_core.model.image import in_canonical_order
from ngff_core.progress import Advanced, Event
from ngff_core.records.ledger import Ledger
from tests.support.folders import files

METHODS = [
    Methods.ITKWASM_BIN_SHRINK,
    Methods.ITKWASM_GAUSSIAN,
    Methods.ITKWASM_LABEL_IMAGE,
    Methods.DASK_IMAGE_GAUSSIAN,
    Methods.DASK_IMAGE_MODE,
    Methods.DASK_IMAGE_NEAREST,
    Methods.DASK_BIN_SHRINK,
]

BlockedArray = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """An image, and what decides its pyramid's samples."""

    dims: str
    shape: tuple[int, ...]
    dtype: str
    factors: tuple[Any, ...]
    method: Methods
    seed: int

    def image(self) -> NgffImage:
        """Noise with long runs of equal samples, up to the ends of the dtype's range."""
        rng = np.random.default_rng(self.seed)
        noise = rng.integers(0, 4, self.shape) * (rng.random(self.shape) < 0.8)
        dtype = np.dtype(self.dtype)
        top = np.iinfo(dtype).max if dtype.kind in "iu" else 1
        return NgffImage(
            (noise * (top // 3 if dtype.kind != "f" else 1.1)).astype(dtype), self.dims
        )


@st.composite
def cases(draw: st.DrawFn, methods: list[Methods]) -> Case:
    """Two to four axes in any order, odd and even sizes, mixed and skipping factors."""
    dims = draw(st.sampled_from(["yx", "zyx", "xyz", "cyx", "yxc", "tyx", "tczyx"]))
    longest = 48 if "z" in dims else 130
    sizes = {"t": st.integers(1, 2), "c": st.integers(1, 3)}
    spatial = st.integers(24, longest)
    factors = draw(
        st.sampled_from(
            [(2, 4), (2, 4, 8), (3, 6), (2, 3), ({"x": 2}, {"x": 2, "y": 5}, {"x": 4, "y": 10})]
        )
    )
    return Case(
        dims,
        tuple(draw(sizes.get(d, spatial)) for d in dims),
        draw(st.sampled_from(["u1", "u2", ">i2", "f4"])),
        factors,
        draw(st.sampled_from(methods)),
        draw(st.integers(0, 99)),
    )


def computed(multiscales: Any) -> BlockedArray:
    return [image.data.compute() for image in multiscales.images]


def stored(store: Any, levels: int) -> BlockedArray:
    """The levels as another reader finds them: by zarr, from what metadata names."""
    group = zarr.open_group(store, mode="r")
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
    assert len(found) == levels
    return [np.asarray(group[dataset["path"]][...]) for dataset in found]


def check_equal(found: BlockedArray, expected: BlockedArray) -> None:
    for level, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, level
        assert (
            a.astype(b.dtype.newbyteorder("<")).tobytes()
            == b.astype(b.dtype.newbyteorder("<")).tobytes()
        ), level


def reference(case: Case) -> BlockedArray:
    """Every level in one piece."""
    return computed(to_multiscales(case.image(), case.factors, case.method, chunks=10_000))


sizes = st.integers(9, 40)


@settings(max_examples=14, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(METHODS), data=st.data())
def test_chunks_of_input_and_output_change_nothing(case: Case, data: st.DataObject) -> None:
    """The lazy API, cut any way."""
    image = case.image()
    cut = tuple(data.draw(st.integers(11, 50)) for _ in case.shape)
    lazy = NgffImage(da.from_array(image.data, chunks=cut), image.dims)
    chunks = {d: data.draw(sizes) for d in case.dims if d in "zyx"}
    found = computed(to_multiscales(lazy, case.factors, case.method, chunks=chunks))
    check_equal(found, reference(case))
    ordered = in_canonical_order(image).data
    np.testing.assert_array_equal(found[0], ordered[(slice(None),) * len(case.shape)])


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(METHODS), data=st.data())
def test_the_region_builder_gives_the_samples_of_the_lazy_api(
    case: Case, data: st.DataObject, tmp_path: Path
) -> None:
    """Whatever its chunks, shards, workers, version and cache."""
    chunk = data.draw(sizes)
    version = data.draw(st.sampled_from(["0.4", "0.5", "0.6"]))
    shards = None if version == "0.4" else data.draw(st.sampled_from([None, chunk, 2 * chunk]))
    chunks = {d: min(chunk, n) for d, n in zip(case.dims, case.shape, strict=True) if d in "zyx"}
    target = tmp_path / f"{len(list(tmp_path.iterdir()))}.ome.zarr"
    report = build_pyramid(
        case.image(),
        target,
        method=case.method,
        scale_factors=case.factors,
        chunks=chunks,
        shards=None if shards is None else {d: c * (shards // chunk) for d, c in chunks.items()},
        ome_zarr_version=version,
        workers=data.draw(st.integers(1, 4)),
        cache=data.draw(st.sampled_from(["always", "never"])),
    )
    assert report.verified
    check_equal(stored(target, len(case.factors) + 1), reference(case))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(METHODS), data=st.data())
def test_writing_a_lazy_pyramid_gives_its_samples(case: Case, data: st.DataObject) -> None:
    """Levels are computed from their stored parents, by regions, with any worker count."""
    chunks = {d: data.draw(sizes) for d in case.dims if d in "zyx"}
    version = data.draw(st.sampled_from(["0.4", "0.5", "0.6"]))
    multiscales = to_multiscales(case.image(), case.factors, case.method, chunks=chunks)
    store = zarr.storage.MemoryStore()
    to_ngff_zarr(
        store,
        multiscales,
        version=version,
        chunks_per_shard=None if version == "0.4" else data.draw(st.sampled_from([None, 1, 2])),
        workers=data.draw(st.integers(1, 4)),
    )
    check_equal(stored(store, len(case.factors) + 1), reference(case))


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[Path]:
    """A cache of the test's own, and little memory to make it with."""
    before = config.cache_store, config.memory_target
    config.cache_store, config.memory_target = tmp_path / "cache", 2**17
    yield tmp_path / "cache"
    config.cache_store, config.memory_target = before


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(METHODS[:2]), data=st.data())
def test_the_cache_changes_nothing(case: Case, data: st.DataObject, small_cache: Path) -> None:
    """Made in many small pieces, read lazily, and written from."""
    image = case.image()
    lazy = NgffImage(da.from_array(image.data, chunks=data.draw(sizes)), image.dims)
    multiscales = to_multiscales(lazy, case.factors, case.method, chunks=20, cache=True)
    check_equal(computed(multiscales), reference(case))
    store = zarr.storage.MemoryStore()
    to_ngff_zarr(store, multiscales)
    check_equal(stored(store, len(case.factors) + 1), reference(case))


@pytest.mark.parametrize("method", [Methods.ITKWASM_GAUSSIAN, Methods.ITKWASM_LABEL_IMAGE])
def test_a_larger_image_crosses_many_chunks_and_shards(method: Methods, tmp_path: Path) -> None:
    """Three ways to one pyramid, level 0 in 108 chunks and 18 shards."""
    case = Case("zyx", (60, 130, 139), "u2", (2, 4, 8), method, 1)
    image, expected = case.image(), reference(case)
    lazy = to_multiscales(
        NgffImage(da.from_array(image.data, chunks=(33, 64, 139))), case.factors, method, chunks=24
    )
    check_equal(computed(lazy), expected)
    options: dict[str, Any] = {"method": method, "scale_factors": case.factors, "chunks": 24}
    build_pyramid(
        image, tmp_path / "built.zarr", shards=48, workers=4, level_paths="named", **options
    )
    to_ngff_zarr(tmp_path / "written.zarr", lazy, chunks_per_shard=2)
    for name in ("built.zarr", "written.zarr"):
        check_equal(stored(tmp_path / name, 4), expected)
    documents = [
        json.loads((tmp_path / name / "zarr.json").read_text())
        for name in ("built.zarr", "written.zarr")
    ]
    # What was measured for display is not known before the samples are.
    documents[0]["attributes"]["ome"].pop("omero", None)
    assert documents[0] == documents[1]
    for level in range(4):
        path = f"scale{level}/image/c"
        assert files(tmp_path / "built.zarr" / path) == files(tmp_path / "written.zarr" / path)


LARGE: dict[str, Any] = {"scale_factors": [2, 4, 8], "chunks": 24, "shards": 48}


def large(dtype: str = "u2") -> np.ndarray[Any, Any]:
    """An image whose level 0 lies in 108 chunks and 18 shards, with runs of equal samples."""
    return np.asarray(Case("zyx", (60, 130, 139), dtype, (2, 4, 8), METHODS[0], 2).image().data)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_regions_changes_nothing(
    method: Methods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written first to last by one worker, or shuffled by four: the same objects."""
    build_pyramid(large(), tmp_path / "a.zarr", method=method, workers=1, **LARGE)
    in_order = Ledger.remaining.fget
    assert in_order is not None
    shuffled = property(lambda ledger: random.Random(7).sample(r := in_order(ledger), len(r)))
    monkeypatch.setattr(Ledger, "remaining", shuffled)
    build_pyramid(large(), tmp_path / "b.zarr", method=method, workers=4, **LARGE)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


@pytest.mark.parametrize("method", METHODS)
def test_an_interruption_changes_nothing(method: Methods, tmp_path: Path) -> None:
    """Stopped again and again, each time some regions on, it ends with the same objects."""
    build_pyramid(large(), tmp_path / "whole.zarr", method=method, **LARGE)
    target = tmp_path / "stopped.zarr"

    def stop(event: Event) -> None:
        if isinstance(event, Advanced) and event.phase != "verify" and event.done % 7 == 5:
            raise KeyboardInterrupt

    for _ in range(30):
        with suppress(KeyboardInterrupt):
            build_pyramid(large(), target, method=method, progress=stop, **LARGE)
            break
    assert files(target) == files(tmp_path / "whole.zarr")


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("method", METHODS[:3])
def test_both_back_ends_give_one_pyramid(
    method: Methods, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Native kernels and ITK's module: the same objects, through three levels."""
    for backend in ("native", "itkwasm"):
        monkeypatch.setattr(config, "kernel_backend", backend)
        build_pyramid(large(dtype), tmp_path / f"{backend}.zarr", method=method, **LARGE)
    assert files(tmp_path / "native.zarr") == files(tmp_path / "itkwasm.zarr")
