"""OME-Zarr as it is found: old versions, incomplete metadata, arrays named inside an image."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ngff_core import from_ngff_zarr, to_multiscales, to_ngff_zarr
from ngff_core.errors import SourceFormatError
from ngff_core.lazy.inputs import as_stored
from ngff_core.model.channels import Channel
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from tests.support.drawn import slices
from tests.support.ome_zarr import (
    SAMPLES,
    axes_of,
    dataset,
    multiscale,
    scale,
    translation,
    write_image,
)

FIVE = SAMPLES[np.newaxis]


def notes_of(opened):
    return [str(note) for note in opened.about.notes]


def described(path):
    with open_images(path) as images:
        return images.images[0]


# --- versions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "axes", "separator"),
    [("0.1", None, "."), ("0.2", None, "/"), ("0.3", list("tczyx"), "/"), (None, None, ".")],
)
def test_old_versions_are_read(tmp_path, stored, pixels, version, axes, separator):
    """0.1 and 0.2 are of t, c, z, y, x by specification; none of the three knows a size."""
    entry = {"datasets": [{"path": "0"}], "name": "old"}
    entry |= {"version": version} if version else {}
    entry |= {"axes": axes} if axes else {}
    write_image(tmp_path / "i.zarr", {"multiscales": [entry]}, FIVE, separator=separator)
    oracle = tensorstore.open(
        {"driver": "zarr", "kvstore": f"file://{tmp_path}/i.zarr/0/"}
    ).result()
    np.testing.assert_array_equal(oracle.read().result(), FIVE)
    uri = stored(tmp_path / "i.zarr")
    opened = open_source(uri)
    assert opened.image.dims == ("t", "c", "z", "y", "x")
    assert opened.about.described.placement.scale == {}
    assert opened.about.described.placement.translation == {}
    assert opened.about.format == f"an OME-Zarr {version or '0.2'} image"
    assert any("the size of a sample along z, y, x" in note for note in notes_of(opened))
    np.testing.assert_array_equal(pixels(opened), FIVE)


def test_an_old_image_of_fewer_axes_names_none_of_them(tmp_path):
    """The specification cannot be meant, so nothing is assumed of it."""
    entry = {"version": "0.1", "datasets": [{"path": "0"}]}
    write_image(tmp_path / "i.zarr", {"multiscales": [entry]})
    with pytest.raises(SourceFormatError, match="5 axes"):
        open_source(tmp_path / "i.zarr")


def test_metadata_that_name_no_axes_leave_them_unnamed(tmp_path):
    """0.4 requires axes; three of them get the default, which is noted."""
    entry = multiscale()
    del entry["axes"]
    entry["datasets"] = [dataset("0", scale(2, 1, 1))]
    write_image(tmp_path / "i.zarr", {"multiscales": [entry]}, SAMPLES[0])
    opened = open_source(tmp_path / "i.zarr")
    assert opened.image.dims == ("z", "y", "x")
    assert any(
        note.startswith("assumed: the file does not name all axes") for note in notes_of(opened)
    )


@pytest.mark.parametrize(
    ("zarr_format", "inside", "version", "legal"),
    [
        (2, False, "0.4", True),
        (3, True, "0.5", True),
        (3, False, "0.4", False),
        (2, True, "0.5", False),
        (3, True, "0.4", False),
        (3, False, None, False),
        (2, True, None, False),
    ],
)
def test_metadata_in_the_wrong_place_are_read_and_noted(
    tmp_path, pixels, zarr_format, inside, version, legal
):
    """0.4 beside no 'ome' key in zarr v3, and so on: what they say is clear."""
    entry = multiscale(size=(1, 2, 0.5, 0.25), version=version)
    attributes = {"multiscales": [entry]}
    attributes = {"ome": {"version": version, **attributes}} if inside else attributes
    write_image(tmp_path / "i.zarr", attributes, zarr_format=zarr_format)
    opened = open_source(tmp_path / "i.zarr")
    assert opened.image.scale == {"c": 1, "z": 2, "y": 0.5, "x": 0.25}
    np.testing.assert_array_equal(pixels(opened), SAMPLES)
    said = [n for n in notes_of(opened) if "where that version has none" in n]
    assert len(said) == (0 if legal else 1)
    assert legal or f"zarr v{zarr_format} has the multiscales of OME-Zarr" in said[0]


@pytest.mark.parametrize("version", ["0.7", "1.0", "0.9.dev1", "latest"])
def test_an_unknown_version_is_refused(tmp_path, version):
    """Nobody can know what it means."""
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(version=version)]})
    with pytest.raises(SourceFormatError, match=rf"OME-Zarr {version} in zarr v2 is not supp"):
        open_source(tmp_path / "i.zarr")


def test_a_version_of_something_else_is_none_of_ours(tmp_path):
    """Beside no 'ome' key, a version among the attributes is another program's."""
    write_image(tmp_path / "i.zarr", {"version": "17.1", "multiscales": [multiscale()]})
    assert open_source(tmp_path / "i.zarr").image.dims == ("c", "z", "y", "x")


def test_drafts_of_0_6_are_read_as_it(tmp_path):
    """As ngff-zarr writes them."""
    store = tmp_path / "i.zarr"
    to_ngff_zarr(store, to_multiscales(SAMPLES[0], [2]), version="0.6")
    group = zarr.open_group(store)
    ome = json.loads(json.dumps(group.attrs["ome"]))
    group.attrs["ome"] = ome | {"version": "0.6.dev4"}
    opened = open_source(store)
    assert (opened.image.dims, opened.about.format) == (
        ("z", "y", "x"),
        "an OME-Zarr 0.6 image",
    )


# --- axes and units --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        ([{"name": "C"}, {"name": "Z"}, {"name": "Y"}, {"name": "X"}], "czyx"),
        ([{"name": "channel", "type": "channel"}, "z", "y", "x"], "czyx"),
        ([{"name": "Time", "type": "time"}, "z", "y", "x"], "tzyx"),
        ([{"name": "channel", "type": "space"}, "z", "y", "x"], ("channel", "z", "y", "x")),
        ([{"name": "lambda", "type": "channel"}, "z", "y", "x"], ("lambda", "z", "y", "x")),
        ([{"name": "row", "type": "space"}, "z", "y", "x"], ("row", "z", "y", "x")),
    ],
)
def test_names_of_axes_are_respelled_where_they_are_clear(tmp_path, axes, names):
    """Others stay: the caller names them, and none is taken for z."""
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(axes=axes)]})
    assert described(tmp_path / "i.zarr").axes == tuple(names)


def test_an_axis_of_another_meaning_is_refused_until_it_is_named(tmp_path, pixels):
    """By what the axis is called in the file."""
    axes = [{"name": "lambda", "type": "channel"}, *axes_of("zyx")]
    size = (1, 2, 0.5, 0.5)
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(size=size, axes=axes)]})
    with pytest.raises(SourceFormatError, match="the axis 'lambda' of length 2 is none of"):
        open_source(tmp_path / "i.zarr")
    opened = open_source(tmp_path / "i.zarr", selection=Selection(pick={"lambda": 1}))
    assert opened.image.scale == {"z": 2, "y": 0.5, "x": 0.5}
    np.testing.assert_array_equal(pixels(opened), SAMPLES[1])


def test_a_type_that_contradicts_the_name_is_noted(tmp_path):
    """The name counts."""
    axes = [{"name": "c", "type": "time"}, *axes_of("zyx")]
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(axes=axes)]})
    opened = open_source(tmp_path / "i.zarr")
    assert opened.image.dims == ("c", "z", "y", "x")
    assert notes_of(opened) == [
        "assumed: the axis c is of the type 'time' in the file; it is read as c"
    ]


@pytest.mark.parametrize(
    ("unit", "name", "note"),
    [
        ("micrometer", "micrometer", None),
        ("um", "micrometer", None),
        ("\u00b5m", "micrometer", None),
        ("\u03bcm", "micrometer", None),
        ("micrometre", "micrometer", None),
        ("attometer", "attometer", None),
        ("furlong", "furlong", "assumed: the unit 'furlong' of the axis x is not known"),
        ("1/72 in", None, "left out: the unit of the axis x, '1/72 in'"),
        (7, None, "left out: the unit of the axis x, 7"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_units_are_respelled_kept_or_left_out(tmp_path, unit, name, note):
    """UDUNITS names; what is none is noted."""
    axes = axes_of("czyx")
    axes[3]["unit"] = unit
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(axes=axes)]})
    opened = open_source(tmp_path / "i.zarr")
    assert (opened.image.axes_units or {}).get("x") == name
    assert [n[: len(note)] for n in notes_of(opened)] == [note] if note else notes_of(opened) == []


@pytest.mark.parametrize(
    ("orientation", "value"),
    [
        ({"type": "anatomical", "value": "left-to-right"}, "left-to-right"),
        ("left-to-right", "left-to-right"),
        ({"type": "anatomical", "value": "up-to-down"}, None),
        ({"type": "other", "value": "left-to-right"}, None),
        (["left"], None),
        (3, None),
    ],
)
def test_an_orientation_that_is_none_is_left_out(tmp_path, orientation, value):
    """It does not decide where a sample lies."""
    axes = [*axes_of("czy"), {"name": "x", "type": "space", "orientation": orientation}]
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(axes=axes)]})
    opened = open_source(tmp_path / "i.zarr")
    found = opened.about.described.placement.orientations
    assert {d: str(o.value) for d, o in found.items()} == ({"x": value} if value else {})
    assert bool(notes_of(opened)) == (value is None)
    assert from_ngff_zarr(tmp_path / "i.zarr").images[0].dims == ("c", "z", "y", "x")


# --- sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-0.5, 0.0, float("nan"), float("inf")])
def test_a_size_that_none_can_have_is_refused_until_it_is_given(tmp_path, pixels, size):
    """A flipped axis would change what the samples show; the samples stay as they are stored."""
    moves = (scale(1, 1, size, 0.5), translation(0, 0, 100, -3))
    entry = multiscale(datasets=[dataset("0", *moves)])
    write_image(tmp_path / "i.zarr", {"multiscales": [entry]})
    with pytest.raises(SourceFormatError, match=r"i\.zarr.*along y is .*--scale y="):
        open_source(tmp_path / "i.zarr")
    opened = open_source(tmp_path / "i.zarr", selection=Selection(scale={"y": 0.5}))
    assert opened.image.scale["y"] == 0.5
    np.testing.assert_array_equal(pixels(opened), SAMPLES)


@given(
    st.lists(
        st.tuples(st.sampled_from(["scale", "translation"]), st.floats(0.1, 9), st.booleans()),
        max_size=5,
    )
)
def test_transformations_act_in_their_order(moves):
    """Those of the level, then those of the image: any sample lies where they all take it."""
    make = {"scale": partial(scale, 1), "translation": partial(translation, 0)}
    of_level = [make[kind](value, value) for kind, value, of_image in moves if not of_image]
    of_image = [make[kind](value, value) for kind, value, of_image in moves if of_image]
    entry = multiscale("cyx", datasets=[dataset("0", *of_level)])
    entry |= {"coordinateTransformations": of_image}
    memory = zarr.storage.MemoryStore()
    write_image(memory, {"multiscales": [entry]}, SAMPLES[0])
    found = described(memory).placement
    order = [m for m in moves if not m[2]] + [m for m in moves if m[2]]
    for index in (0, 7):
        place = float(index)
        for kind, value, _ in order:
            place = place * value if kind == "scale" else place + value
        said = index * found.scale.get("y", 1.0) + found.translation.get("y", 0.0)
        assert said == pytest.approx(place)
    assert ("y" in found.scale) == any(kind == "scale" for kind, _, _ in moves)


@pytest.mark.parametrize(
    ("transformations", "words"),
    [
        ([scale(1, 1)], "must have 4 numbers"),
        ([{"type": "scale", "scale": "1"}], "must have 4 numbers"),
        ([{"type": "scale", "path": "s"}], "must have 4 numbers"),
        ([{"type": "affine", "affine": []}], "'affine'.*is not supported"),
        (["scale"], "is not supported"),
        ([scale(1, 1, 1, 1), translation(0, 0, 0, float("nan"))], "is not finite"),
        ({}, "are not a list"),
    ],
)
def test_transformations_that_cannot_be_followed_are_refused(tmp_path, transformations, words):
    """Rather than left out: they say where the samples lie."""
    level = {"path": "0", "coordinateTransformations": transformations}
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale(datasets=[level])]})
    with pytest.raises(SourceFormatError, match=words):
        open_source(tmp_path / "i.zarr")


# --- channels --------------------------------------------------------------------------

WINDOW = {"min": 0, "max": 4095, "start": 10, "end": 900.5}


@pytest.mark.parametrize(
    ("omero", "channels", "note"),
    [
        (
            {
                "channels": [
                    {"label": "DAPI", "color": "#00f", "window": WINDOW},
                    {"color": "ff8000"},
                ]
            },
            (Channel("DAPI", "0000FF", (10.0, 900.5)), Channel(None, "FF8000")),
            None,
        ),
        ({"channels": [{"label": "a"}, {"label": ""}]}, (Channel("a"), Channel()), None),
        (
            {"channels": [{"window": {"min": 0, "max": 1}}, {"window": {"start": 5, "end": 5}}]},
            (),
            None,
        ),
        (
            {"channels": [{"label": "a", "color": "red"}, {"label": "b", "color": 255}]},
            (Channel("a"), Channel("b")),
            "left out: the color of channel 0, 'red'",
        ),
        ({"channels": [{"label": "a"}]}, (), "left out: the omero block, which has 1 channels"),
        ({"channels": 3}, (), "left out: the omero block, which has no list"),
        ("rubbish", (), "left out: the omero block, which has no list"),
        ({"channels": [3, {"label": "b"}]}, (Channel(), Channel("b")), "left out: channel 0"),
        ({"channels": []}, (), None),
        (None, (), None),
    ],
)
def test_display_data_never_stand_in_the_way(tmp_path, omero, channels, note):
    """What can be read of them is; the rest is noted."""
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale()], "omero": omero})
    opened = open_source(tmp_path / "i.zarr")
    assert opened.about.channels == channels
    found = notes_of(opened)
    assert found[0].startswith(note) if note else found == []
    read = from_ngff_zarr(tmp_path / "i.zarr")
    to_ngff_zarr({}, read, version="0.4")


def test_a_window_with_one_of_its_ranges_is_completed_by_the_other(tmp_path):
    """For the lazy API, whose channels must be valid where they are written."""
    windows = [{"min": 1, "max": 9}, {"start": 2, "end": 8}]
    channels = [{"color": "FF0000", "window": w, "label": "x"} for w in windows]
    omero = {"channels": channels, "rdefs": {"defaultZ": 1}}
    write_image(tmp_path / "i.zarr", {"multiscales": [multiscale()], "omero": omero})
    read = from_ngff_zarr(tmp_path / "i.zarr").metadata.omero
    assert read["rdefs"] == {"defaultZ": 1}
    assert [c["window"] for c in read["channels"]] == [
        {"min": 1, "max": 9, "start": 1, "end": 9},
        {"min": 2, "max": 8, "start": 2, "end": 8},
    ]


# --- labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_label_image_says_so(tmp_path, zarr_format):
    """By its attributes, in either place."""
    attributes = {"multiscales": [multiscale("yx")], "image-label": {}}
    attributes = {"ome": {"version": "0.5", **attributes}} if zarr_format == 3 else attributes
    write_image(tmp_path / "i.zarr", attributes, SAMPLES[0, 0], zarr_format=zarr_format)
    assert described(tmp_path / "i.zarr").labels


def test_samples_that_cannot_be_labels_are_numbers(tmp_path):
    """Floating-point samples have no objects to count."""
    attributes = {"multiscales": [multiscale("yx")], "image-label": {}}
    write_image(tmp_path / "i.zarr", attributes, SAMPLES[0, 0].astype("f4"))
    found = described(tmp_path / "i.zarr")
    assert not found.labels
    assert "its samples are float32" in str(found.notes[0])


def test_the_labels_of_an_image_are_sources_and_are_named(tmp_path, pixels):
    """The group of them, each of them, and a level of one; the image says what is left out."""
    place = tmp_path / "i.zarr"
    write_image(place, {"multiscales": [multiscale()]})
    for name in ("cells", "nuclei"):
        write_image(place / "labels" / name, {"multiscales": [multiscale("yx")]}, SAMPLES[0, 1])
    zarr.open_group(place / "labels", mode="a", zarr_format=2).attrs["labels"] = ["cells", "nuclei"]
    image = open_source(place)
    assert not image.about.labels
    (note,) = notes_of(image)
    assert note.startswith("left out: the labels of the image: cells, nuclei;")
    assert note.endswith(f"such as {place}/labels/cells")
    for opened in (
        open_source(place / "labels" / "cells"),
        open_source(place / "labels" / "cells" / "0"),
        open_source(place / "labels", selection=Selection(series="cells")),
    ):
        assert opened.about.labels
        np.testing.assert_array_equal(pixels(opened), SAMPLES[0, 1])
    with pytest.raises(SourceFormatError, match=r"holds 2 images.*'cells'.*'nuclei'"):
        open_source(place / "labels")


def test_a_folder_that_happens_to_be_called_labels_means_nothing(tmp_path):
    """Only a zarr group of that name holds labels."""
    write_image(tmp_path / "labels" / "i.zarr", {"multiscales": [multiscale()]})
    assert not described(tmp_path / "labels" / "i.zarr").labels


# --- arrays named inside an image ------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "paths", [("0", "1"), ("scale0/image", "scale1/image"), ("a/b/0", "a/b/1")]
)
def test_an_array_named_inside_an_image_has_its_meaning(
    tmp_path, stored, pixels, zarr_format, paths
):
    """Axes, units and channels of the image; scale and translation of its own level."""
    entry = multiscale(
        axes=axes_of("czyx", x="um"),
        datasets=[
            dataset(paths[0], scale(1, 2, 0.5, 0.25)),
            dataset(paths[1], scale(1, 2, 1, 0.5), translation(0, 0, 0.25, 0.125)),
        ],
    )
    attributes = {"multiscales": [entry], "omero": {"channels": [{"label": "a"}, {"label": "b"}]}}
    attributes = {"ome": {"version": "0.5", **attributes}} if zarr_format == 3 else attributes
    entry["version"] = "0.5" if zarr_format == 3 else "0.4"
    write_image(tmp_path / "i.zarr", attributes, zarr_format=zarr_format, paths=paths)
    uri = stored(tmp_path / "i.zarr")
    opened = open_source(f"{uri}/{paths[1]}")
    assert opened.image.scale == {"c": 1, "z": 2, "y": 1, "x": 0.5}
    assert opened.image.translation == {"c": 0, "z": 0, "y": 0.25, "x": 0.125}
    assert opened.image.axes_units == {"x": "micrometer"}
    assert [c.name for c in opened.about.channels] == ["a", "b"]
    assert any(f"is level 1 of the image {uri}, whose" in note for note in notes_of(opened))
    np.testing.assert_array_equal(pixels(opened), SAMPLES)
    # A plan names level 0 as its source, and opens it again by that name.
    whole, level = open_source(uri), open_source(f"{uri}/{paths[0]}")
    assert whole.identity == level.identity
    lazy = to_multiscales(f"{uri}/{paths[1]}", [2]) if "memory" not in uri else None
    assert lazy is None or lazy.images[0].scale == opened.image.scale


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_beside_the_levels_of_an_image_is_none_of_them(tmp_path, zarr_format):
    """Nor is one below a group that is no image, or whose document is damaged."""
    attributes = {"multiscales": [multiscale()]}
    attributes = {"ome": {"version": "0.5", **attributes}} if zarr_format == 3 else attributes
    write_image(tmp_path / "i.zarr", attributes, zarr_format=zarr_format)
    write_image(tmp_path / "i.zarr", attributes, SAMPLES[0], zarr_format=zarr_format, paths=["raw"])
    write_image(tmp_path / "g.zarr", {}, SAMPLES[0], zarr_format=zarr_format)
    for path in ("i.zarr/raw", "g.zarr/0"):
        opened = open_source(tmp_path / path)
        assert (opened.kind, opened.image.scale["x"]) == ("zarr", 1.0)
    (tmp_path / "g.zarr" / ("zarr.json" if zarr_format == 3 else ".zgroup")).write_text("{")
    assert open_source(tmp_path / "g.zarr" / "0").kind == "zarr"


def test_a_level_read_lazily_keeps_its_axes_as_stored(tmp_path):
    """Chunks may be given by position."""
    entry = multiscale("yxc", size=(2, 3, 1))
    samples = np.moveaxis(SAMPLES[:, 0], 0, -1)
    write_image(tmp_path / "i.zarr", {"multiscales": [entry]}, samples)
    image = to_multiscales(str(tmp_path / "i.zarr" / "0"), [2]).images[0]
    assert as_stored(str(tmp_path / "i.zarr" / "0")).caller_dims == ("y", "x", "c")
    assert image.scale == {"y": 2, "x": 3, "c": 1}
    np.testing.assert_array_equal(np.asarray(image.data), SAMPLES[:, 0])


# --- several images --------------------------------------------------------------------


def test_several_multiscales_are_several_images(tmp_path, pixels):
    """The first is meant, as readers of OME-Zarr take it; the other is noted, and can be had."""
    entries = [
        multiscale(name="raw", size=(1, 1, 1, 1)),
        multiscale(name="deconvolved", datasets=[dataset("1", scale(1, 2, 2, 2))]),
    ]
    channels = {"channels": [{"label": "a"}, {"label": "b"}]}
    attributes = {"multiscales": entries, "omero": channels}
    write_image(tmp_path / "i.zarr", attributes, paths=["0"])
    write_image(tmp_path / "i.zarr", attributes, SAMPLES + 1, paths=["1"])
    first = open_source(tmp_path / "i.zarr")
    assert [channel.name for channel in first.about.channels] == ["a", "b"]
    assert first.about.series == (0, 2)
    assert notes_of(first)[0].startswith("left out: the other image of the source: 1 'deconvolved'")
    second = open_source(tmp_path / "i.zarr", selection=Selection(series="deconvolved"))
    assert second.image.scale["x"] == 2
    assert second.about.channels == ()
    np.testing.assert_array_equal(pixels(second), SAMPLES + 1)
    assert first.identity.uri == second.identity.uri == str(tmp_path / "i.zarr")
    assert first.identity.pins != second.identity.pins


# --- reading ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = tmp_path_factory.mktemp("ome") / "i.zarr"
    write_image(path, {"multiscales": [multiscale()]})
    return open_source(path)


@given(st.tuples(slices(2), slices(3), slices(20), slices(24)))
def test_any_box_is_what_numpy_gives(opened, key):
    """By numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.image.data[key], SAMPLES[key])


def test_sixteen_threads_read_the_same_samples(opened):
    """Boxes at random, of one opened image."""
    rng = np.random.default_rng(2)
    starts = [[int(rng.integers(0, n)) for n in SAMPLES.shape] for _ in range(200)]
    boxes = [
        tuple(
            slice(a, int(rng.integers(a + 1, n + 1)))
            for a, n in zip(start, SAMPLES.shape, strict=True)
        )
        for start in starts
    ]
    with ThreadPoolExecutor(16) as threads:
        for box, block in zip(
            boxes, threads.map(lambda b: opened.image.data[b], boxes), strict=True
        ):
            np.testing.assert_array_equal(block, SAMPLES[box])


# --- the lazy API ----------------------------------------------------------------------


def test_the_lazy_api_reads_old_and_misplaced_metadata(tmp_path):
    """By the same rules; an unknown size is 1."""
    old = {"version": "0.3", "axes": list("czyx"), "datasets": [{"path": "0"}]}
    write_image(tmp_path / "old", {"multiscales": [old]})
    read = from_ngff_zarr(tmp_path / "old", version="0.3")
    assert read.images[0].scale == dict.fromkeys("czyx", 1.0)
    np.testing.assert_array_equal(read.images[0].data.compute(), SAMPLES)
    entry = multiscale(axes=axes_of("czyx", x="um"))
    write_image(tmp_path / "v3", {"multiscales": [entry]}, zarr_format=3)
    assert from_ngff_zarr(tmp_path / "v3", version="0.4").images[0].axes_units == {
        "x": "micrometer"
    }
    with pytest.raises(SourceFormatError, match=r"OME-Zarr 0\.4, not 0\.5"):
        from_ngff_zarr(tmp_path / "v3", version="0.5")
