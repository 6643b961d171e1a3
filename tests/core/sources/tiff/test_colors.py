"""Palettes, alpha, inverted grey and orientation of TIFF files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import ALPHA, RGB
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.tiff.views import (
    Expand,
    Form,
    JoinChannels,
    Orient,
    Squeeze,
    final_form,
    final_view,
)
from tests.support.drawn import slices
from tests.support.samples import sample

RNG = np.random.default_rng(0)
INDICES = RNG.integers(0, 256, (40, 50)).astype("u1")


def notes_of(source):
    return [str(note) for note in source.about.notes if note.kind in ("converted", "left out")]


# --- palettes --------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_a_palette_becomes_colors(tmp_path, stored, pixels, wide, options):
    """8 bits where the table has 8 bits; as Pillow shows them."""
    table = RNG.integers(0, 65536 if wide else 256, (3, 256)).astype("u2")
    table = table if wide else table * 257
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, INDICES, photometric="palette", colormap=table, **options)
    with Image.open(path) as image:
        shown = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    with open_source(stored(path)) as source:
        assert source.image.dims == ("c", "y", "x")
        assert source.about.channels == RGB
        assert source.read_unit == (3, *(options.get("tile") or INDICES.shape))
        found = pixels(source)
        assert found.dtype == ("u2" if wide else "u1")
        np.testing.assert_array_equal(found, table[:, INDICES] // (1 if wide else 257))
        np.testing.assert_array_equal(found >> 8 if wide else found, shown)
        assert any(
            "converted: the samples are indices into a palette of 256 colors" in n
            for n in notes_of(source)
        )


def test_a_palette_of_old_writers_with_8_bits(tmp_path, pixels):
    """They wrote 255 where 65535 is meant."""
    table = RNG.integers(0, 256, (3, 256)).astype("u2")
    tifffile.imwrite(tmp_path / "a.tif", INDICES, photometric="palette", colormap=table)
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), table[:, INDICES].astype("u1"))


@pytest.mark.parametrize(
    "ramp",
    [
        np.arange(256) * 257,
        np.arange(256) * 256,
        np.arange(256),
        np.array([0, *range(255)]) * 257,
    ],
    ids=["257", "256", "1", "Leica"],
)
def test_a_ramp_of_grey_leaves_the_indices(tmp_path, pixels, ramp):
    """They are intensities."""
    table = np.tile(ramp.astype("u2"), (3, 1))
    tifffile.imwrite(tmp_path / "a.tif", INDICES, photometric="palette", colormap=table)
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.dims == ("y", "x")
        np.testing.assert_array_equal(pixels(source), INDICES)
        assert notes_of(source) == []


def test_other_shades_of_grey_take_the_place_of_the_indices(tmp_path, pixels):
    """An inverted ramp, for instance."""
    ramp = (np.arange(256)[::-1] * 257).astype("u2")
    tifffile.imwrite(
        tmp_path / "a.tif", INDICES, photometric="palette", colormap=np.tile(ramp, (3, 1))
    )
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), 255 - INDICES)
        assert (
            "converted: the samples are indices into a palette of 256 shades of grey"
            in notes_of(source)[0]
        )


def test_a_ramp_of_one_color_is_the_color_of_the_channel(tmp_path, pixels):
    """The samples are intensities, shown in green."""
    table = np.zeros((3, 256), "u2")
    table[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "a.tif", INDICES, photometric="palette", colormap=table)
    with open_source(tmp_path / "a.tif") as source:
        assert [channel.color for channel in source.about.channels] == ["00FF00"]
        np.testing.assert_array_equal(pixels(source), INDICES)


def test_imagejs_lookup_table_is_only_how_it_is_shown(tmp_path, pixels):
    """Its samples are measured; that the table is left out is noted."""
    table = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    tifffile.imwrite(tmp_path / "a.tif", INDICES, imagej=True, colormap=table)
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), INDICES)


def test_pages_with_different_palettes_are_refused(tmp_path):
    """One table cannot be right for all; the same table for all pages can."""
    tables = RNG.integers(0, 256, (2, 3, 256)).astype("u2") * 257
    for name, second in (("same", 0), ("different", 1)):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for number in (0, second):
                file.write(INDICES, photometric="palette", colormap=tables[number], metadata=None)
    with pytest.raises(SourceFormatError, match="different palettes"):
        open_source(tmp_path / "different.tif", selection=Selection(dims=tuple("zyxc")))
    open_source(tmp_path / "same.tif", selection=Selection(dims=tuple("zyxc"))).close()


# --- channels --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photometric", "samples", "extra", "names"),
    [
        ("rgb", 3, None, ["red", "green", "blue"]),
        ("rgb", 4, "unassalpha", ["red", "green", "blue", "alpha"]),
        ("rgb", 4, "assocalpha", ["red", "green", "blue", "alpha"]),
        ("rgb", 4, "unspecified", ["red", "green", "blue", None]),
        ("minisblack", 2, "unassalpha", [None, "alpha"]),
        ("minisblack", 2, "unspecified", []),
        ("separated", 4, None, ["cyan", "magenta", "yellow", "black"]),
    ],
)
def test_the_samples_of_a_pixel_have_names(tmp_path, photometric, samples, extra, names):
    """Alpha is a channel like the others, and is called alpha."""
    data = RNG.integers(0, 255, (20, 30, samples)).astype("u1")
    options = {} if extra is None else {"extrasamples": [extra]}
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric=photometric, planarconfig="contig", **options
    )
    with open_source(tmp_path / "a.tif") as source:
        assert [channel.name for channel in source.about.channels] == names
        if names[-1:] == ["alpha"]:
            assert source.about.channels[-1] == ALPHA
            assert ("associated" in source.about.origins["channels"]) is True


def test_inverted_grey_is_kept_as_stored_and_noted(tmp_path, pixels):
    """Low values are white."""
    tifffile.imwrite(tmp_path / "a.tif", INDICES, photometric="miniswhite")
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), INDICES)
        assert any("MinIsWhite" in note for note in notes_of(source))


def test_plain_ycbcr_is_not_called_red_green_blue(tmp_path):
    """Nothing turns it into colors here, which is noted."""
    data = RNG.integers(0, 255, (16, 16, 3)).astype("u1")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(6)
    with pytest.raises(SourceFormatError, match="YCbCr with fewer samples of color"):
        open_source(tmp_path / "a.tif")
    tifffile.imwrite(
        tmp_path / "b.tif", data, photometric="rgb", extratags=[(530, 3, 2, (1, 1), True)]
    )
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(6)
    with open_source(tmp_path / "b.tif") as source:
        assert next(channel.name for channel in source.about.channels) == "luma"
        assert any("conversion of YCbCr" in note for note in notes_of(source))


def test_aperios_ycbcr_in_jpeg_2000_is_not_called_red_green_blue(tmp_path):
    """Its decoder gives the components as they are, which is noted."""
    data = RNG.integers(0, 255, (64, 64, 3)).astype("u1")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", compression="jpeg2000")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages.first.tags["Compression"].overwrite(33003)
    with open_source(tmp_path / "a.tif") as source:
        assert source.about.channels[0].name == "luma"
        assert any("conversion of YCbCr" in note for note in notes_of(source))


def test_jpeg_that_stores_ycbcr_is_red_green_blue(tmp_path):
    """Its decoder gives colors."""
    data = np.zeros((16, 16, 3), "u1")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="ycbcr", compression="jpeg")
    with open_source(tmp_path / "a.tif") as source:
        assert source.about.channels == RGB
        assert notes_of(source) == []


# --- orientation -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2, 4, 6, 8])
def test_real_files_are_turned_as_pillow_turns_them(stored, pixels, tmp_path, number):
    """Those of large_image."""
    path = sample(f"tiff/test_orient{number}.tif")
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    copy = tmp_path / "a.tif"
    copy.write_bytes(path.read_bytes())
    with open_source(stored(copy)) as source:
        np.testing.assert_array_equal(pixels(source), expected)
        assert len(notes_of(source)) == (number >= 2)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("layout", ["grey", "rgb", "planes", "palette"])
def test_every_orientation_of_every_layout(tmp_path, pixels, value, layout):
    """Equal to Pillow's reading of the same file, in any cut."""
    path = tmp_path / "a.tif"
    rgb = RNG.integers(0, 255, (40, 56, 3)).astype("u1")
    table = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    tag = [(274, 3, 1, value, True)]
    if layout == "palette":
        tifffile.imwrite(path, rgb[..., 0], photometric="palette", colormap=table, extratags=tag)
        stored = table.T[rgb[..., 0]] // 257
    elif layout == "grey":
        tifffile.imwrite(path, rgb[..., 0], photometric="minisblack", tile=(16, 32), extratags=tag)
        stored = rgb[..., :1]
    else:
        separate = layout == "planes"
        data = np.moveaxis(rgb, -1, 0) if separate else rgb
        config = "separate" if separate else "contig"
        tifffile.imwrite(
            path, data, photometric="rgb", planarconfig=config, tile=(16, 32), extratags=tag
        )
        stored = rgb
    image = Image.fromarray(stored.astype("u1").squeeze())
    image.getexif()[274] = value
    expected = np.atleast_3d(np.asarray(ImageOps.exif_transpose(image)))
    expected = np.moveaxis(expected, -1, 0)
    with open_source(path) as source:
        data = source.image.data
        np.testing.assert_array_equal(np.reshape(pixels(source), expected.shape), expected)
        cut = data[(slice(1, 2),) * (len(data.shape) - 2) + (slice(3, 19), slice(33, 40))]
        last = expected[1:2] if len(data.shape) == 3 else expected
        np.testing.assert_array_equal(np.reshape(cut, (1, 16, 7)), last[:, 3:19, 33:40])
        if layout in ("grey", "rgb"):
            assert source.read_unit[-2:] == ((32, 16) if value >= 5 else (16, 32))


def test_the_size_of_a_pixel_turns_with_the_image(tmp_path):
    """What was along x is along y."""
    tag = [(274, 3, 1, 6, True)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((20, 30), "u1"),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"unit": "um"},
        extratags=tag,
    )
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.data.shape == (30, 20)
        assert source.image.scale == {"y": 0.25, "x": 0.5}


def test_the_orientation_of_an_ome_tiff_is_noted_only(tmp_path, pixels):
    """OME-XML says how large x and y are."""
    tifffile.imwrite(tmp_path / "a.ome.tif", INDICES, ome=True, extratags=[(274, 3, 1, 6, True)])
    with open_source(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), INDICES)
        assert any("left out: the Orientation tag, 6" in note for note in notes_of(source))


# --- views -----------------------------------------------------------------------------

STORED = Form(("t", "c", "y", "x", "samples"), (2, 3, 9, 7, 4), np.dtype("u1"))
ARRAY = RNG.integers(0, 200, STORED.shape).astype("u1")
TABLE = RNG.integers(0, 255, (200, 3)).astype("u1")


def joined(array):
    """All samples of all channels on one axis."""
    return np.moveaxis(array, -1, 2).reshape(2, 12, 9, 7)


@given(
    key=st.tuples(slices(2), slices(12), slices(9), slices(7)),
    value=st.integers(2, 8),
)
def test_any_cut_of_views_is_a_cut_of_the_whole(key, value):
    """Turned and with one channel axis, in any order of axes."""
    expected = np.asarray(joined(ARRAY))
    turns = {
        2: lambda a: a[..., ::-1],
        3: lambda a: a[..., ::-1, ::-1],
        4: lambda a: a[..., ::-1, :],
        5: lambda a: a.swapaxes(-1, -2),
        6: lambda a: np.rot90(a, -1, (-2, -1)),
        7: lambda a: np.rot90(a, 2, (-2, -1)).swapaxes(-1, -2),
        8: lambda a: np.rot90(a, 1, (-2, -1)),
    }
    expected = turns[value](expected)
    steps = (JoinChannels(), Orient(value))
    for order in ((0, 1, 2, 3, 4), (4, 0, 2, 1, 3), (0, 4, 1, 3, 2)):
        form = Form(
            tuple(STORED.axes[i] for i in order),
            tuple(STORED.shape[i] for i in order),
            STORED.dtype,
        )
        view, _ = final_view(form, ARRAY.transpose(order), form.shape, steps)
        made = final_form(form, steps)
        back = [made.axes.index(axis) for axis in ("t", "c", "y", "x")]
        assert view.shape == made.shape
        bounds = [slice(*k.indices(n)[:2]) for k, n in zip(key, expected.shape, strict=True)]
        bounds = [slice(b.start, max(b.start, b.stop)) for b in bounds]
        inner = [slice(None)] * 4
        for at, bound in zip(back, bounds, strict=True):
            inner[at] = bound
        np.testing.assert_array_equal(view[tuple(inner)].transpose(back), expected[tuple(bounds)])


def test_a_view_reads_no_more_of_a_channel_than_is_asked_for():
    """Samples in planes of their own are not all read for one of them."""
    asked = []

    class Spy:
        shape, dtype = STORED.shape, STORED.dtype

        def __getitem__(self, key):
            asked.append(key)
            return ARRAY[key]

    view, unit = final_view(STORED, Spy(), (1, 1, 9, 7, 1), (JoinChannels(),))
    assert unit == (1, 1, 9, 7)
    view[0:1, 5:6, 0:9, 0:7]
    assert asked[0][1] == slice(1, 2)
    assert asked[0][4] == slice(1, 2)


def test_squeezing_keeps_y_and_x():
    """Also where they are 1."""
    form = Form(("t", "z", "y", "x"), (1, 2, 1, 1), np.dtype("u1"))
    assert final_form(form, (Squeeze(),)).axes == ("z", "y", "x")


def test_one_bit_is_an_index_too():
    """And no mask."""
    mask = RNG.integers(0, 2, (4, 5)).astype(bool)
    form = Form(("y", "x"), (4, 5), mask.dtype)
    view, unit = final_view(form, mask, (4, 5), (Expand(TABLE[:2]),))
    assert unit == (4, 5, 3)
    np.testing.assert_array_equal(view[0:4, 0:5, 0:3], TABLE[:2][mask.astype(int)])


def test_sixteen_threads_read_the_same_colors(tmp_path):
    """A palette, turned."""
    table = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    path = tmp_path / "a.tif"
    tag = [(274, 3, 1, 8, True)]
    tifffile.imwrite(
        path, INDICES, photometric="palette", colormap=table, tile=(16, 16), extratags=tag
    )
    expected = np.rot90(table[:, INDICES] // 257, 1, (-2, -1))
    with open_images(str(path)) as images, ThreadPoolExecutor(16) as threads:
        data = images.open_image(0).data
        boxes = [(slice(i % 30, 50), slice(i % 20, 40), slice(i % 3, 3)) for i in range(200)]
        found = threads.map(lambda box: data[box], boxes)
        for box, block in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(
                np.moveaxis(block, -1, 0), expected[box[2], box[0], box[1]]
            )
