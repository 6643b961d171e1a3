"""What the methods, the two ways to build, the cache and the progress promise, as users see it.

Only public names are used, and what is stored is read by zarr and json. The oracles are
numpy, scipy and itkwasm-downsample's own functions.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import subprocess
import sys
import tracemalloc
from collections import Counter, UserDict
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import itkwasm
import itkwasm_downsample
import numpy as np
import pytest
import scipy.special
import zarr

from ngff_core import (
    LPS,
    Methods,
    NgffImage,
    NgffProgress,
    build_pyramid,
    config,
    from_ngff_zarr,
    to_multiscales,
    to_ngff_zarr,
)
from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.kernels.methods import kernel_for
from ngff_core.progress import Advanced, Event

BlockedArray = list[np.ndarray[Any, Any]]

METHODS = [m for m in Methods if not m.startswith("itk_") or find_spec("itk")]
MODULE = [m for m in Methods if m.startswith("itkwasm_")]
LABELS = [Methods.ITKWASM_LABEL_IMAGE, Methods.DASK_IMAGE_MODE]
MEANS = [m for m in METHODS if m.endswith("bin_shrink")]
every_method = pytest.mark.parametrize("method", METHODS)


def samples(*shape: int, dtype: str = "u2", seed: int = 0) -> np.ndarray[Any, Any]:
    """Noise with long runs of equal samples, so that votes are won and tied."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 4, shape) * (rng.random(shape) < 0.8)
    return (noise * 20_000).astype(dtype)


def computed(multiscales: Any) -> BlockedArray:
    return [image.data.compute() for image in multiscales.images]


def multiscale_at(folder: Path) -> Any:
    if (folder / ".zattrs").exists():
        return json.loads((folder / ".zattrs").read_text())["multiscales"][0]
    document = json.loads((folder / "zarr.json").read_text())
    return document["attributes"]["ome"]["multiscales"][0]


def stored(folder: Path) -> BlockedArray:
    """The levels that the metadata names, as zarr reads them."""
    paths = [dataset["path"] for dataset in multiscale_at(folder)["datasets"]]
    return [np.asarray(zarr.open_array(folder / path, mode="r")[...]) for path in paths]


def assert_same_bytes(found: BlockedArray, expected: BlockedArray) -> None:
    for level, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), level
        assert a.tobytes() == b.tobytes(), level


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr(config, "cache_store", tmp_path / "cache")
    return tmp_path / "cache"


# ------------------------------------------------------------------ inputs


@pytest.mark.parametrize("kind", ["UserDict", "fsspec", "bytearray", "memoryview"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_any_mapping_of_bytes_holds_an_array(kind: str, zarr_format: Any, tmp_path: Path) -> None:
    """Not only a dict, and not only bytes: what fsspec gives and what users write themselves."""
    array = samples(40, 48)
    zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(16, 16), zarr_format=zarr_format)
    files = [p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()]
    held = {p.relative_to(tmp_path / "a.zarr").as_posix(): p.read_bytes() for p in files}
    made: dict[str, Callable[[], Any]] = {
        "UserDict": lambda: UserDict(held),
        "fsspec": lambda: fsspec.get_mapper(str(tmp_path / "a.zarr")),
        "bytearray": lambda: {key: bytearray(value) for key, value in held.items()},
        "memoryview": lambda: {key: memoryview(value) for key, value in held.items()},
    }
    found = computed(to_multiscales(made[kind](), [2]))
    assert_same_bytes(found, computed(to_multiscales(array, [2])))
    if kind in {"UserDict", "fsspec"}:
        assert_same_bytes(found[:1], [array])


def test_a_pyramid_is_written_as_often_as_one_likes() -> None:
    """Writing changes neither its images nor its metadata."""
    image = NgffImage(samples(40, 48), scale={"x": 0.5}, axes_orientations=LPS)
    multiscales = to_multiscales(image, [2, 4], chunks=16)
    levels = list(multiscales.images)
    metadata, factors = copy.deepcopy((multiscales.metadata, multiscales.scale_factors))
    first: dict[str, bytes] = {}
    second: dict[str, bytes] = {}
    to_ngff_zarr(first, multiscales, version="0.6", chunks_per_shard=2)
    assert all(a is b for a, b in zip(multiscales.images, levels, strict=True))
    assert (multiscales.metadata, multiscales.scale_factors) == (metadata, factors)
    to_ngff_zarr(second, multiscales, version="0.6", chunks_per_shard=2)
    assert first == second


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"chunks": (600, 500)}, (600, 500)),
        ({"chunks": (600, 100)}, (600, 256)),
        ({"chunks": (2000, 100)}, (256, 256)),
        # a reader decodes a chunk, whatever the shard that it lies in
        ({"chunks": (300, 300), "shards": (1200, 1200)}, (300, 300)),
    ],
)
def test_a_stored_array_that_is_tiled_keeps_its_chunks(
    options: Any, expected: tuple[int, ...]
) -> None:
    """Where they are larger than the default, axis by axis."""
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(2000, 2000), dtype="u1", **options)
    assert to_multiscales(array, []).images[0].data.chunksize == expected
    assert to_multiscales(store, []).images[0].data.chunksize == expected


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_is_no_part_of_a_path_is_refused(name: str, tmp_path: Path) -> None:
    """Levels of `to_multiscales` lie at ``scale{i}/{name}``, those of a build do not."""
    image = NgffImage(samples(40, 40), name=name)
    with pytest.raises(ValueError, match="name"):
        to_multiscales(image, [2])
    assert build_pyramid(image, tmp_path / "a", scale_factors=[2]).verified


class Unreadable:
    """An array that must not be read."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype("u2")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError(f"{key} was read")


def test_axes_are_brought_in_order_without_reading() -> None:
    """Ten gigabytes cost nothing until somebody asks for samples."""
    image = NgffImage(Unreadable(6000, 4000, 100, 2), "xyzc")
    multiscales = to_multiscales(image, [2, 4], "dask_bin_shrink", chunks=1024, cache=False)
    assert multiscales.images[0].data.shape == (2, 100, 4000, 6000)
    assert multiscales.images[2].dims == ("c", "z", "y", "x")
    with pytest.raises(AssertionError, match="was read"):
        multiscales.images[0].data[0, 0, 0, 0].compute()


def test_what_is_stored_is_read_when_samples_are_asked_for(tmp_path: Path) -> None:
    """Only then it shows that a chunk is damaged."""
    zarr.save_array(str(tmp_path / "a.zarr"), samples(40, 48))
    (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(b"no samples")
    multiscales = to_multiscales(str(tmp_path / "a.zarr"), [2], cache=False)
    assert multiscales.images[1].data.shape == (20, 24)
    with pytest.raises(ValueError, match=r"a\.zarr"):
        multiscales.images[1].data.compute()


@pytest.mark.parametrize(
    ("orientation", "message"),
    [
        ("LSA", "LPS and RAS"),
        ({"q": LPS["x"]}, "'q' is not an axis"),
        ({"c": LPS["x"]}, "'c' is not a spatial axis"),
        ({"z": LPS["z"]}, "'z' is not an axis of this image"),
    ],
)
def test_an_orientation_that_makes_no_sense_is_a_value_error(
    orientation: Any, message: str
) -> None:
    """An unknown preset, an unknown axis, one that is not spatial, one that is not there."""
    with pytest.raises(ValueError, match=message):
        to_multiscales(NgffImage(np.zeros((2, 8, 8)), "cyx"), [], orientation=orientation)


# ------------------------------------------------------------------ positions


# Where in a bin of k samples the sample lies that a method makes of a ramp.
OFFSET: dict[str, Callable[[int], float]] = {
    "itkwasm_label_image": lambda k: (k - 1) // 2,
    "dask_image_nearest": lambda k: (k - 1) // 2,
    "dask_image_mode": lambda _: 0,
}


@every_method
@pytest.mark.parametrize(
    ("dims", "shape", "steps"),
    [
        ("yx", (410, 300), [(2, 2), (3, 2), (2, 2), (2, 3)]),
        ("zyx", (27, 130, 150), [(2, 2, 2), (1, 2, 3), (1, 2, 2), (1, 1, 1)]),
    ],
)
def test_samples_lie_where_the_stored_metadata_says(
    method: Methods, dims: str, shape: Any, steps: Any, tmp_path: Path
) -> None:
    """A ramp through four levels of a stored pyramid; what selects, by the rule of its ties.

    A selected sample lies at most (k - 1) / 2 from the centre of its bin, at each step.
    """
    steps = [step for step in steps if max(step) > 1]
    absolute = np.cumprod(steps, axis=0)
    weights, scale = (7.0, 1.0, 0.1)[: len(dims)], (0.5, 2.0, 0.25)[: len(dims)]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij", sparse=True)
    ramp = np.asarray(sum(w * s * g for w, s, g in zip(weights, scale, grid, strict=True)))
    build_pyramid(
        NgffImage(ramp.astype("f4"), dims, dict(zip(dims, scale, strict=True))),
        tmp_path / "a",
        method=method,
        scale_factors=[dict(zip(dims, map(int, f), strict=True)) for f in absolute],
        chunks=50,
        shards=100,
    )
    places = [np.arange(n, dtype=float) for n in shape]
    datasets = multiscale_at(tmp_path / "a")["datasets"]
    levels = stored(tmp_path / "a")
    assert len(levels) == len(steps) + 1
    for level, dataset in enumerate(datasets):
        transforms = dataset["coordinateTransformations"]
        said, start = transforms[0]["scale"], transforms[1]["translation"]
        offset = OFFSET.get(method, lambda k: (k - 1) / 2)
        if level:
            for axis, k in enumerate(steps[level - 1]):
                before, m = places[axis], len(places[axis]) // k
                unit = absolute[level - 1][axis] // k
                places[axis] = before[: m * k : k] + offset(k) * unit
        found = levels[level]
        for axis, (a, s, t) in enumerate(zip(places, said, start, strict=True)):
            stated = (t + s * np.arange(len(a))) / scale[axis]
            off = sum(
                (k[axis] - 1) / 2 * (absolute[i][axis] // k[axis])
                for i, k in enumerate(steps[:level])
            )
            bound = off if method in OFFSET else 0
            assert np.abs(a - stated).max() <= bound + 1e-9
        axes = np.meshgrid(*places, indexing="ij", sparse=True)
        expected = sum(w * s * g for w, s, g in zip(weights, scale, axes, strict=True))
        inside = tuple(slice(4, -4) for _ in dims)
        assert min(found[inside].shape) > 0
        np.testing.assert_allclose(found[inside], np.asarray(expected)[inside], rtol=1e-5)


# ------------------------------------------------------------------ methods


RADII = {2: 2, 3: 3, 4: 4, 5: 5, 6: 7, 8: 9, 10: 11, 16: 18}


@pytest.mark.parametrize("step", RADII)
def test_the_gaussian_has_the_weights_of_bessel_functions(step: int) -> None:
    """A column of the identity's level is the filter: scipy's exp(-t) I_n(t), cut at 99 %."""
    radius, n = RADII[step], 7 * step + 60
    level = to_multiscales(np.eye(n), [{"x": step}], Methods.ITKWASM_GAUSSIAN).images[1]
    t = (step**2 - 1) / (8 * math.log(2))
    whole = scipy.special.ive(np.abs(np.arange(-radius, radius + 1)), t)
    assert whole.sum() >= 0.99 > whole[1:-1].sum()
    whole = whole / whole.sum()
    if step % 2 == 0:
        whole = (np.append(whole, 0) + np.append(0, whole)) / 2
    middle = n // step // 2
    first = middle * step + (step - 1) // 2 - radius
    expected = np.zeros(n)
    expected[first : first + len(whole)] = whole
    column = level.data.compute()[:, middle]
    assert np.flatnonzero(column).tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(column, expected, atol=1e-6)


def by_module(function: Any, image: Any, step: tuple[int, ...]) -> Any:
    """What itkwasm-downsample's own function says of an image."""
    wrapped = itkwasm.image_from_array(np.ascontiguousarray(image))
    return np.asarray(function(wrapped, shrink_factors=list(reversed(step))).data)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize(
    ("shape", "step"), [((20, 30, 34), (2, 2, 2)), ((21, 32, 40), (2, 3, 4)), ((64, 64), (2, 2))]
)
def test_the_functions_of_itkwasm_downsample_give_the_same_bytes(
    dtype: str, shape: Any, step: tuple[int, ...]
) -> None:
    """Called as its users call them, the Gaussian with float32: it rounds integers between passes.

    Row lengths are such at which the module's scan lines are exact.
    """
    full = np.iinfo(dtype) if dtype != "f4" else np.iinfo("i2")
    image = np.random.default_rng(1).integers(full.min, full.max, shape, endpoint=True)
    image = image.astype(dtype)
    factors = [dict(zip("zyx"[-len(step) :], step, strict=True))]

    def ours(method: Methods, data: Any) -> Any:
        return to_multiscales(data, factors, method).images[1].data.compute()

    smooth = by_module(itkwasm_downsample.downsample, image.astype("f4"), step)
    if dtype != "f4":
        smooth = np.clip(np.rint(smooth), full.min, full.max).astype(dtype)
    means = by_module(itkwasm_downsample.downsample_bin_shrink, image, step)
    labels = samples(*shape, dtype=dtype)
    votes = by_module(itkwasm_downsample.downsample_label_image, labels, step)
    assert_same_bytes([ours(Methods.ITKWASM_GAUSSIAN, image)], [smooth])
    assert_same_bytes([ours(Methods.ITKWASM_BIN_SHRINK, image)], [means])
    assert_same_bytes([ours(Methods.ITKWASM_LABEL_IMAGE, labels)], [votes])


@pytest.mark.skipif(find_spec("itk") is not None, reason="itk is installed")
@pytest.mark.parametrize("method", ["itk_gaussian", "itk_bin_shrink"])
def test_who_has_no_itk_is_told_the_extra(method: str, tmp_path: Path) -> None:
    """By both ways to build, with levels and without, before anything is written."""
    for factors in ([2], []):
        with pytest.raises(InvalidOptionError, match=r"pip install 'ngff-flows\[itk\]'"):
            to_multiscales(samples(40, 40), factors, Methods(method))
        with pytest.raises(InvalidOptionError, match=r"pip install 'ngff-flows\[itk\]'"):
            build_pyramid(samples(40, 40), tmp_path / "a", method=method, scale_factors=factors)
    assert not list(tmp_path.iterdir())


def test_the_dask_image_methods_need_neither_dask_image_nor_scipy() -> None:
    """In a process where importing them fails."""
    program = """
import sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dask_image", "scipy", "itk", "ngff_zarr"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
import ngff_core
image = np.arange(64 * 64, dtype="u2").reshape(64, 64)
for method in ngff_core.Methods:
    if method.startswith("dask_"):
        level = ngff_core.to_multiscales(image, [2], method).images[1].data.compute()
        assert level.shape == (32, 32)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# ------------------------------------------------------------------ types


TYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]


def typed(dtype: str) -> np.ndarray[Any, Any]:
    """Samples up to the ends of the dtype's range, real and imaginary parts apart."""
    rng, kind = np.random.default_rng(3), np.dtype(dtype)
    if kind.kind == "c":
        return (rng.normal(size=(20, 26)) + 1j * rng.normal(size=(20, 26))).astype(kind)
    if kind.kind == "f":
        return rng.normal(size=(20, 26)).astype(kind)
    if kind.kind == "b":
        return rng.random((20, 26)) < 0.5
    info = np.iinfo(kind)
    ends = np.array([info.min, info.max, info.max - 1, info.max // 3], kind)
    return np.asarray(rng.choice(ends, (20, 26)))


@every_method
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_taken_in_either_byte_order(method: Methods, dtype: str) -> None:
    """The levels have the image's dtype; label methods alone refuse complex samples."""
    image = typed(dtype)
    if image.dtype.kind == "c" and method in LABELS:
        with pytest.raises(UnsupportedDtypeError, match="complex"):
            to_multiscales(image, [2], method)
        return
    if method == Methods.ITK_BIN_SHRINK and dtype in {"i8", "u8", "f8", "c16"}:
        with pytest.raises(UnsupportedDtypeError):
            to_multiscales(image, [2], method)
        return
    expected = computed(to_multiscales(image, [2], method))
    assert [level.dtype for level in expected] == [image.dtype] * 2
    swapped = image.astype(image.dtype.newbyteorder(">"))
    assert_same_bytes(computed(to_multiscales(swapped, [2], method)), expected)


@pytest.mark.parametrize(
    ("dtype", "version"),
    [*((d, "0.5") for d in TYPES), *((d, "0.4") for d in ("?", "i8", "f2", "c8"))],
)
def test_every_type_is_stored(dtype: str, version: str, tmp_path: Path) -> None:
    """And read by zarr as the same type, whichever byte order it came in."""
    image = typed(dtype)
    swapped = image.astype(image.dtype.newbyteorder(">"))
    options: dict[str, Any] = {"method": Methods.DASK_IMAGE_NEAREST, "scale_factors": [2]}
    build_pyramid(swapped, tmp_path / "a", chunks=9, ome_zarr_version=version, **options)
    expected = [image, np.ascontiguousarray(image[::2, ::2])]
    assert_same_bytes(stored(tmp_path / "a"), expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_cached(dtype: str, own_cache: Path) -> None:
    """And comes out in the machine's order."""
    image = typed(dtype)
    swapped = image.astype(image.dtype.newbyteorder(">"))
    found = computed(to_multiscales(swapped, [], cache=True))
    assert len(list(own_cache.iterdir())) == 1
    assert_same_bytes(found, [image])


@every_method
@pytest.mark.parametrize("dtype", ["u2", "u4", "i4"])
def test_large_samples_stay_what_they_are(method: Methods, dtype: str) -> None:
    """A peer makes 0 of uint32 4294967295, and float32 holds no 4294967294."""
    for value in (np.iinfo(dtype).max, np.iinfo(dtype).max - 1):
        image = np.full((24, 26), value, dtype)
        for level in computed(to_multiscales(image, [2, 6], method)):
            assert (level == value).all()


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(LABELS)))
def test_real_and_imaginary_parts_are_treated_alike(method: Methods) -> None:
    """Each comes out as it does alone."""
    image = typed("c8")
    found = to_multiscales(image, [2], method).images[1].data.compute()
    for part in ("real", "imag"):
        alone = np.ascontiguousarray(getattr(image, part))
        expected = to_multiscales(alone, [2], method).images[1].data.compute()
        np.testing.assert_array_equal(getattr(found, part), expected)


@every_method
def test_bools_are_labels_or_zeros_and_ones(method: Methods) -> None:
    """Like uint8 with nothing but 0 and 1."""
    image = typed("?")
    found = to_multiscales(image, [2], method).images[1].data.compute()
    numbers = to_multiscales(image.astype("u1"), [2], method).images[1].data.compute()
    np.testing.assert_array_equal(found, numbers.astype(bool))
    assert {0, 1} == set(numbers.ravel().tolist())


@pytest.mark.parametrize("method", MEANS)
@pytest.mark.parametrize("dtype", [d for d in TYPES if d[0] in "iu" and d[1] != "8"])
def test_means_are_exact_and_rounded_half_up(method: Methods, dtype: str) -> None:
    """By Python's integers, at the ends of every range."""
    image = typed(dtype)
    rows = image.astype(object).reshape(10, 2, 13, 2).sum(axis=(1, 3))
    found = to_multiscales(image, [2], method).images[1].data.compute()
    assert found.tolist() == ((2 * rows + 4) // 8).tolist()


# ------------------------------------------------------------------ one answer


IMAGES = {
    "yx": (83, 79),
    "zyx": (19, 35, 41),
    "tyxc": (2, 37, 41, 2),
    "tzyxc": (2, 13, 19, 28, 2),
}
SKIPPING = [2, 3, 6]
"""3 is no whole step from 2, so its level comes from level 0, and 6 from 3."""


@every_method
@pytest.mark.parametrize("dims", IMAGES)
def test_every_way_to_a_pyramid_gives_the_same_bytes(
    method: Methods, dims: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece; lazily in odd chunks; cached in small pieces; by many regions at once."""
    array = samples(*IMAGES[dims])
    image = NgffImage(array, dims)
    expected = computed(to_multiscales(image, SKIPPING, method, chunks=1000, cache=False))
    lazy = NgffImage(da.from_array(array, chunks=29), dims)
    odd = to_multiscales(lazy, SKIPPING, method, chunks=19, cache=False)
    assert_same_bytes(computed(odd), expected)
    assert not own_cache.exists()
    with monkeypatch.context() as patch:
        patch.setattr(config, "memory_target", 2**17)
        cached = to_multiscales(lazy, SKIPPING, method, chunks=15, cache=True)
    assert own_cache.exists()
    to_ngff_zarr(tmp_path / "lazy", cached, chunks_per_shard=2, workers=3)
    options: dict[str, Any] = {"method": method, "scale_factors": SKIPPING}
    build_pyramid(image, tmp_path / "built", chunks=13, shards=26, workers=4, **options)
    for name in ("lazy", "built"):
        assert_same_bytes(stored(tmp_path / name), expected)


@pytest.mark.parametrize("method", [Methods.ITKWASM_GAUSSIAN, Methods.DASK_IMAGE_MODE])
def test_a_resume_may_be_made_in_another_way(method: Methods, tmp_path: Path) -> None:
    """Stopped with one worker and a cache, gone on with by four without: the same levels."""
    array = NgffImage(samples(14, 31, 34), "zyx")
    options: dict[str, Any] = {"method": method, "scale_factors": SKIPPING}
    options |= {"chunks": 12, "shards": 12}
    stopped: list[int] = []

    def stop(event: Event) -> None:
        if isinstance(event, Advanced) and event.phase.startswith("level") and event.done == 3:
            stopped.append(event.done)
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        build_pyramid(array, tmp_path / "a", workers=1, cache="always", progress=stop, **options)
    assert stopped
    build_pyramid(array, tmp_path / "a", workers=4, cache="never", **options)
    expected = computed(to_multiscales(array, SKIPPING, method, chunks=1000))
    assert_same_bytes(stored(tmp_path / "a"), expected)


@pytest.mark.parametrize("method", MODULE)
@pytest.mark.parametrize("dims", ["yx", "tyxc", "tzyxc"])
def test_the_module_gives_the_levels_of_the_native_code(
    method: Methods, dims: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two times or channels at a time; cut in one way by the one and otherwise by the other."""
    image = NgffImage(samples(*IMAGES[dims]), dims)
    native = computed(to_multiscales(image, SKIPPING, method))
    monkeypatch.setattr(config, "kernel_backend", "itkwasm")
    chunks = {d: 2 if d in "tc" else 50 for d in dims}
    found = to_multiscales(image, SKIPPING, method, chunks=chunks)
    assert_same_bytes(computed(found), native)


# ------------------------------------------------------------------ computed once


class Counted:
    """An array that counts how often each sample is read."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.times = array, np.zeros(array.shape, "u1")
        self.boxes: list[tuple[slice, ...]] = []
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> Any:
        self.times[key] += 1
        self.boxes.append(key)
        return self.array[key]

    def lazy(self, chunks: Any) -> Any:
        return da.from_array(self, chunks=chunks, meta=np.empty((0,) * self.ndim, self.dtype))


@every_method
def test_computing_all_levels_reads_the_image_once(
    method: Methods, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One graph: no sample is read twice, and no level is made twice for its children."""
    counted = Counted(samples(32, 90, 90))
    multiscales = to_multiscales(counted.lazy((16, 50, 64)), [2, 4, 8], method, chunks=16)
    made: list[int] = []
    kernel = type(kernel_for(method))
    reduce = kernel.reduce

    def counting(self: Any, window: Any, offset: Any, step: Any, shape: Any) -> Any:
        made.append(math.prod(shape))
        return reduce(self, window, offset, step, shape)

    monkeypatch.setattr(kernel, "reduce", counting)
    dask.compute(*(image.data for image in multiscales.images))
    assert counted.times.min() == counted.times.max() == 1
    assert sum(made) == sum(image.data.size for image in multiscales.images[1:])


# ------------------------------------------------------------------ the cache


class Nothing:
    """A bar that shows nothing."""

    def add_task(self, description: str, *, total: float | None = None) -> int:
        del description, total
        return 0

    def update(self, task_id: int, /, **fields: Any) -> None:
        del task_id, fields


@pytest.mark.parametrize(
    ("dims", "shape", "along", "memory"),
    [
        ("zyx", (1024, 1024, 2), "z", 8_000_000),
        ("czyx", (2, 1024, 1024, 1), "z", 8_000_000),
        ("yx", (2100, 2048), "y", 12_000_000),
        ("yx", (2048, 2100), "x", 12_000_000),
        ("x", (80_000,), "x", 200_000),
    ],
)
def test_the_cache_is_made_of_slabs_strips_or_segments(
    dims: str,
    shape: tuple[int, ...],
    along: str,
    memory: int,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Along z where there is one, else along the larger of y and x: whole on the other axes.

    Memory has room for one of two cache chunks along that axis, with all of the others.
    """
    axis = dims.index(along)
    counted = Counted(np.ones(shape, "u1"))
    monkeypatch.setattr(config, "memory_target", memory)
    read_to: list[int] = []

    class Look(NgffProgress):
        def update_cache_task_completed(self, completed: int) -> None:
            assert completed == len(read_to) + 1
            (folder,) = own_cache.iterdir()
            piece = zarr.open_array(folder, mode="r")[...]
            end = int(piece.max(axis=tuple(i for i in range(piece.ndim) if i != axis)).sum())
            assert piece[(slice(None),) * axis + (slice(0, end),)].all()
            read_to.append(end)

    lazy = NgffImage(counted.lazy(250), dims)
    to_multiscales(lazy, [], cache=True, progress=Look(Nothing()))
    assert len(read_to) >= 2
    assert read_to == sorted(set(read_to))
    assert read_to[-1] == shape[axis]


class Written(dict[str, bytes]):
    """A store that counts how often each key is written."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[str] = Counter()

    def __setitem__(self, key: str, value: bytes) -> None:
        self.times[key] += 1
        super().__setitem__(key, value)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [("zyx", (1031, 17, 19)), ("yx", (1031, 1301)), ("cyx", (3, 1301, 211)), ("x", (200_003,))],
)
def test_no_chunk_of_the_cache_is_written_twice(
    dims: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Primes too: pieces end where chunks end, so none is read back to be completed."""
    store = Written()
    array = samples(*shape, dtype="u1")
    monkeypatch.setattr(config, "cache_store", store)
    monkeypatch.setattr(config, "memory_target", 2**19)
    log: list[int] = []

    class Count(NgffProgress):
        def update_cache_task_completed(self, completed: int) -> None:
            log.append(completed)

    cached = to_multiscales(NgffImage(array, dims), [], cache=True, progress=Count(Nothing()))
    np.testing.assert_array_equal(cached.images[0].data.compute(), array)
    chunks = [key for key in store.times if "/c/" in key]
    assert len(log) > 1
    assert len(chunks) >= len(log)
    assert {store.times[key] for key in chunks} == {1}


def test_caching_stays_within_the_memory_target(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times and channels counted, by the allocations that Python sees."""
    target = 2**22
    monkeypatch.setattr(config, "memory_target", target)
    data = da.random.default_rng(0).integers(
        0, 60_000, (2, 2, 32, 256, 256), dtype="u2", chunks=(1, 2, 8, 64, 256)
    )
    assert data.nbytes > 3 * target
    small = da.zeros((1, 1, 16, 16, 16), dtype="u2")
    to_multiscales(NgffImage(small, "tczyx"), [], cache=True)
    tracemalloc.start()
    try:
        to_multiscales(NgffImage(data, "tczyx"), [], cache=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= target


def test_no_signal_gets_a_handler(tmp_path: Path) -> None:
    """Not by the import, not by a cached pyramid, not by a build: of all signals there are."""
    program = """
import signal, sys

def handlers():
    return {s: signal.getsignal(s) for s in signal.valid_signals()}

before = handlers()
import numpy as np
import ngff_core
assert handlers() == before
ngff_core.config.cache_store = sys.argv[1] + "/cache"
image = np.ones((64, 64), "u1")
multiscales = ngff_core.to_multiscales(image, [], cache=True)
assert handlers() == before
ngff_core.to_ngff_zarr(sys.argv[1] + "/a", multiscales)
ngff_core.build_pyramid(image, sys.argv[1] + "/b", scale_factors=[], cache="always")
assert handlers() == before
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_half_of_the_memory_is_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is available when ngff_core is imported; and 50 000 tasks."""
    monkeypatch.setattr(sys.modules["ngff_core.config"], "available_memory", lambda: 1_000_001)
    assert type(config)().memory_target == 500_000
    assert type(config)().task_target == 50_000


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_no_object_of_a_pyramid_is_written_twice(version: str) -> None:
    """Four workers, shards that hold several chunks: each object belongs to one of them."""
    store = Written()
    per_shard = None if version == "0.4" else 2
    multiscales = to_multiscales(samples(26, 61, 67), [2, 4], chunks=10)
    to_ngff_zarr(store, multiscales, version=version, workers=4, chunks_per_shard=per_shard)
    objects = [key for key in store.times if key.rpartition("/")[2].isdigit()]
    chunks, shards = 3 * 7 * 7 + 2 * 3 * 4 + 1 * 2 * 2, 2 * 4 * 4 + 1 * 2 * 2 + 1
    assert len(objects) == (chunks if version == "0.4" else shards)
    assert set(store.times.values()) == {1}


# ------------------------------------------------------------------ progress


def test_a_level_is_whole_when_its_update_comes(tmp_path: Path) -> None:
    """Every chunk of it is stored by then, and of the next one none."""
    seen: list[list[int]] = []

    class Look(NgffProgress):
        def update_multiscales_task_completed(self, completed: int) -> None:
            folders = (tmp_path / "a" / f"scale{i}" / "image" / "c" for i in range(3))
            seen.append([sum(p.is_file() for p in folder.rglob("*")) for folder in folders])

    multiscales = to_multiscales(samples(100, 100), [2, 4], chunks=16)
    to_ngff_zarr(tmp_path / "a", multiscales, progress=Look(Nothing()))
    assert seen == [[49, 0, 0], [49, 16, 0], [49, 16, 4]]


# ------------------------------------------------------------------ the page


PAGE: dict[str, dict[str, Any]] = {
    "_ngff_image_scale_factors": {"ngff_image": ..., "min_length": ..., "out_chunks": ...},
    "_find_optimal_chunk_size": {"first_chunk": ..., "dim_size": ..., "min_divisor": 16},
    "_large_image_serialization": {"image": ..., "progress": ...},
    **{
        name: dict.fromkeys(
            ("data", "dims", "rechunks", "cache_store", "base_path", "progress"), ...
        )
        for name in ("_cache_2d_strips", "_cache_1d_segments")
    },
    "to_multiscales": {
        "data": ...,
        "scale_factors": 128,
        "method": None,
        "chunks": None,
        "progress": None,
        "cache": None,
        "orientation": None,
    },
}


@pytest.mark.parametrize("name", PAGE)
def test_the_functions_of_the_page_take_its_arguments(name: str) -> None:
    """By name and by position, with its defaults."""
    module = sys.modules["ngff_core.to_multiscales"]
    found = inspect.signature(getattr(module, name)).parameters.values()
    expected = [(n, inspect.Parameter.empty if d is ... else d) for n, d in PAGE[name].items()]
    assert [(p.name, p.default) for p in found] == expected
    assert {p.kind for p in found} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_a_pyramid_put_together_by_hand_goes_there_and_back() -> None:
    """With the classes at the top, as code for ngff-zarr does it: change one level, write."""
    import ngff_core as nz

    store: dict[str, bytes] = {}
    image = nz.to_ngff_image(samples(64, 64), dims=["y", "x"], scale={"y": 0.5, "x": 0.5})
    orientation = {
        "x": nz.AnatomicalOrientation(value=nz.AnatomicalOrientationValues.left_to_right)
    }
    made = nz.to_multiscales(
        image, [2], method=nz.Methods.DASK_IMAGE_NEAREST, chunks=32, orientation=orientation
    )
    inverted = [
        nz.NgffImage(
            data=65535 - level.data,
            dims=level.dims,
            scale=level.scale,
            translation=level.translation,
            name=level.name,
            axes_units=level.axes_units,
            axes_orientations=level.axes_orientations,
        )
        for level in made.images
    ]
    again = nz.NgffMultiscales(
        images=inverted,
        metadata=made.metadata,
        scale_factors=made.scale_factors,
        method=made.method,
        chunks=made.chunks,
    )
    for version in ("0.4", "0.5", "0.6"):
        nz.to_ngff_zarr(store, again, version=version)
        read = from_ngff_zarr(store)
        assert read.metadata.type == "dask_image_nearest"
        assert read.images[0].axes_orientations == orientation
        assert read.images[1].translation == {"y": 0.25, "x": 0.25}
        assert_same_bytes(computed(read), [65535 - level for level in computed(made)])
