"""TIFF files: pixels, axes, sizes, identity, laziness, and what is refused."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import RGB as RGB_CHANNELS
from ngff_core.model.selection import Selection
from ngff_core.sources import open_source
from ngff_core.sources.tiff.axes import axis_names
from ngff_core.sources.tiff.sizes import unit_name
from tests.support.drawn import slices

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 9999, (70, 90), "u2")
STACK = RNG.integers(0, 9999, (5, 70, 90), "u2")
RGB = RNG.integers(0, 255, (70, 90, 3), "u1")

LAYOUTS = {
    "one strip": (PLANE, {}, "yx", (70, 90)),
    "strips": (PLANE, {"rowsperstrip": 16}, "yx", (16, 90)),
    "tiles": (PLANE, {"tile": (32, 16)}, "yx", (32, 16)),
    "pages": (STACK, {"metadata": None}, "zyx", (1, 70, 90)),
    "pages in tiles": (STACK, {"tile": (32, 32)}, "zyx", (1, 32, 32)),
    "pages in strips": (STACK, {"rowsperstrip": 16, "compression": "zlib"}, "zyx", (1, 16, 90)),
    "bigtiff": (STACK, {"bigtiff": True, "tile": (16, 16)}, "zyx", (1, 16, 16)),
    "big-endian": (STACK, {"byteorder": ">"}, "zyx", (1, 70, 90)),
    "big-endian bigtiff": (PLANE, {"byteorder": ">", "bigtiff": True}, "yx", (70, 90)),
    "imagej": (STACK, {"imagej": True}, "cyx", (1, 70, 90)),
    "imagej in one page": (STACK, {"imagej": True, "truncate": True}, "cyx", (1, 70, 90)),
    "ome": (STACK, {"ome": True, "tile": (32, 32)}, "cyx", (1, 32, 32)),
    "ome zlib": (STACK, {"ome": True, "compression": "zlib"}, "cyx", (1, 70, 90)),
    "zlib": (PLANE, {"tile": (32, 32), "compression": "zlib", "predictor": True}, "yx", (32, 32)),
    "lzw": (PLANE, {"tile": (32, 32), "compression": "lzw"}, "yx", (32, 32)),
    "zstd": (PLANE, {"tile": (32, 32), "compression": "zstd"}, "yx", (32, 32)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_reads_back(tmp_path, stored, pixels, layout):
    """Samples, axes and the box that decodes by itself."""
    array, options, dims, unit = LAYOUTS[layout]
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with open_source(stored(tmp_path / "a.tif")) as source:
        assert source.kind == "tiff"
        assert source.image.dims == tuple(dims)
        assert source.read_unit == unit
        assert source.image.data.shape == array.shape
        np.testing.assert_array_equal(pixels(source), array)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8", "c8", "?"]
)
def test_every_dtype_reads_back(tmp_path, pixels, dtype, byteorder):
    """Numbers of every kind, in both byte orders of the file."""
    array = (STACK[0] % 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, photometric="minisblack")
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.data.dtype == array.dtype
        np.testing.assert_array_equal(pixels(source), array)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("pages", [1, 4])
def test_samples_become_channels(tmp_path, stored, pixels, planarconfig, tile, pages):
    """Colour, interleaved or in planes, one page or several, reads as a c axis."""
    array = RNG.integers(0, 255, (pages, 3, 70, 90), "u1")
    written = array if planarconfig == "separate" else np.moveaxis(array, 1, -1)
    written = written[0] if pages == 1 else written
    tifffile.imwrite(
        tmp_path / "a.tif", written, photometric="rgb", planarconfig=planarconfig, tile=tile
    )
    # The pages have no name, and c is where the file has it.
    dims = ("zcyx" if planarconfig == "separate" else "zyxc") if pages > 1 else None
    selection = Selection(dims=None if dims is None else tuple(dims))
    with open_source(stored(tmp_path / "a.tif"), selection=selection) as source:
        assert source.about.channels == RGB_CHANNELS
        expected = np.moveaxis(array, 1, 0) if pages > 1 else array[0]
        assert source.image.dims == (("c", "z", "y", "x") if pages > 1 else ("c", "y", "x"))
        np.testing.assert_array_equal(pixels(source), expected)
        side = tile or (70, 90)
        samples = (1 if planarconfig == "separate" else 3,)
        assert source.read_unit == samples + ((1,) if pages > 1 else ()) + side


def test_jpeg_reads_back_near_enough(tmp_path, pixels):
    """A lossy codec: what tifffile itself decodes, near what was written."""
    y, x = np.mgrid[0:64, 0:96]
    array = np.stack([y * 2, x, y + x], -1).astype("u1")
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="rgb", compression="jpeg", tile=(32, 32)
    )
    with open_source(tmp_path / "a.tif") as source:
        found = np.moveaxis(pixels(source), 0, -1)
    np.testing.assert_array_equal(found, tifffile.imread(tmp_path / "a.tif"))
    assert np.abs(found.astype(int) - array).mean() < 4


def test_only_the_first_level_of_a_pyramid_is_read(tmp_path, stored, pixels):
    """Levels in SubIFDs are the writer's, not the source."""
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK, subifds=2, tile=(32, 32), metadata={"axes": "ZYX"})
        tif.write(STACK[:, ::2, ::2], subfiletype=1, tile=(32, 32))
        tif.write(STACK[:, ::4, ::4], subfiletype=1, tile=(32, 32))
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        assert source.image.dims == ("z", "y", "x")
        np.testing.assert_array_equal(pixels(source), STACK)


def test_several_images_are_listed_and_not_chosen(tmp_path, stored, pixels):
    """None is taken for the one that is meant; each can be had by its number."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(PLANE)
        tif.write(PLANE[:50, :50])
    where = stored(tmp_path / "a.tif")
    with pytest.raises(SourceFormatError, match=r"2 images.*0 \(y 70, x 90\); 1 \(y 50, x 50\)"):
        open_source(where)
    with open_source(where, selection=Selection(series=1)) as source:
        np.testing.assert_array_equal(pixels(source), PLANE[:50, :50])


@pytest.mark.parametrize("pages", [3, 12])
def test_pages_written_one_by_one_are_a_stack(tmp_path, stored, pixels, pages):
    """A loop of writes makes an image of all pages, not of the first."""
    array = RNG.integers(0, 255, (pages, 20, 30), "u1")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in array:
            tif.write(page, contiguous=False, compression="zlib")
    with open_source(stored(tmp_path / "a.tif")) as source:
        assert source.image.dims == ("z", "y", "x")
        np.testing.assert_array_equal(pixels(source), array)


# --- axes and sizes --------------------------------------------------------------------


@pytest.mark.parametrize("order", ["TCZYX", "ZCTYX", "CZTYX"])
def test_axes_of_ome_are_brought_into_order(tmp_path, stored, pixels, order):
    """Whatever the order of the planes, t, c, z, y, x."""
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 16, "X": 24}
    array = RNG.integers(0, 255, [sizes[a] for a in order], "u1")
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": order})
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        assert source.image.dims == ("t", "c", "z", "y", "x")
        expected = array.transpose([order.index(a) for a in "TCZYX"])
        np.testing.assert_array_equal(pixels(source), expected)


def test_sizes_units_and_name_of_ome(tmp_path):
    """PhysicalSize and TimeIncrement, in UDUNITS' names, to the last digit."""
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        np.zeros((2, 3, 16, 24), "u1"),
        metadata={
            "axes": "TZYX",
            "Name": "cells",
            "PhysicalSizeX": 0.325,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 325.1,
            "PhysicalSizeYUnit": "nm",
            "PhysicalSizeZ": 2.0,
            "TimeIncrement": 30,
            "TimeIncrementUnit": "ms",
        },
    )
    with open_source(tmp_path / "a.ome.tif") as source:
        assert source.image.name == "cells"
        assert source.image.scale == {"t": 30.0, "z": 2.0, "y": 325.1, "x": 0.325}
        assert source.image.axes_units == {
            "t": "millisecond",
            "z": "micrometer",
            "y": "nanometer",
            "x": "micrometer",
        }


def test_sizes_and_units_of_imagej(tmp_path):
    """Resolution tags and spacing, in ImageJ's unit."""
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((2, 3, 16, 24), "u2"),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "TZYX", "spacing": 1.5, "unit": "um", "finterval": 0.1},
    )
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.dims == ("t", "z", "y", "x")
        assert source.image.scale == {"t": 0.1, "z": 1.5, "y": 0.5, "x": 0.25}
        assert source.image.axes_units == {
            "t": "second",
            "z": "micrometer",
            "y": "micrometer",
            "x": "micrometer",
        }


def test_the_printers_resolution_of_a_plain_file_is_ignored(tmp_path):
    """Dots per inch say nothing of what the image shows."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE, resolution=(300, 300), resolutionunit="INCH")
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.scale == {"y": 1.0, "x": 1.0}
        assert source.image.axes_units is None
        assert source.image.name == "a"


@pytest.mark.parametrize(
    ("letters", "kind", "names"),
    [
        ("QYX", "", "? y x"),
        ("IYXS", "generic", "? y x samples"),
        ("RTYX", "mmstack", "position t y x"),
        ("MPZYX", "lsm", "mosaic position z y x"),
        ("IYX", "sem", "detector y x"),
        ("AHEPRLVJKYX", "", "angle h lambda phase tile exposure event column row y x"),
    ],
)
def test_letters_of_tifffile_become_names(letters, kind, names):
    """What means something else than t, c, z, y, x has a word of its own, and is never z."""
    assert axis_names(letters, kind) == tuple(names.split())


def test_channels_of_colors_become_one_axis(tmp_path, stored, pixels):
    """The samples of the first channel, then those of the second."""
    data = RNG.integers(0, 255, (2, 5, 32, 40, 3)).astype("u1")
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="rgb", metadata={"axes": "CZYXS"})
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        assert source.image.dims == ("c", "z", "y", "x")
        assert source.read_unit == (3, 1, 32, 40)
        expected = np.moveaxis(data, -1, 1).reshape(6, 5, 32, 40)
        np.testing.assert_array_equal(pixels(source), expected)
        np.testing.assert_array_equal(
            source.image.data[1:5, 2:3, 3:9, 7:8], expected[1:5, 2:3, 3:9, 7:8]
        )


def test_axes_of_length_one_are_left_out_of_the_pixels(tmp_path, pixels):
    """A page axis of one page that means nothing is dropped."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE[None, None])
    with open_source(tmp_path / "a.tif") as source:
        assert source.image.dims == ("y", "x")
        assert source.read_unit == PLANE.shape
        np.testing.assert_array_equal(pixels(source), PLANE)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("µm", "micrometer"),
        ("\u03bcm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("micron", "micrometer"),
        ("Micrometre", "micrometer"),
        ("nm", "nanometer"),
        ("seconds", "second"),
        ("pixel", None),
        ("reference frame", None),
        ("", None),
        (None, None),
    ],
)
def test_units_are_named_as_udunits_does(text, name):
    """Abbreviations of OME and ImageJ; an unknown one is no unit."""
    assert unit_name(text) == name


# --- identity, laziness, threads -------------------------------------------------------


def test_the_identity_changes_with_the_file_and_only_then(tmp_path):
    """Size and time of change, as any file's."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE)
    with open_source(path) as source:
        first = source.identity
    with open_source(path) as source:
        assert source.identity == first
    assert first.uri == str(path)
    os.utime(path, ns=(1, 1))
    with open_source(path) as source:
        assert source.identity != first


def bytes_read() -> int:
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts by Linux' /proc")
def test_one_region_of_a_huge_file_reads_little(tmp_path):
    """Twenty gigabytes of pages, sparse on disk: one page is what one page costs."""
    path = tmp_path / "huge.tif"
    shape = (10_000, 1000, 1000)
    # Warm: imports read files too.
    tifffile.imwrite(tmp_path / "small.tif", PLANE)
    open_source(tmp_path / "small.tif").close()
    stack = tifffile.memmap(path, shape=shape, dtype="u2", bigtiff=True)
    stack[9_000, 10, 10] = 7
    stack.flush()
    del stack
    before = bytes_read()
    with open_source(path) as source:
        assert source.image.data.shape == shape
        block = source.image.data[9_000:9_001, 0:20, 0:20]
    assert block[0, 10, 10] == 7
    assert bytes_read() - before < 4 * 2_000_000


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zstd"}])
def test_threads_read_the_same_samples(tmp_path, stored, options):
    """Four threads over one file handle."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    boxes = [(slice(i % 5, 5), slice(i, 70), slice(3, 90 - i)) for i in range(40)]
    with (
        open_source(stored(tmp_path / "a.tif")) as source,
        ThreadPoolExecutor(4) as threads,
    ):
        data = source.image.data
        for box, block in zip(boxes, threads.map(lambda b: data[b], boxes), strict=True):
            np.testing.assert_array_equal(block, STACK[box])


@given(key=st.tuples(slices(3), slices(5), slices(70), slices(90)), index=st.integers(0, 2))
def test_any_box_is_what_numpy_gives(opened, key, index):
    """Slicing follows numpy's rules for bounds, tiled, in strips, or turned."""
    array, sources = opened
    np.testing.assert_array_equal(sources[index].image.data[key], array[key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The array, and sources of it in tiles, in strips, and with its axes turned."""
    folder = tmp_path_factory.mktemp("tiff")
    array = RNG.integers(0, 255, (3, 5, 70, 90), "u1")
    turned = np.moveaxis(array, 0, -1)
    tifffile.imwrite(folder / "a.tif", turned, photometric="rgb", tile=(32, 32))
    tifffile.imwrite(folder / "b.tif", turned, photometric="rgb", rowsperstrip=9)
    tifffile.imwrite(
        folder / "c.ome.tif",
        array.swapaxes(0, 1),
        metadata={"axes": "ZCYX"},
        tile=(16, 48),
        photometric="minisblack",
    )
    with ExitStack() as stack:
        dims = {"a.tif": tuple("zyxc"), "b.tif": tuple("zyxc"), "c.ome.tif": None}
        sources = [
            open_source(folder / name, selection=Selection(dims=dims[name])) for name in dims
        ]
        yield array, [stack.enter_context(source) for source in sources]


# --- what is refused -------------------------------------------------------------------

CUT = {
    "pages in a row": {},
    "compressed pages": {"compression": "zlib"},
    "pages without metadata": {"metadata": None},
    "imagej": {"imagej": True},
    "imagej in one page": {"imagej": True, "truncate": True},
    "one page for all": {"truncate": True},
    "ome": {"ome": True},
    "ome compressed": {"ome": True, "compression": "zlib"},
    "tiles": {"tile": (32, 32)},
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.55, 0.8, 0.97])
def test_a_truncated_file_is_refused_when_opened(tmp_path, stored, kind, part):
    """Wherever the file ends, and before any pixel is read."""
    array = RNG.integers(0, 9999, (12, 70, 90), "u2")
    tifffile.imwrite(tmp_path / "a.tif", array, **CUT[kind])
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(SourceFormatError, match=r"truncated|not a readable TIFF"):
        open_source(stored(tmp_path / "a.tif")).close()


@given(kind=st.sampled_from(sorted(CUT)), cut=st.integers(1, 3000) | st.integers(1, 60_000))
@settings(max_examples=60)
def test_a_cut_file_never_gives_other_pixels(cut_sources, kind, cut):
    """Refused; or complete all the same, because only bytes that are not needed are gone."""
    array, path, data = cut_sources[kind]
    path.write_bytes(data[: max(0, len(data) - cut)])
    try:
        source = open_source(path)
    except SourceFormatError:
        return
    with source:
        np.testing.assert_array_equal(source.image.data[:, :, :], array)


@pytest.fixture(scope="module")
def cut_sources(tmp_path_factory):
    """For each kind an array, and the path and the bytes of its complete file."""
    array = RNG.integers(0, 9999, (12, 40, 50), "u2")
    path = tmp_path_factory.mktemp("cut") / "a.tif"
    found = {}
    for kind, options in CUT.items():
        tifffile.imwrite(path, array, **options)
        found[kind] = (array, path, path.read_bytes())
    return found


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}], ids=["strips", "tiles"])
def test_a_file_cut_within_its_tags_is_refused(tmp_path, options):
    """Also where the list of its tiles is lost, of which tifffile would make zeros."""
    tifffile.imwrite(tmp_path / "whole.tif", PLANE, **options)
    data = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        begin = min(tif.pages.first.dataoffsets)
    for length in range(8, begin + 1):
        (tmp_path / "a.tif").write_bytes(data[:length])
        with pytest.raises(SourceFormatError, match=r"truncated|not a readable TIFF|no images"):
            open_source(tmp_path / "a.tif").close()


def test_an_error_of_truncation_has_both_sizes(tmp_path):
    """How long the file is, and how long it ought to be."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE)
    size = (tmp_path / "a.tif").stat().st_size
    os.truncate(tmp_path / "a.tif", size - 10)
    with pytest.raises(SourceFormatError, match=f"truncated: {size - 10} bytes.*{size}"):
        open_source(tmp_path / "a.tif")


def test_a_compression_without_decoder_is_refused_when_opened(tmp_path):
    """Not after hours of work."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages.first.tags["Compression"].overwrite(33333)
    with pytest.raises(SourceFormatError, match=r"decoded.*33333"):
        open_source(tmp_path / "a.tif")


def test_a_corrupt_tile_names_source_and_box(tmp_path):
    """Opening works, reading the tile says which box cannot be decoded."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages.first
        offset, count = page.dataoffsets[4], page.databytecounts[4]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.image.data[0:32, 0:90], PLANE[:32])
        with pytest.raises(SourceFormatError, match=r"a\.tif: cannot decode.*\[33:40, 40:50\]"):
            source.image.data[33:40, 40:50]


def test_a_plane_in_a_missing_file_is_refused(tmp_path, pixels):
    """An OME-TIFF in several files is read, and refused if one of them is missing."""
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[:2], metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK[2:4], metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        uuid = tif.ome_metadata.partition('UUID="')[2].partition('"')[0]
    document = two_files(uuid)
    for name in ("a", "b"):
        tifffile.tiffcomment(tmp_path / f"{name}.ome.tif", document.encode())
    with open_source(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), STACK[:4])
        assert "file b.ome.tif" in dict(source.identity.pins)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(
        SourceFormatError, match=r"2 files, 1 of which are missing beside it: b\.ome\.tif"
    ):
        open_source(tmp_path / "a.ome.tif")


def two_files(first: str) -> str:
    second = "urn:uuid:00000000-0000-0000-0000-00000000000b"
    first = first or "urn:uuid:00000000-0000-0000-0000-00000000000a"
    planes = "".join(
        f'<TiffData IFD="{z % 2}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{"ab"[z // 2]}.ome.tif">{(first, second)[z // 2]}</UUID></TiffData>'
        for z in range(4)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{first}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint16" '
        'DimensionOrder="XYZCT" SizeX="90" SizeY="70" SizeZ="4" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
