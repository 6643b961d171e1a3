"""Zarr arrays and OME-Zarr images: pixels, meaning, identity, and what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models.v04.image import Image as ImageV04
from ome_zarr_models.v05.image import Image as ImageV05
from pydantic_zarr.v2 import ArraySpec as SpecV2
from pydantic_zarr.v3 import ArraySpec as SpecV3

from ngff_core import build_pyramid
from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import Channel
from ngff_core.sources import open_source
from tasks.reporting.artifacts import report_markdown
from tests.support.drawn import slices

ARRAY = np.random.default_rng(0).integers(0, 9999, (5, 30, 40), "u2")


def write(path, array, chunks, zarr_format=3, **options):
    made = zarr.create_array(
        path,
        shape=array.shape,
        chunks=chunks,
        dtype=array.dtype,
        zarr_format=zarr_format,
        **options,
    )
    made[:] = array
    return made


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<u4", ">u2", "f2", "f4", ">f8", "c8", "?", "u8"])
def test_every_dtype_reads_back(tmp_path, stored, pixels, zarr_format, dtype):
    """Samples and dtype are what was written, in both formats."""
    array = ARRAY.astype(dtype)
    write(tmp_path / "a.zarr", array, (2, 16, 16), zarr_format)
    source = open_source(stored(tmp_path / "a.zarr"))
    assert source.kind == "zarr"
    assert source.read_unit == (2, 16, 16)
    assert source.image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(pixels(source), array)
    assert pixels(source).dtype == source.image.data.dtype


def test_a_sharded_array_is_read_by_its_inner_chunks(tmp_path, stored, pixels):
    """The inner chunk can be decoded by itself."""
    write(tmp_path / "a.zarr", ARRAY, (1, 8, 8), shards=(4, 32, 16))
    source = open_source(stored(tmp_path / "a.zarr"))
    assert source.read_unit == (1, 8, 8)
    np.testing.assert_array_equal(pixels(source), ARRAY)


def test_a_chunk_larger_than_the_array_counts_as_the_array(tmp_path):
    """No unit is larger than what there is."""
    write(tmp_path / "a.zarr", ARRAY, (64, 64, 64))
    assert open_source(tmp_path / "a.zarr").read_unit == ARRAY.shape


@pytest.mark.parametrize("names", [("y", "x", "c"), ("Y", "X", "C")])
def test_names_of_axes_come_from_the_array(tmp_path, pixels, names):
    """dimension_names in v3, xarray's attribute in v2; axes are then brought into order."""
    expected = np.moveaxis(ARRAY, -1, 0)
    write(tmp_path / "v3", ARRAY, (2, 16, 8), dimension_names=names)
    write(tmp_path / "v2", ARRAY, (2, 16, 8), 2, attributes={"_ARRAY_DIMENSIONS": list(names)})
    for path in ("v3", "v2"):
        source = open_source(tmp_path / path)
        assert source.image.dims == ("c", "y", "x")
        assert source.read_unit == (8, 2, 16)
        np.testing.assert_array_equal(pixels(source), expected)


@pytest.mark.parametrize("names", [("lat", "y", "x"), ("x", "x", "y"), (None, "y", "x")])
def test_unknown_names_of_axes_give_the_default(tmp_path, names):
    """Names that mean nothing here are as good as none."""
    write(tmp_path / "a", ARRAY, (5, 30, 40), dimension_names=names)
    assert open_source(tmp_path / "a").image.dims == ("z", "y", "x")


def test_an_array_of_six_axes_is_refused(tmp_path):
    """No default names it."""
    write(tmp_path / "a", np.zeros((1,) * 6, "u1"), (1,) * 6)
    with pytest.raises(SourceFormatError, match="does not name its axes"):
        open_source(tmp_path / "a")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_identity_follows_the_chunks(tmp_path, zarr_format):
    """Opening again changes nothing; another chunk, or other metadata, does."""
    path = tmp_path / "a.zarr"
    array = write(path, ARRAY, (2, 16, 16), zarr_format)
    first = open_source(path).identity
    assert first.uri == str(path)
    assert open_source(path).identity == first
    (path / "left.over.partial").write_bytes(b"x")
    assert open_source(path).identity == first
    array[0, 0, 0] += 1
    second = open_source(path).identity
    assert second != first
    array.attrs["note"] = "hello"
    assert open_source(path).identity != second


@given(key=st.tuples(slices(5), slices(30), slices(40)), index=st.integers(0, 3))
def test_any_box_is_what_numpy_gives(opened, key, index):
    """Slicing follows numpy's rules for bounds, in either format, sharded or turned."""
    source, array = opened[index]
    np.testing.assert_array_equal(source.image.data[key], array[key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Sources in either format, sharded, and turned, each with its array."""
    folder = tmp_path_factory.mktemp("zarr")
    write(folder / "a", ARRAY, (2, 16, 16), 2)
    write(folder / "b", ARRAY, (2, 16, 16), 3)
    write(folder / "c", ARRAY, (1, 8, 8), 3, shards=(5, 16, 16))
    turned = np.moveaxis(ARRAY, 0, -1)
    write(folder / "d", turned, (16, 16, 2), 3, dimension_names=("y", "x", "c"))
    return [(open_source(folder / name), ARRAY) for name in "abcd"]


def test_threads_read_the_same_samples(tmp_path, stored):
    """Four threads over one array."""
    write(tmp_path / "a", ARRAY, (1, 8, 8), shards=(5, 16, 16))
    data = open_source(stored(tmp_path / "a")).image.data
    boxes = [(slice(z % 5, z % 5 + 1), slice(z, 30), slice(3, 40 - z)) for z in range(20)]
    with ThreadPoolExecutor(4) as threads:
        for box, block in zip(boxes, threads.map(lambda b: data[b], boxes), strict=True):
            np.testing.assert_array_equal(block, ARRAY[box])


def test_opening_leaves_zarrs_configuration_alone(tmp_path):
    """The pipeline is bound to the array that is opened, and to nothing else."""
    before = zarr.config.get("codec_pipeline.path")
    write(tmp_path / "a", ARRAY, (1, 8, 8))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: open_source(tmp_path / "a"), range(20)))
    assert zarr.config.get("codec_pipeline.path") == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_corrupt_chunk_names_source_and_box(tmp_path, zarr_format):
    """Opening works, reading the chunk says which one cannot be decoded."""
    path = tmp_path / "a"
    write(path, ARRAY, (5, 15, 20), zarr_format)
    chunk = path / ("0.1.1" if zarr_format == 2 else "c/0/1/1")
    chunk.write_bytes(b"\xff" * chunk.stat().st_size)
    data = open_source(path).image.data
    np.testing.assert_array_equal(data[0:5, 0:15, 0:40], ARRAY[:, :15])
    with pytest.raises(SourceFormatError, match=r"a: cannot decode the box \[0:1, 14:20, 30:40\]"):
        data[0:1, 14:20, 30:40]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("zarr.json", "{", "JSON"),
        ("zarr.json", "[]", "JSON object"),
        ("zarr.json", '{"node_type": "tree"}', "node_type 'tree'"),
        ("zarr.json", '{"node_type": "array", "zarr_format": 3}', "cannot be opened"),
        (".zarray", "\xff", "JSON"),
        (".zarray", '{"shape": [3]}', "cannot be opened"),
    ],
)
def test_corrupt_metadata_is_refused(tmp_path, stored, name, text, words):
    """With an error of this package, whatever is wrong with the metadata."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(text.encode("latin1"))
    with pytest.raises(SourceFormatError, match=words):
        open_source(stored(tmp_path / "a"))


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [((), "u1", "without dimensions"), ((0, 3), "u1", "no samples"), ((2,), "M8[s]", "numbers")],
)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_is_no_image_is_refused(tmp_path, shape, dtype, words):
    """Scalars, emptiness, times."""
    zarr.create_array(tmp_path / "a", shape=shape, dtype=dtype)
    with pytest.raises(SourceFormatError, match=words):
        open_source(tmp_path / "a")


# --- OME-Zarr --------------------------------------------------------------------------

AXES = (("c", "channel", None), ("y", "space", "micrometer"), ("x", "space", "micrometer"))


def image(path, version, array=ARRAY, axes=AXES, scale=(1, 0.5, 0.25), **options):
    model, spec, fmt = (ImageV04, SpecV2, 2) if version == "0.4" else (ImageV05, SpecV3, 3)
    from ome_zarr_models.v04.axes import Axis as AxisV04
    from ome_zarr_models.v05.axes import Axis as AxisV05

    axis = AxisV04 if fmt == 2 else AxisV05
    kinds = [axis(name=n, type=t, **({"unit": u} if u else {})) for n, t, u in axes]
    half = array[..., ::2, ::2]
    names = {"dimension_names": [n for n, _, _ in axes]} if fmt == 3 else {}
    new = model.new(
        array_specs=[
            spec.from_array(a, chunks=(2, 16, 16), **names)
            if fmt == 2
            else spec.from_array(
                a,
                chunk_grid={"name": "regular", "configuration": {"chunk_shape": (2, 16, 16)}},
                codecs=[{"name": "bytes", "configuration": {"endian": "little"}}],
                **names,
            )
            for a in (array, half)
        ],
        paths=["full/0", "full/1"],
        axes=kinds,
        scales=[list(scale), [scale[0], scale[1] * 2, scale[2] * 2]],
        translations=[[0, 10, 20], [0, 10.25, 20.125]],
        **options,
    )
    group = new.to_zarr(zarr.storage.LocalStore(path), path="/")
    group["full/0"][:] = array
    group["full/1"][:] = half
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_image_opens_with_its_meaning(tmp_path, stored, pixels, version):
    """Level 0 of the first multiscale: pixels, axes, units, place and name."""
    image(tmp_path / "i.zarr", version, name="cells")
    uri = stored(tmp_path / "i.zarr")
    source = open_source(uri)
    assert source.kind == "ome-zarr"
    assert source.read_unit == (2, 16, 16)
    assert source.identity.uri == f"{uri}/full/0"
    found = source.image
    assert found.name == "cells"
    assert found.dims == ("c", "y", "x")
    assert found.scale == {"c": 1.0, "y": 0.5, "x": 0.25}
    assert found.translation == {"c": 0.0, "y": 10.0, "x": 20.0}
    assert found.axes_units == {"y": "micrometer", "x": "micrometer"}
    np.testing.assert_array_equal(pixels(source), ARRAY)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_names_colors_and_windows_of_channels_are_those_of_omero(tmp_path, version):
    """A pyramid of a pyramid has them too; what is no color or window is left out."""
    built, again = tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"
    options = {"dims": "czyx", "ome_zarr_version": version}
    names = ["DAPI", "GFP", "Cy5"]
    data = np.zeros((3, 2, 16, 16), "u1")
    build_pyramid(data, built, channel_names=names, **options)
    group = zarr.open_group(built, mode="r+")
    attributes = dict(group.attrs)
    omero = (attributes if version == "0.4" else attributes["ome"])["omero"]
    omero["channels"][0] |= {"color": "0000ff"}
    omero["channels"][0]["window"] |= {"start": 5, "end": 50.5}
    omero["channels"][1] |= {"color": "blue", "label": ""}
    group.attrs.put(attributes)
    with open_source(built) as source:
        first, second, third = source.about.channels
    assert first == Channel("DAPI", "0000FF", (5.0, 50.5))
    assert second == Channel(None, None, (0.0, 255.0))
    assert third == Channel("Cy5", "00FFFF", (0.0, 255.0))
    build_pyramid(built, again, ome_zarr_version=version)
    with open_source(again) as source:
        assert source.about.channels[0] == first


def test_channels_that_do_not_fit_are_left_out_aloud(tmp_path):
    """Two names for three channels."""
    build_pyramid(
        np.zeros((3, 16, 16), "u1"), tmp_path / "a.zarr", dims="cyx", channel_names=list("abc")
    )
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    attributes = dict(group.attrs)
    del attributes["ome"]["omero"]["channels"][0]
    group.attrs.put(attributes)
    with open_source(tmp_path / "a.zarr") as source:
        assert source.about.channels == ()
        assert any("have 2 for 3 channels" in str(note) for note in source.about.notes)


def test_a_label_image_says_that_it_holds_labels(tmp_path):
    """So its smaller levels are not averaged."""
    build_pyramid(np.zeros((16, 16), "u1"), tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    attributes = dict(group.attrs)
    attributes["ome"]["image-label"] = {}
    group.attrs.put(attributes)
    with open_source(tmp_path / "a.zarr") as source:
        assert source.about.labels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_transformations_of_the_image_come_after_those_of_the_level(tmp_path, version):
    """Scale and translation of the multiscale act on the level's own."""
    image(
        tmp_path / "i.zarr",
        version,
        global_scale=[1, 2, 4],
        global_translation=[0, 100, 1000],
    )
    found = open_source(tmp_path / "i.zarr").image
    assert found.scale == {"c": 1.0, "y": 1.0, "x": 1.0}
    assert found.translation == {"c": 0.0, "y": 120.0, "x": 1080.0}
    assert found.name == "image"


@pytest.mark.parametrize("name", ["", "a/b", "..", None])
def test_a_name_no_dataset_can_bear_is_left_out(tmp_path, name):
    """The default name instead."""
    image(tmp_path / "i.zarr", "0.5", name=name)
    assert open_source(tmp_path / "i.zarr").image.name == "image"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_identity_of_an_image_follows_level_0_and_the_groups_metadata(tmp_path, version):
    """Level 1 is not read, and does not count."""
    group = image(tmp_path / "i.zarr", version)
    first = open_source(tmp_path / "i.zarr").identity
    group["full/1"][:] = 0
    assert open_source(tmp_path / "i.zarr").identity == first
    group["full/0"][:] = 0
    second = open_source(tmp_path / "i.zarr").identity
    assert second != first
    group.attrs["note"] = 1
    assert open_source(tmp_path / "i.zarr").identity != second


def edited(path, change):
    group = zarr.open_group(path)
    attributes = json.loads(json.dumps(dict(group.attrs)))
    change(attributes.get("ome", attributes))
    group.attrs.put(attributes)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a["multiscales"].clear(), "multiscales"),
        (lambda a: a["multiscales"][0].pop("datasets"), "datasets"),
        (lambda a: a["multiscales"][0].update(axes=["y", "x"]), "axes"),
        (lambda a: a["multiscales"][0]["datasets"][0].update(path="9"), "no zarr array at '9'"),
        (lambda a: a["multiscales"][0]["datasets"][0].update(path="../b"), "not a valid path"),
        (lambda a: a["multiscales"][0]["axes"][1].update(name="row"), "row"),
    ],
)
def test_metadata_of_no_valid_image_is_refused(tmp_path, version, change, words):
    """The message says where in the metadata the error is."""
    image(tmp_path / "i.zarr", version)
    with pytest.raises(SourceFormatError, match=words):
        open_source(edited(tmp_path / "i.zarr", change))


def test_another_version_of_ome_zarr_is_named(tmp_path):
    """0.4, 0.5 and 0.6 are supported, and the message says so."""
    image(tmp_path / "i.zarr", "0.5")
    path = edited(tmp_path / "i.zarr", lambda a: a.update(version="0.9"))
    with pytest.raises(SourceFormatError, match=r"0\.9 in zarr v3 .*0\.4 .*0\.5 and 0\.6"):
        open_source(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_of_arrays_names_them(tmp_path, stored, zarr_format):
    """The caller can name one of them."""
    group = zarr.create_group(tmp_path / "g", zarr_format=zarr_format)
    for name in ("raw/a", "b"):
        group.create_array(name, shape=(2, 2), dtype="u1")
    uri = stored(tmp_path / "g")
    with pytest.raises(SourceFormatError, match="arrays b, raw/a: give one of them"):
        open_source(uri)
    assert open_source(f"{uri}/raw/a").image.data.shape == (2, 2)


def test_an_empty_group_says_so(tmp_path):
    """Nothing to name."""
    zarr.create_group(tmp_path / "g")
    with pytest.raises(SourceFormatError, match="no arrays"):
        open_source(tmp_path / "g")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"bioformats2raw.layout": 3}, "bioformats2raw.*g/0"),
        ({"plate": {"wells": [{"path": "B/3"}]}}, "plate.*g/B/3/0"),
        ({"well": {"images": [{"path": "0"}]}}, "well.*g/0"),
    ],
)
def test_a_collection_of_images_hints_at_one(tmp_path, zarr_format, attributes, words):
    """Plates, wells and bioformats2raw hold many images: one has to be named."""
    attrs = {"ome": {"version": "0.5", **attributes}} if zarr_format == 3 else attributes
    zarr.create_group(tmp_path / "g", zarr_format=zarr_format, attributes=attrs)
    with pytest.raises(SourceFormatError, match=words):
        open_source(tmp_path / "g")


@pytest.mark.parametrize(
    ("zarr_format", "options", "total", "gone"),
    [
        (3, {}, 12, ["c/0/1", "c/2/3"]),
        (3, {"shards": (32, 32)}, 4, ["c/1/0"]),
        (2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}}, 12, ["0/0", "1/1", "2/2"]),
        (2, {"chunk_key_encoding": {"name": "v2", "separator": "."}}, 12, ["0.0"]),
    ],
)
def test_absent_chunks_are_counted(tmp_path, zarr_format, options, total, gone):
    """They are legal, and read as the fill value; what else lies there is no chunk."""
    data = np.ones((40, 50), "u2")
    zarr.create_array(
        tmp_path / "a.zarr", data=data, chunks=(16, 16), zarr_format=zarr_format, **options
    )
    for key in gone:
        (tmp_path / "a.zarr" / key).unlink()
    (tmp_path / "a.zarr" / "notes").write_text("not a chunk")
    with open_source(tmp_path / "a.zarr") as source:
        assert source.chunks is not None
        assert (source.chunks.total, source.chunks.absent) == (total, len(gone))


def test_a_report_tells_of_absent_chunks(tmp_path):
    """Also in the report of a run that continues another run's work, or finds it finished."""
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((40, 50), "u2"), chunks=(16, 16))
    (tmp_path / "a.zarr" / "c/0/1").unlink()
    for _ in range(2):
        report = build_pyramid(tmp_path / "a.zarr", tmp_path / "out.ome.zarr", scale_factors=[2])
        assert (report.source_chunks, report.absent_chunks) == (12, 1)
        assert report.to_dict()["absent_chunks"] == 1
        assert "1 of 12 chunks of the source" in report_markdown(report)
