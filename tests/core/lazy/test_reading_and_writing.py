"""Writing and reading pyramids: versions, stores, shards, and what is never done twice."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import ngff_core
from ngff_core import (
    LPS,
    RAS,
    Axis,
    Dataset,
    Metadata,
    Methods,
    NgffImage,
    NgffMultiscales,
    NgffProgress,
    NgffProgressCallback,
    Scale,
    Translation,
    config,
    from_ngff_zarr,
    to_multiscales,
    to_ngff_image,
    to_ngff_zarr,
)
from ngff_core.errors import (
    InvalidOptionError,
    SourceFormatError,
    SourceNotFoundError,
    TargetBusyError,
    TargetExistsError,
)
from ngff_core.kernels.methods import kernel_for
from ngff_core.lazy.multiscales import metadata_of
from ngff_core.progress import silent
from ngff_core.pyramid.verify import Verification
from ngff_core.records.lease import Lease
from ngff_core.storage import open_store
from tests.support.doubles import Bar, Counted
from tests.support.folders import files

BIN = Methods.ITKWASM_BIN_SHRINK
VERSIONS = ("0.4", "0.5", "0.6")


def samples(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 60000, shape).astype("u2")


def cells(*shape: int, dims: str = "zyx") -> NgffImage:
    """An image with all that metadata can hold."""
    return NgffImage(
        samples(*shape),
        dims,
        scale=dict(zip("zyx", (2.0, 0.5, 0.25), strict=True)),
        translation={"z": 1.0, "x": -7.5},
        name="cells",
        axes_units={"z": "micrometer", "y": "micrometer", "x": "micrometer"},
        axes_orientations=LPS,
    )


def check_valid(store: Any, version: str) -> None:
    """Valid by ome-zarr-models, arrays included, without a warning."""
    from ome_zarr_models.v04.image import Image as Image04
    from ome_zarr_models.v05.image import Image as Image05
    from ome_zarr_models.v06.image import Image as Image06

    model: Any = {"0.4": Image04, "0.5": Image05, "0.6": Image06}[version]
    group = zarr.open_group(store, mode="r", zarr_format=2 if version == "0.4" else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.from_zarr(group)


def check_same(found: NgffMultiscales, expected: NgffMultiscales) -> None:
    """Samples, places and names of every level."""
    for a, b in zip(found.images, expected.images, strict=True):
        np.testing.assert_array_equal(a.data.compute(), np.asarray(b.data))
        assert (a.dims, a.scale, a.translation) == (b.dims, b.scale, b.translation)
        assert (a.name, a.axes_units, a.axes_orientations) == (
            b.name,
            b.axes_units,
            b.axes_orientations,
        )


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_reads_back(version: str, tmp_path: Path) -> None:
    """Samples, geometry, units, orientation, name and method, in a valid image."""
    multiscales = to_multiscales(cells(50, 120, 130), [2, {"x": 6, "y": 4}], BIN, chunks=32)
    to_ngff_zarr(tmp_path / "a.ome.zarr", multiscales, version=version)
    check_valid(tmp_path / "a.ome.zarr", version)
    read = from_ngff_zarr(tmp_path / "a.ome.zarr", version=version, validate=True)
    check_same(read, multiscales)
    assert read.method is BIN
    assert read.metadata.version == version
    assert read.metadata.metadata == multiscales.metadata.metadata
    assert [axis.orientation for axis in read.metadata.axes] == [LPS[d] for d in "zyx"]
    assert [d.path for d in read.metadata.datasets] == [f"scale{i}/cells" for i in range(3)]
    assert all(image.data.chunksize == (25, 32, 32)[:3] for image in read.images[1:2])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["str", "mapping", "memory", "local", "uri", "below"])
def test_every_kind_of_store(
    kind: str, version: str, tmp_path: Path, memory_filesystem: Any
) -> None:
    """Paths, URIs, zarr stores, a place in one, mappings of bytes."""
    memory = zarr.storage.MemoryStore()
    stores: dict[str, Any] = {
        "str": str(tmp_path / "a.ome.zarr"),
        "mapping": {},
        "memory": memory,
        "local": zarr.storage.LocalStore(tmp_path / "b.ome.zarr"),
        "uri": "memory://io/a.ome.zarr",
        "below": zarr.storage.StorePath(memory, "in/there"),
    }
    multiscales = to_multiscales(cells(20, 60, 70), [2], BIN, chunks=32)
    for _ in range(2):  # the second time over the first
        to_ngff_zarr(stores[kind], multiscales, version=version)
    check_same(from_ngff_zarr(stores[kind]), multiscales)
    again = to_multiscales(stores[kind], [2], BIN, chunks=32)
    check_same(again, multiscales)
    if kind == "mapping":
        assert all(isinstance(value, bytes) for value in stores[kind].values())


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_two_to_five_dimensions_are_written(ndim: int) -> None:
    """And one is a clear error, since OME-Zarr asks for two or three spatial axes."""
    array = samples(*((40, 41, 42, 3)[-ndim:] if ndim < 5 else (2, 20, 21, 22, 3)))
    if ndim == 3:
        array = samples(40, 41, 42)
    store: dict[str, bytes] = {}
    multiscales = to_multiscales(array, [2] if ndim != 2 else [], BIN)
    to_ngff_zarr(store, multiscales)
    check_same(from_ngff_zarr(store), multiscales)


@pytest.mark.parametrize("dims", ["x", "cx", "tcx"])
def test_a_one_dimensional_image_is_for_the_lazy_api(dims: str) -> None:
    """Its pyramid is computed, and not written."""
    array = samples(*(2, 3, 400)[-len(dims) :])
    multiscales = to_multiscales(NgffImage(array, dims), [2, 4], BIN, chunks=50)
    assert multiscales.images[2].data.compute().shape[-1] == 100
    store: dict[str, bytes] = {}
    with pytest.raises(ValueError, match="two or three spatial axes"):
        to_ngff_zarr(store, multiscales)
    assert not store


def test_scale_and_translation_are_written_by_the_true_factor(tmp_path: Path) -> None:
    """101 samples at factor 2 make 50, and a scale of 2 all the same."""
    to_ngff_zarr(tmp_path / "a", to_multiscales(NgffImage(samples(101, 103)), [2, 4], BIN))
    attributes = json.loads((tmp_path / "a" / "zarr.json").read_text())["attributes"]["ome"]
    found = [
        [t.get("scale") or t["translation"] for t in d["coordinateTransformations"]]
        for d in attributes["multiscales"][0]["datasets"]
    ]
    assert found == [[[f] * 2, [(f - 1) / 2] * 2] for f in (1.0, 2.0, 4.0)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level_lies_in_a_group_of_its_own(version: str, tmp_path: Path) -> None:
    """zarr v3 has no implicit groups."""
    to_ngff_zarr(tmp_path / "a", to_multiscales(cells(20, 64, 64), [2], BIN), version=version)
    document = ".zgroup" if version == "0.4" else "zarr.json"
    for index in range(2):
        assert (tmp_path / "a" / f"scale{index}" / document).exists()
        assert (tmp_path / "a" / f"scale{index}" / "cells").is_dir()


# ------------------------------------------------------------------ shards


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"chunks_per_shard": 2}, (32, 64, 64)),
        ({"chunks_per_shard": (1, 2, 3)}, (16, 64, 96)),
        ({"chunks_per_shard": {"y": 3}}, (16, 96, 32)),
        ({"shards": (16, 64, 96)}, (16, 64, 96)),
        ({"shards": {"x": 64}}, (16, 32, 64)),
        ({}, None),
    ],
)
@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_shards_are_given_in_chunks_or_in_samples(
    options: dict[str, Any], expected: Any, version: str, tmp_path: Path
) -> None:
    """An int, a tuple by position, a mapping; none where none are asked for."""
    multiscales = to_multiscales(cells(40, 100, 110), [2], BIN, chunks={"z": 16, "y": 32, "x": 32})
    to_ngff_zarr(tmp_path / "a", multiscales, version=version, **options)
    array = zarr.open_array(tmp_path / "a" / "scale0" / "cells", mode="r")
    assert (array.shards, array.chunks) == (expected, (16, 32, 32))
    check_same(from_ngff_zarr(tmp_path / "a"), multiscales)


@pytest.mark.parametrize(
    "options",
    [
        {"version": "0.4", "chunks_per_shard": 2},
        {"chunks_per_shard": 2, "shards": 64},
        {"chunks_per_shard": 0},
        {"chunks_per_shard": 1.5},
        {"shards": 33},
        {"version": "0.3"},
        {"compressor": "snappy"},
        {"chunk_store": {}},
        {"workers": 0},
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_removed(
    options: dict[str, Any],
) -> None:
    """The target keeps what it had."""
    store = {"precious": b"bytes"}
    with pytest.raises(InvalidOptionError):
        to_ngff_zarr(store, to_multiscales(cells(20, 64, 64), [2], BIN, chunks=32), **options)
    assert store == {"precious": b"bytes"}


# ------------------------------------------------------------------ targets


def test_overwriting_is_the_callers_choice(tmp_path: Path) -> None:
    """Nothing of the old image is left, or all of it."""
    first = to_multiscales(cells(20, 64, 64), [2, 4], BIN)
    second = to_multiscales(samples(30, 40), [], BIN)
    to_ngff_zarr(tmp_path / "a", first)
    with pytest.raises(FileExistsError, match="exists") as caught:
        to_ngff_zarr(tmp_path / "a", second, overwrite=False)
    assert isinstance(caught.value, TargetExistsError)
    check_same(from_ngff_zarr(tmp_path / "a"), first)
    to_ngff_zarr(tmp_path / "a", second)
    check_same(from_ngff_zarr(tmp_path / "a"), second)
    assert not (tmp_path / "a" / "scale1").exists()


def test_what_a_pyramid_is_read_from_is_never_overwritten_by_it(tmp_path: Path) -> None:
    """Unless it was cached, when it is read from there."""
    array = samples(64, 70)
    to_ngff_zarr(tmp_path / "a", to_multiscales(array, []))
    for pyramid in (
        from_ngff_zarr(tmp_path / "a"),
        to_multiscales(tmp_path / "a", [2], BIN),
        to_multiscales(zarr.open_array(tmp_path / "a" / "scale0" / "image"), [2], BIN),
    ):
        with pytest.raises(InvalidOptionError, match="is read from"):
            to_ngff_zarr(tmp_path / "a", pyramid)
    np.testing.assert_array_equal(from_ngff_zarr(tmp_path / "a").images[0].data.compute(), array)


def test_a_ledger_never_vouches_for_what_replaced_its_image(tmp_path: Path) -> None:
    """A build at the target is forgotten, so the same build afterwards starts from scratch."""
    target, options = tmp_path / "a.ome.zarr", {"scale_factors": [2], "method": BIN}
    black, white = np.zeros((300, 300), "u1"), np.full((300, 300), 255, "u1")
    ngff_core.build_pyramid(black, target, **options)
    to_ngff_zarr(target, to_multiscales(white, [2], BIN))
    with pytest.raises(TargetExistsError):
        ngff_core.build_pyramid(black, target, **options)
    report = ngff_core.build_pyramid(black, target, overwrite=True, **options)
    assert isinstance(report.verification, Verification)
    assert report.verified
    assert not from_ngff_zarr(target).images[0].data.compute().any()


def test_a_target_that_is_being_built_is_left_alone(tmp_path: Path) -> None:
    """It has a live lease."""
    with (
        Lease(open_store(tmp_path / "a.ome.zarr.build"), silent),
        pytest.raises(TargetBusyError),
    ):
        to_ngff_zarr(tmp_path / "a.ome.zarr", to_multiscales(samples(30, 40)))


def test_a_zip_file_is_refused_with_the_way_round_it(tmp_path: Path) -> None:
    """What the errors advise gives a file whose first entry is the group's document."""
    array = samples(30, 40)
    multiscales = to_multiscales(array)
    with pytest.raises(InvalidOptionError, match="zip -0 -r"):
        to_ngff_zarr(tmp_path / "a.ozx", multiscales)
    to_ngff_zarr(tmp_path / "a.ome.zarr", multiscales)
    found = files(tmp_path / "a.ome.zarr")
    with zipfile.ZipFile(tmp_path / "a.ozx", "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(found, key=lambda key: key != "zarr.json"):
            archive.writestr(key, found[key])
    with pytest.raises(InvalidOptionError, match="ZipStore"):
        from_ngff_zarr(tmp_path / "a.ozx")
    with zarr.storage.ZipStore(tmp_path / "a.ozx", mode="r") as store:
        image = from_ngff_zarr(store).images[0]
        np.testing.assert_array_equal(image.data.compute(), array)


def test_a_chunk_store_that_is_the_store_is_no_other() -> None:
    """Code that names it twice works."""
    store: dict[str, bytes] = {}
    to_ngff_zarr(store, to_multiscales(samples(30, 40)), chunk_store=store)
    assert "zarr.json" in store


class Torn(dict[str, bytes]):
    """A mapping that fails at one key."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if key.startswith("scale1/image/c/"):
            raise RuntimeError("torn")
        super().__setitem__(key, value)


def test_the_group_document_comes_last() -> None:
    """What was interrupted is no image for anybody."""
    store = Torn()
    with pytest.raises(RuntimeError, match="torn"):
        to_ngff_zarr(store, to_multiscales(samples(64, 64), [2], BIN))
    assert "scale0/image/c/0/0" in store
    assert "zarr.json" not in store
    with pytest.raises(SourceNotFoundError):
        from_ngff_zarr(store)
    whole: dict[str, bytes] = {}
    to_ngff_zarr(whole, to_multiscales(samples(64, 64), [2], BIN))
    assert list(whole)[-1] == "zarr.json"


# ------------------------------------------------------------------ computed once


def test_no_level_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is read once, and a parent's kernel never runs again for its child."""
    counted = Counted(samples(64, 256, 256))
    lazy = da.from_array(counted, chunks=(16, 64, 64), meta=np.empty((0, 0, 0), "u2"))
    multiscales = to_multiscales(lazy, [2, 4, 8], BIN, chunks=32)
    made: list[int] = []
    kernel = type(kernel_for(BIN))
    reduce = kernel.reduce

    def counting(self: Any, window: Any, offset: Any, step: Any, shape: Any) -> Any:
        made.append(int(np.prod(shape)))
        return reduce(self, window, offset, step, shape)

    monkeypatch.setattr(kernel, "reduce", counting)
    to_ngff_zarr({}, multiscales)
    assert counted.times.max() == 1
    assert sum(made) == sum(image.data.size for image in multiscales.images[1:])


def test_a_level_that_somebody_replaced_is_written_as_it_is() -> None:
    """And levels made from the one that was replaced are those that were asked for."""
    multiscales = to_multiscales(samples(128, 128), [2, 4], BIN)
    expected = multiscales.images[2].data.compute()
    multiscales.images[1].data = da.zeros((64, 64), dtype="u2")
    store: dict[str, bytes] = {}
    to_ngff_zarr(store, multiscales)
    read = from_ngff_zarr(store)
    assert not read.images[1].data.compute().any()
    np.testing.assert_array_equal(read.images[2].data.compute(), expected)


@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array])
def test_a_pyramid_put_together_by_hand_is_written_as_it_is(wrap: Any) -> None:
    """Other shapes than floors, other paths, a transformation of the whole, axes to order."""
    arrays = [samples(51, 60, 3), samples(26, 30, 3)]
    images = [NgffImage(wrap(a), "yxc") for a in arrays]
    window = {"min": 0, "max": 9, "start": 0, "end": 9}
    metadata = Metadata(
        axes=[Axis("y", "space", "meter", RAS["y"]), Axis("x", "space"), Axis("c", "channel")],
        datasets=[
            Dataset("0", [Scale([1.0, 1.0, 1.0])]),
            Dataset("1", [Scale([2.0, 2.0, 1.0]), Translation([0.5, 0.5, 0.0])]),
        ],
        coordinateTransformations=[Scale([10.0, 1.0, 1.0])],
        omero={"channels": [{"color": "FF0000", "window": window}]},
        name="by hand",
    )
    for version in VERSIONS:
        store: dict[str, bytes] = {}
        to_ngff_zarr(store, NgffMultiscales(images, metadata), version=version)
        read = from_ngff_zarr(store)
        assert read.images[1].dims == ("c", "y", "x")
        for array, image in zip(arrays, read.images, strict=True):
            np.testing.assert_array_equal(image.data.compute(), array.transpose(2, 0, 1))
        assert read.images[1].scale == {"c": 1.0, "y": 20.0, "x": 2.0}
        assert read.images[1].translation == {"c": 0.0, "y": 5.0, "x": 0.5}
        assert read.metadata.axes[1] == Axis("y", "space", "meter", RAS["y"])
        assert (read.metadata.omero or {})["channels"][0]["window"]["max"] == 9
        assert (read.metadata.name, read.method) == ("by hand", None)
        assert [d.path for d in read.metadata.datasets] == ["0", "1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.images.pop(), "1 images for 2 datasets"),
        (lambda m: m.metadata.axes.reverse(), "axes"),
        (lambda m: setattr(m.images[1], "data", np.zeros((20, 20), "f4")), "uint16 and of float32"),
        (lambda m: setattr(m.metadata.datasets[1], "path", "../b"), "not a path of a level"),
        (lambda m: m.metadata.datasets.reverse(), "not a valid OME-Zarr"),
        (
            lambda m: m.metadata.datasets[0].coordinateTransformations.append(Scale([1.0])),
            "does not have 2 numbers",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(change: Any, message: str) -> None:
    """Before anything is written."""
    multiscales = to_multiscales(samples(40, 40), [2], BIN)
    change(multiscales)
    store: dict[str, bytes] = {}
    with pytest.raises(ValueError, match=message):
        to_ngff_zarr(store, multiscales)
    assert not store


def test_channels_that_no_reader_takes_are_not_written() -> None:
    """OME-Zarr 0.4 asks for the colour and the window of each."""
    multiscales = to_multiscales(samples(40, 40))
    multiscales.metadata.omero = {"channels": [{}]}
    store: dict[str, bytes] = {}
    with pytest.raises(InvalidOptionError, match="color"):
        to_ngff_zarr(store, multiscales, version="0.4")
    assert not store


def test_little_memory_means_small_pieces_and_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many pieces, one region at a time."""
    array = samples(80, 130, 140)
    multiscales = to_multiscales(da.from_array(array, chunks=33), [2], BIN, chunks=16, cache=False)
    first: dict[str, bytes] = {}
    to_ngff_zarr(first, multiscales, chunks_per_shard=2)
    monkeypatch.setattr(config, "memory_target", 2**20)
    second: dict[str, bytes] = {}
    to_ngff_zarr(second, multiscales, chunks_per_shard=2)
    assert first == second


# ------------------------------------------------------------------ reading


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    """Nothing, an array, a group, another version."""
    with pytest.raises(FileNotFoundError):
        from_ngff_zarr(tmp_path / "nothing")
    zarr.save_array(str(tmp_path / "array"), np.zeros(3))
    with pytest.raises(SourceFormatError, match="a zarr array"):
        from_ngff_zarr(tmp_path / "array")
    zarr.open_group(str(tmp_path / "group"), mode="w")
    with pytest.raises(SourceFormatError, match="not an OME-Zarr image"):
        from_ngff_zarr(tmp_path / "group")
    to_ngff_zarr(tmp_path / "image", to_multiscales(samples(30, 40)))
    with pytest.raises(SourceFormatError, match=r"OME-Zarr 0\.5, not 0\.4"):
        from_ngff_zarr(tmp_path / "image", version="0.4")


def test_reading_reads_no_chunk(tmp_path: Path) -> None:
    """Samples are read where they are asked for."""
    to_ngff_zarr(tmp_path / "a", to_multiscales(samples(64, 64), [2], BIN))
    for chunk in (tmp_path / "a").rglob("c/0/0"):
        chunk.write_bytes(b"no samples")
    read = from_ngff_zarr(tmp_path / "a")
    assert read.images[1].data.shape == (32, 32)
    with pytest.raises(SourceFormatError):
        read.images[1].data.compute()


def test_versions_are_converted_by_reading_and_writing(tmp_path: Path) -> None:
    """0.4 to 0.5, on to 0.6 and back, chunks kept."""
    multiscales = to_multiscales(cells(20, 80, 90), [2], BIN, chunks=32)
    to_ngff_zarr(tmp_path / "0.4", multiscales, version="0.4")
    for before, after in (("0.4", "0.5"), ("0.5", "0.6"), ("0.6", "0.4-again")):
        pyramid = from_ngff_zarr(tmp_path / before)
        to_ngff_zarr(tmp_path / after, pyramid, version=after[:3])
        check_valid(tmp_path / after, after[:3])
    again = from_ngff_zarr(tmp_path / "0.4-again")
    check_same(again, multiscales)
    assert again.images[0].data.chunksize == (20, 32, 32)
    first, last = ((tmp_path / v / ".zattrs").read_text() for v in ("0.4", "0.4-again"))
    assert first == last


# ------------------------------------------------------------------ progress


@pytest.mark.parametrize("kind", [NgffProgress, NgffProgressCallback])
def test_progress_counts_levels_and_the_callback_their_regions(kind: Any) -> None:
    """Up by one, to the total."""
    log = Bar()
    multiscales = to_multiscales(samples(300, 300), [2, 4], BIN, chunks=32)
    to_ngff_zarr({}, multiscales, chunks_per_shard=2, progress=kind(log))
    levels, *regions = log.counts
    assert levels == [1, 2, 3]
    assert regions == [list(range(total + 1)) for total in log.totals[1:]]
    assert log.totals == ([3] if kind is NgffProgress else [3, 25, 9, 4])


# ------------------------------------------------------------------ ngff-zarr's usage

SNIPPETS = {
    "array to image to pyramid": """
import numpy as np
import ngff_core as nz

data = np.arange(256 * 256, dtype="uint16").reshape(256, 256)
image = nz.to_ngff_image(data,
                         dims=['y', 'x'],
                         scale={'y': 1.0, 'x': 1.0},
                         translation={'y': 0.0, 'x': 0.0})
multiscales = nz.to_multiscales(image, scale_factors=[2, 4], chunks=64)
assert [i.data.shape for i in multiscales.images] == [(256, 256), (128, 128), (64, 64)]
assert multiscales.images[2].scale == {'x': 4.0, 'y': 4.0}
assert multiscales.images[2].translation == {'x': 1.5, 'y': 1.5}
assert multiscales.chunks == {'y': 64, 'x': 64}
assert multiscales.method == nz.Methods.ITKWASM_GAUSSIAN
assert multiscales.metadata.datasets[1].path == 'scale1/image'
nz.to_ngff_zarr('cthead1.ome.zarr', multiscales)
multiscales = nz.from_ngff_zarr('cthead1.ome.zarr')
assert multiscales.images[1].data.mean().compute() > 0
""",
    "shards": """
import numpy as np
import ngff_core as nz

image = nz.to_ngff_image(np.zeros((64, 128, 128), dtype=np.uint8), dims=["z", "y", "x"])
multiscales = nz.to_multiscales(image, scale_factors=[2], chunks=32)
version = "0.5"
nz.to_ngff_zarr("a.ome.zarr", multiscales, chunks_per_shard=2, version=version)
nz.to_ngff_zarr("a.ome.zarr", multiscales, chunks_per_shard=(2, 2, 4), version=version)
nz.to_ngff_zarr(
    "a.ome.zarr",
    multiscales,
    chunks_per_shard={"z": 2, "y": 2, "x": 2},
    version=version,
)
""",
    "versions": """
import numpy as np
from ngff_core import from_ngff_zarr, to_multiscales, to_ngff_image, to_ngff_zarr

image = to_ngff_image(np.zeros((4, 32, 32), dtype=np.uint8), dims=["z", "y", "x"])
to_ngff_zarr("cthead1.ome.zarr", to_multiscales(image, scale_factors=[2]), version="0.4")
multiscales = from_ngff_zarr("cthead1.ome.zarr", validate=True)
to_ngff_zarr("cthead1_zarr3.ome.zarr", multiscales, version="0.5")
multiscales = from_ngff_zarr("cthead1_zarr3.ome.zarr")
to_ngff_zarr("cthead1_zarr2.ome.zarr", multiscales, version="0.4")
""",
    "orientation": """
import dask.array as da
import ngff_core as nz
from ngff_core import AnatomicalOrientation, AnatomicalOrientationValues, NgffImage

x_orientation = AnatomicalOrientation(value=AnatomicalOrientationValues.right_to_left)
assert x_orientation == AnatomicalOrientation(type="anatomical", value="right-to-left")
data = da.zeros((100, 100, 100))
ngff_image = nz.NgffImage(
    data=data,
    dims=("z", "y", "x"),
    scale={"x": 1.0, "y": 1.0, "z": 1.0},
    translation={"x": 0.0, "y": 0.0, "z": 0.0},
    axes_orientations=nz.LPS,
)
multiscales = nz.to_multiscales(ngff_image)
nz.to_ngff_zarr(store="output.ome.zarr", multiscales=multiscales)
multiscales = nz.to_multiscales(ngff_image, orientation="RAS")
nz.to_ngff_zarr(store="output.ome.zarr", multiscales=multiscales)
axes = nz.from_ngff_zarr("output.ome.zarr").metadata.axes
assert axes[2].orientation.value == "left-to-right"
""",
    "progress and configuration": """
import numpy as np
from rich.progress import Progress
from ngff_core import NgffProgress, NgffProgressCallback, config, to_multiscales, to_ngff_zarr

config.memory_target = int(1e6)
config.task_target = 100
config.cache_store = "cache"
data = np.zeros((64, 128, 128), dtype=np.uint16)
with Progress(disable=True) as progress:
    for kind in (NgffProgress, NgffProgressCallback):
        callback = kind(progress)
        multiscales = to_multiscales(data, progress=callback, cache=True)
        to_ngff_zarr("a.ome.zarr", multiscales, progress=callback)
""",
    "one function of the module": """
import numpy as np
import ngff_core.to_multiscales
from ngff_core import NgffImage
from ngff_core.to_multiscales import _ngff_image_scale_factors

image = NgffImage(np.zeros((512, 512)), dims=["y", "x"], scale={}, translation={})
assert _ngff_image_scale_factors(image, 64, {"y": 128, "x": 128}) == [
    {"y": 2, "x": 2},
    {"y": 4, "x": 4},
]
multiscales = ngff_core.to_multiscales(image, scale_factors=64, chunks=128)
assert multiscales.images[0].data is not None
""",
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_code_for_ngff_zarr_runs_after_changing_the_import(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its users write it."""
    monkeypatch.chdir(tmp_path)
    for setting in ("memory_target", "task_target", "cache_store"):
        monkeypatch.setattr(config, setting, getattr(config, setting))
    exec(compile(SNIPPETS[name], name, "exec"), {})


def test_metadata_by_hand_may_come_from_the_images() -> None:
    """For those who make levels of their own."""
    images = [
        to_ngff_image(samples(40, 40)),
        to_ngff_image(samples(20, 20), scale={"y": 2, "x": 2}),
    ]
    store: dict[str, bytes] = {}
    to_ngff_zarr(store, NgffMultiscales(images, metadata_of(images)))
    assert from_ngff_zarr(store).images[1].scale == {"y": 2.0, "x": 2.0}


def test_a_built_pyramid_is_written_again_as_it_is(tmp_path: Path) -> None:
    """Its levels at numbers, and a name that could be no path."""
    samples = np.random.default_rng(3).integers(0, 255, (64, 64), dtype=np.uint8)
    ngff_core.build_pyramid(
        NgffImage(samples, "yx", name="a/b #1"), tmp_path / "a", scale_factors=[2]
    )
    to_ngff_zarr(tmp_path / "b", from_ngff_zarr(tmp_path / "a"))
    again = from_ngff_zarr(tmp_path / "b").metadata
    assert ([dataset.path for dataset in again.datasets], again.name) == (["0", "1"], "a/b #1")
    assert np.array_equal(zarr.open_array(tmp_path / "b" / "0", mode="r")[:], samples)
