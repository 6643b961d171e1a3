"""What a lazy array reads is never overwritten by it, however dask was asked to read it."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from dask.optimization import fuse
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore

import ngff_core
from ngff_core import (
    Methods,
    NgffImage,
    NgffMultiscales,
    config,
    from_ngff_zarr,
    to_multiscales,
    to_ngff_zarr,
)
from ngff_core.errors import InvalidOptionError
from ngff_core.lazy.multiscales import metadata_of
from ngff_core.storage import open_store

BIN = Methods.ITKWASM_BIN_SHRINK
SAMPLES = np.random.default_rng(0).integers(0, 60000, (64, 70)).astype("u2")
OPENED: dict[str, Any] = {}
"""What functions below take from their module, as code in a notebook does."""


def level_zero(target: Path) -> zarr.Array[Any]:
    return zarr.open_array(target / "scale0/image", mode="r")


def from_a_global(_: Any = None) -> Any:
    return OPENED["array"][:]


def from_another_function() -> Any:
    return from_a_global()


def through(function: Callable[[], Any]) -> Any:
    """A dask array of one block that a function gives."""
    return da.from_delayed(dask.delayed(function)(), SAMPLES.shape, "u2")


def by_name(uri: str) -> Any:
    return zarr.open_array(uri, mode="r")[:]


def closing_over(array: Any) -> Any:
    return through(lambda: array[:])


def in_blocks(array: Any) -> Any:
    def block(block_info: Any = None) -> Any:
        (y, x) = block_info[None]["array-location"]
        return array[slice(*y), slice(*x)]

    return da.map_blocks(block, chunks=((32, 32), (35, 35)), dtype="u2")


def legacy(array: Any) -> Any:
    """A graph as dask's documentation has it: a mapping of tuples."""
    tasks = {("mine", 0, 0): (lambda a: a[:], array)}
    return da.Array(tasks, "mine", chunks=((64,), (70,)), dtype="u2")


def mapped(target: Path) -> Any:
    """A file of the hierarchy itself, mapped into memory and turned over."""
    path = target / "scale0/image/raw"
    path.write_bytes(SAMPLES.tobytes())
    turned = np.memmap(path, "u2", "r", shape=SAMPLES.shape)[::-1]
    return through(lambda: turned[:])


def open_file(target: Path) -> Any:
    """A file that stays open between the tasks."""
    path = target / "scale0/image/raw"
    path.write_bytes(SAMPLES.tobytes())
    file = OPENED["file"] = path.open("rb")
    return through(partial(lambda f: np.frombuffer(f.read(), "u2").reshape(64, 70), file))


def in_tensorstore(target: Path) -> Any:
    store = {"driver": "file", "path": str(target / "scale0/image")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": store}).result()
    return through(partial(lambda a: a.read().result(), array))


READERS: dict[str, Callable[[Path], Any]] = {
    "from_zarr": lambda t: da.from_zarr(level_zero(t)),
    "from_zarr of a path": lambda t: da.from_zarr(str(t / "scale0/image")),
    "from_array": lambda t: da.from_array(level_zero(t), chunks=32),
    "from_array inline": lambda t: da.from_array(level_zero(t), chunks=32, inline_array=True),
    "from_array of a wrapped store": lambda t: da.from_array(
        zarr.open_array(WrapperStore(LocalStore(t)), path="scale0/image", mode="r")
    ),
    "map_blocks": lambda t: in_blocks(level_zero(t)),
    "map_blocks by a keyword": lambda t: da.zeros((64, 70), chunks=35, dtype="u2").map_blocks(
        lambda block, array: block + array[0, 0], array=level_zero(t), dtype="u2"
    ),
    "a closure": lambda t: closing_over(level_zero(t)),
    "a bound method": lambda t: through(partial(level_zero(t).__getitem__, slice(None))),
    "a group": lambda t: through(partial(lambda g: g["scale0/image"][:], zarr.open_group(t))),
    "a group above": lambda t: through(
        partial(lambda g, name: g[name]["scale0/image"][:], zarr.open_group(t.parent), t.name)
    ),
    "a store": lambda t: through(
        partial(lambda s: zarr.open_array(s, path="scale0/image")[:], LocalStore(t))
    ),
    "a path": lambda t: through(partial(by_name, t / "scale0/image")),
    "a text": lambda t: through(partial(by_name, str(t / "scale0/image"))),
    "a text in the working folder": lambda t: through(partial(by_name, f"{t.name}/scale0/image")),
    "a legacy graph": lambda t: legacy(level_zero(t)),
    "a mapped file": mapped,
    "an open file": open_file,
    "tensorstore": in_tensorstore,
    "ngff_core": lambda t: from_ngff_zarr(t).images[0].data,
}

CHANGES: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda a: a,
    "rechunked": lambda a: a.rechunk(16),
    "computed with": lambda a: (a + 1)[::-1].T.T,
    "optimized": lambda a: dask.optimize(a.rechunk(16) + 1)[0],
    "fused": lambda a: da.Array(
        fuse(dict((a + 1).__dask_graph__()))[0], (a + 1).name, a.chunks, dtype="u2"
    ),
}


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pyramid that stands in a zarr group with others."""
    zarr.open_group(tmp_path, mode="w")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "cache_store", tmp_path / "cache")
    to_ngff_zarr(tmp_path / "a.ome.zarr", to_multiscales(SAMPLES, [], BIN))
    yield tmp_path / "a.ome.zarr"
    if "file" in OPENED:
        OPENED["file"].close()
    OPENED.clear()


def refused(target: Any, array: Any) -> bool:
    """Whether writing a pyramid of ``array`` to ``target`` is refused, and nothing removed."""
    pyramid = to_multiscales(NgffImage(array), [2], BIN, cache=False)
    try:
        to_ngff_zarr(target, pyramid)
    except InvalidOptionError as error:
        return "is read from" in str(error)
    return False


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reader", READERS)
def test_an_array_is_not_written_over_what_it_reads(target: Path, reader: str, change: str) -> None:
    """Whatever dask made of it since; and elsewhere it is written."""
    array = CHANGES[change](READERS[reader](target))
    assert refused(target, array)
    assert not refused(target.with_name("b.ome.zarr"), array)
    np.testing.assert_array_equal(from_ngff_zarr(target).images[0].data.compute(), SAMPLES)


@pytest.mark.parametrize("function", [from_a_global, from_another_function])
def test_globals_that_a_function_names_are_seen(target: Path, function: Any) -> None:
    """As in a notebook, where nothing is passed on."""
    OPENED["array"] = level_zero(target)
    assert refused(target, through(function))


@pytest.mark.parametrize("spelling", ["child", "parent", "link", "uri"])
def test_every_spelling_of_the_place_is_seen(target: Path, spelling: str) -> None:
    """A folder in it, the group around it, a symbolic link to it, its URI."""
    array = da.from_zarr(level_zero(target))
    (target.parent / "link").symlink_to(target)
    spellings = {
        "child": target / "scale0/image/copy.ome.zarr",
        "parent": target.parent,
        "link": target.parent / "link",
        "uri": f"file://{target}",
    }
    assert refused(spellings[spelling], array)


@pytest.mark.parametrize("kind", ["memory", "gs", "s3"])
def test_buckets_are_seen(places: Any, kind: str) -> None:
    """By their URI, whichever client reads it."""
    target = f"{places(kind)}/a.ome.zarr"
    to_ngff_zarr(target, to_multiscales(SAMPLES, [], BIN))
    array = zarr.open_array(open_store(target).zarr(), path="scale0/image", mode="r")
    assert refused(target, da.from_array(array, chunks=32).rechunk(16))
    assert not refused(f"{target[:-9]}b.ome.zarr", da.from_array(array, chunks=32))


def test_mappings_and_stores_in_memory_are_seen() -> None:
    """By which they are, since they have no name."""
    mapping: dict[str, Any] = {}
    store = MemoryStore(mapping)
    zarr.create_array(store, name="a", data=SAMPLES)
    array = da.from_array(zarr.open_array(store, path="a", mode="r"))
    for target in (mapping, store, StorePath(store, "a")):
        assert refused(target, array)
    assert not refused(StorePath(store, "b"), array)
    assert not refused({}, array)


def test_samples_that_were_computed_are_read_from_nowhere(target: Path) -> None:
    """After ``persist`` and ``compute`` the target may be written."""
    lazy = da.from_zarr(level_zero(target))
    assert not refused(target, da.from_array(lazy.compute()))
    assert not refused(target, (da.from_zarr(level_zero(target)) + 0).persist(scheduler="sync"))


def test_a_single_level_that_reads_the_target_is_enough(target: Path) -> None:
    """Level 1 of a pyramid put together by hand."""
    images = [NgffImage(SAMPLES), NgffImage(level_zero(target), scale={"y": 2, "x": 2})]
    with pytest.raises(InvalidOptionError, match="is read from"):
        to_ngff_zarr(target, NgffMultiscales(images, metadata_of(images)))


def test_a_cached_pyramid_may_replace_its_source_as_long_as_the_cache_is_there(
    target: Path,
) -> None:
    """The first writing removes the cache; from then on the source itself would be read."""
    cached = to_multiscales(da.from_zarr(level_zero(target)), [2], BIN, cache=True)
    other = to_multiscales(da.from_zarr(level_zero(target)), [2], BIN, cache=True)
    to_ngff_zarr(target.with_name("b.ome.zarr"), other)
    with pytest.raises(InvalidOptionError, match="cache=True"):
        to_ngff_zarr(target, other)
    to_ngff_zarr(target, cached)
    np.testing.assert_array_equal(from_ngff_zarr(target).images[0].data.compute(), SAMPLES)


def test_a_path_that_is_only_named_does_not_keep_an_empty_target_empty(tmp_path: Path) -> None:
    """A function that is given its settings, the output among them."""
    settings = {"output": str(tmp_path / "a.ome.zarr"), "offset": 1}
    array = da.zeros((64, 70), dtype="u2").map_blocks(lambda b, s: b + s["offset"], settings)
    assert not refused(tmp_path / "a.ome.zarr", array)
    assert refused(tmp_path / "a.ome.zarr", array)


def test_nothing_of_a_lazy_array_is_kept_when_it_is_gone(target: Path) -> None:
    """A notebook that opens ten thousand images keeps the memory of none."""

    def sizes() -> dict[str, int]:
        return {
            f"{name}.{key}": len(value)
            for name, module in list(sys.modules.items())
            if name.startswith("ngff_core.lazy")
            for key, value in vars(module).items()
            if isinstance(value, dict | list | set) and not key.startswith("__")
        }

    def use() -> weakref.ref[Any]:
        pyramid = from_ngff_zarr(target)
        ngff_core.to_multiscales(target, [2], BIN).images[1].data.compute()
        to_ngff_zarr({}, pyramid)
        return weakref.ref(pyramid.images[0].data)

    use()
    before = sizes()
    used = [use() for _ in range(10)]
    gc.collect()
    assert sizes() == before
    assert [ref() for ref in used] == [None] * 10
