"""OME-TIFF: each Image with samples, in one file or in a set of them, wherever these lie."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.tiff.files import look_beside
from ngff_core.sources.tiff.ome_planes import (
    Names,
    begins_ome,
    images_of,
    parse_document,
    place_planes,
)
from ngff_core.storage import LocalFiles
from tests.support.drawn import slices
from tests.support.samples import sample
from tests.support.tiffs import (
    SET,
    Plane,
    ome_document,
    ome_image,
    pages_of,
    uuid,
    write_described,
    write_set,
)


def put_in_memory(folder: Path, memory: str) -> None:
    fs = fsspec.filesystem("memory")
    for file in folder.iterdir():
        fs.pipe_file(f"{memory}/{file.name}", file.read_bytes())


@pytest.mark.parametrize("companion", [None, "set.companion.ome", "c0.ome.tif"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_a_set_is_read_whole_by_any_of_its_files(tmp_path, memory, pixels, companion, options):
    """By path and by URI alike: the same samples, axes and names."""
    names = write_set(tmp_path, companion=companion, **options)
    put_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        for name in names:
            with open_source(f"{where}/{name}") as source:
                assert source.image.dims == ("t", "c", "y", "x")
                assert source.image.name == "cells"
                np.testing.assert_array_equal(pixels(source), SET)
                others = {f"file {n}" for n in names if n != name}
                others |= {f"file {companion}"} if companion and companion not in names else set()
                assert {p for p, _ in source.identity.pins if p.startswith("file ")} == others


@pytest.mark.parametrize("companion", [None, "set.companion.ome", "c0.ome.tif"])
def test_an_incomplete_set_is_refused_naming_what_is_missing(tmp_path, memory, companion):
    """No plane is made up, and none is left out."""
    write_set(tmp_path, companion=companion)
    (tmp_path / "c1.ome.tif").unlink()
    put_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        with pytest.raises(
            SourceFormatError, match=r"3 files, 1 of which are missing.*c1\.ome\.tif"
        ):
            open_source(f"{where}/c2.ome.tif")


def test_a_part_without_the_file_that_describes_it_is_refused(tmp_path):
    """The companion with the OME-XML is named."""
    write_set(tmp_path, companion="set.companion.ome")
    (tmp_path / "set.companion.ome").unlink()
    with pytest.raises(
        SourceFormatError, match=r"part of a set .* that set\.companion\.ome describes"
    ):
        open_source(tmp_path / "c0.ome.tif")


def test_a_broken_companion_is_refused(tmp_path):
    """The message names it."""
    write_set(tmp_path, companion="set.companion.ome")
    (tmp_path / "set.companion.ome").write_text("<OME><Image>")
    with pytest.raises(
        SourceFormatError, match=r"set\.companion\.ome: the OME-XML of c0\.ome\.tif"
    ):
        open_source(tmp_path / "c0.ome.tif")


def test_the_identity_changes_with_every_file_of_a_set(tmp_path):
    """Also with the companion that holds nothing but OME-XML."""
    write_set(tmp_path, companion="set.companion.ome")
    with open_source(tmp_path / "c0.ome.tif") as source:
        first = source.identity
    for name in ("c2.ome.tif", "set.companion.ome"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes() + b"\n")
        with open_source(tmp_path / "c0.ome.tif") as source:
            assert source.identity != first
            first = source.identity


def test_a_file_of_a_set_that_is_cut_is_refused(tmp_path):
    """By the name of the file that is cut, not of the one that was opened."""
    write_set(tmp_path)
    data = (tmp_path / "c1.ome.tif").read_bytes()
    (tmp_path / "c1.ome.tif").write_bytes(data[:-700])
    with pytest.raises(SourceFormatError, match="truncated"):
        open_source(tmp_path / "c0.ome.tif")


def test_files_of_a_set_that_differ_in_size_are_refused(tmp_path):
    """Planes of two shapes are not one array."""
    write_set(tmp_path)
    with tifffile.TiffFile(tmp_path / "c1.ome.tif") as tif:
        text = tif.pages.first.description
    write_described(tmp_path / "c1.ome.tif", pages_of((2, 20, 31)), text)
    with pytest.raises(SourceFormatError, match="do not fit together"):
        open_source(tmp_path / "c0.ome.tif")


def test_files_of_a_set_may_be_compressed_differently(tmp_path, pixels):
    """Each page is decoded as its own file says."""
    write_set(tmp_path)
    with tifffile.TiffFile(tmp_path / "c1.ome.tif") as tif:
        text = tif.pages.first.description
    write_described(tmp_path / "c1.ome.tif", SET[:, 1], text, compression="zlib", byteorder=">")
    with open_source(tmp_path / "c0.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), SET)


def test_files_of_a_set_in_jpeg(tmp_path, pixels):
    """The decoder of a file that is closed again needs nothing from it."""
    data = (SET[:, :, :16, :16] >> 8).astype("u1")
    names = [f"{c}.ome.tif" for c in range(3)]
    planes = [Plane({"t": t, "c": c}, t, names[c], uuid(c)) for t in range(2) for c in range(3)]
    image = ome_image({"x": 16, "y": 16, "c": 3, "t": 2}, planes, "u1")
    for c, name in enumerate(names):
        text = ome_document(image, uuid(c))
        write_described(tmp_path / name, data[:, c], text, compression="jpeg")
    expected = np.stack([tifffile.imread(tmp_path / n, key=[0, 1]) for n in names], 1)
    with open_source(tmp_path / names[1]) as source:
        np.testing.assert_array_equal(pixels(source), expected)


def test_pages_of_two_files_that_could_follow_each_other(tmp_path, pixels):
    """Page 1 of the second file begins where page 0 of the first one ends."""
    names = ["a.ome.tif", "b.ome.tif"]
    planes = [Plane({"z": z}, z, names[z], uuid(z)) for z in range(2)]
    image = ome_image({"x": 30, "y": 20, "z": 2}, planes)
    for z, name in enumerate(names):
        write_described(tmp_path / name, SET[z, :2], ome_document(image, uuid(z)))
    with open_source(tmp_path / "a.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), np.stack([SET[0, 0], SET[1, 1]]))


def test_a_renamed_file_is_known_by_its_uuid(tmp_path, pixels):
    """The document names it as it was called once."""
    write_set(tmp_path)
    image = ome_image({"x": 30, "y": 20, "t": 2}, [Plane({}, 0, "old.ome.tif", uuid(1), 2)])
    write_described(tmp_path / "new.ome.tif", SET[:, 0], ome_document(image, uuid(1)))
    with open_source(tmp_path / "new.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), SET[:, 0])


@pytest.mark.parametrize("name", ["../secret.tif", "/etc/secret.tif", "a/../../secret.tif", ""])
def test_companions_outside_the_folder_count_as_missing(tmp_path, name):
    """A document does not lead a builder to other files of its machine."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_described(tmp_path / "secret.tif", SET[0, 0], "no description")
    store = LocalFiles(folder / "a.ome.tif")
    assert look_beside(store, frozenset((name,))) == {name: None}


def test_many_companions_are_looked_up_in_one_listing(tmp_path, monkeypatch):
    """Not with a request for each."""
    names = [f"{i}.tif" for i in range(20)]
    for name in names[:-1]:
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(LocalFiles, "info", lambda self, key: pytest.fail("asked one by one"))
    found = look_beside(LocalFiles(tmp_path / "a.tif"), frozenset(names))
    assert [name for name, info in found.items() if info is None] == ["19.tif"]


# --- several images --------------------------------------------------------------------


def write_positions(folder: Path) -> list[Any]:
    """Two positions of a stage in a file each, every file with the complete OME-XML."""
    data = [pages_of((2, 20, 30), 1), pages_of((2, 24, 16), 2)]
    names = [f"x_MMStack_Pos{i}.ome.tif" for i in range(2)]
    images = "".join(
        ome_image(
            {"x": array.shape[2], "y": array.shape[1], "c": 2},
            [Plane({"c": c}, c, names[i], uuid(i)) for c in range(2)],
            extra={"name": f"Pos{i}", "attributes": f'PhysicalSizeX="{i + 0.5}"'},
        )
        for i, array in enumerate(data)
    )
    for i, array in enumerate(data):
        write_described(folder / names[i], array, ome_document(images, uuid(i)))
    return data


@pytest.mark.parametrize("position", [0, 1])
def test_the_file_of_a_position_gives_that_position(tmp_path, memory, pixels, position):
    """With its sizes and name; the other is listed, and can be had too."""
    data = write_positions(tmp_path)
    put_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        uri = f"{where}/x_MMStack_Pos{position}.ome.tif"
        with open_source(uri) as source:
            np.testing.assert_array_equal(pixels(source), data[position])
            assert source.image.name == f"Pos{position}"
            assert source.image.scale["x"] == position + 0.5
            assert any("left out: the other image" in str(note) for note in source.about.notes)
        with open_source(uri, selection=Selection(series=1 - position)) as source:
            np.testing.assert_array_equal(pixels(source), data[1 - position])


def test_a_position_is_read_where_the_other_is_missing(tmp_path, pixels):
    """Only what is asked for must be there."""
    data = write_positions(tmp_path)
    (tmp_path / "x_MMStack_Pos0.ome.tif").unlink()
    with open_source(tmp_path / "x_MMStack_Pos1.ome.tif") as source:
        np.testing.assert_array_equal(pixels(source), data[1])
    with pytest.raises(SourceFormatError, match=r"missing beside it: x_MMStack_Pos0\.ome\.tif"):
        open_source(tmp_path / "x_MMStack_Pos1.ome.tif", selection=Selection(series="Pos0"))


def test_images_of_one_file_are_listed_and_not_chosen(tmp_path, stored, pixels):
    """Each has its own axes, shape, type, size and name."""
    one, two = pages_of((3, 20, 30)), pages_of((2, 4, 24, 16)).astype("f4")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(one, photometric="minisblack", metadata={"axes": "CYX", "Name": "first"})
        file.write(two, photometric="minisblack", metadata={"axes": "TZYX", "PhysicalSizeX": 2.0})
    where = stored(tmp_path / "a.ome.tif")
    with open_images(where) as images:
        assert images.main is None
        assert images.format == "an OME-TIFF file"
        assert [image.axes for image in images.images] == [tuple("cyx"), tuple("tzyx")]
        assert [image.dtype for image in images.images] == ["<u2", "<f4"]
        assert images.images[0].name == "first"
    with pytest.raises(SourceFormatError, match="2 images"):
        open_source(where)
    for number, expected in enumerate((one, two)):
        with open_source(where, selection=Selection(series=number)) as source:
            np.testing.assert_array_equal(pixels(source), expected)
    assert source.image.scale["x"] == 2.0


def test_two_images_of_one_file_are_read_at_once(tmp_path):
    """Opened from one source, their pages share one file position, and one lock."""
    arrays = [pages_of((6, 20, 30), 1), pages_of((6, 20, 30), 2)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for array in arrays:
            file.write(
                array, photometric="minisblack", metadata={"axes": "ZYX"}, compression="zlib"
            )
    with open_images(str(tmp_path / "a.ome.tif")) as images, ThreadPoolExecutor(16) as threads:
        opened = [images.open_image(number).data for number in range(2)]
        work = [(i % 2, i % 6) for i in range(200)]
        found = threads.map(lambda w: opened[w[0]][w[1] : w[1] + 1, 0:20, 0:30], work)
        for (number, z), block in zip(work, found, strict=True):
            np.testing.assert_array_equal(block[0], arrays[number][z])


def test_images_that_share_one_of_their_files_are_read_at_once(tmp_path):
    """One begins in a companion, whose own lock does not guard the file that they share."""
    data = pages_of((2, 6, 120, 200))
    mixed = [Plane({"z": z}, z, "ba"[z % 2] + ".ome.tif", uuid(1 - z % 2)) for z in range(6)]
    alone = [Plane({"z": z}, z, "a.ome.tif", uuid(0)) for z in range(6)]
    body = "".join(ome_image({"x": 200, "y": 120, "z": 6}, planes) for planes in (mixed, alone))
    for number, name in enumerate(("a.ome.tif", "b.ome.tif")):
        text = ome_document(body, uuid(number))
        write_described(tmp_path / name, data[number], text, compression="zlib", rowsperstrip=2)
    expected = [np.stack([data[1 - z % 2, z] for z in range(6)]), data[0]]
    with open_images(str(tmp_path / "a.ome.tif")) as images, ThreadPoolExecutor(16) as threads:
        opened = [images.open_image(number).data for number in range(2)]
        work = [(i % 2, (i // 2) % 6) for i in range(400)]
        found = threads.map(lambda w: opened[w[0]][w[1] : w[1] + 1, 0:120, 0:200], work)
        for (number, z), block in zip(work, found, strict=True):
            np.testing.assert_array_equal(block[0], expected[number][z])


def test_an_image_that_is_only_described_is_none(tmp_path, stored, pixels):
    """Nor do its sizes become those of the image with samples."""
    label = ome_image(
        {"x": 10, "y": 10}, None, extra={"name": "label", "attributes": 'PhysicalSizeX="7"'}
    )
    scan = ome_image(
        {"x": 30, "y": 20},
        [Plane({}, 0)],
        extra={"name": "scan", "attributes": 'PhysicalSizeX="0.65"'},
    )
    write_described(tmp_path / "a.ome.tif", SET[0, 0], ome_document(label + scan))
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        assert (source.image.name, source.image.scale["x"]) == ("scan", 0.65)
        np.testing.assert_array_equal(pixels(source), SET[0, 0])
        text = "left out: 1 images of the OME-XML that have no samples in any file: 'label'"
        assert text in map(str, source.about.notes)


def test_a_document_without_any_samples_is_refused(tmp_path):
    """It is not read as a stack of pages either."""
    write_described(
        tmp_path / "a.ome.tif", SET[0, 0], ome_document(ome_image({"x": 30, "y": 20}, None))
    )
    with pytest.raises(SourceFormatError, match="none of which has samples"):
        open_source(tmp_path / "a.ome.tif")


def test_the_images_of_a_slide_have_roles(tmp_path, stored):
    """By the names that Bio-Formats gives; the scan is meant."""
    names = ("macro image", "", "label image")
    body = "".join(
        ome_image({"x": 30, "y": 20}, [Plane({}, i)], extra={"name": name} if name else None)
        for i, name in enumerate(names)
    )
    write_described(tmp_path / "a.ome.tif", SET[0], ome_document(body))
    with open_images(stored(tmp_path / "a.ome.tif")) as images:
        assert [image.role for image in images.images] == ["macro", "image", "slide label"]
    name_only = ome_image({"x": 30, "y": 20}, [Plane({}, 0)], extra={"name": "label image"})
    write_described(tmp_path / "b.ome.tif", SET[0, 0], ome_document(name_only))
    open_source(tmp_path / "b.ome.tif").close()


def test_the_real_file_with_six_images_lists_them():
    """Of a scanner of RareCyte, cut to 5 x 5 pixels."""
    with open_images(str(sample("tiff/multiseries.ome.tiff"))) as images:
        assert len(images.images) == 6
        assert {image.shape for image in images.images} == {(4, 5, 5)}
        assert images.images[5].name == "Scan_20180705_135218_01x4x01271.rcpnl #844"
        with tifffile.TiffFile(sample("tiff/multiseries.ome.tiff")) as tif:
            for number, series in enumerate(tif.series):
                data = images.open_image(number).data
                np.testing.assert_array_equal(data[0:4, 0:5, 0:5], series.asarray())


# --- planes and axes -------------------------------------------------------------------


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"])
def test_planes_are_placed_by_the_order_of_dimensions(tmp_path, stored, pixels, order):
    """One run of planes fills the image in that order."""
    sizes = {"x": 30, "y": 20, "z": 2, "c": 3, "t": 4}
    slow = [sizes[a.lower()] for a in order[:1:-1]]
    data = pages_of((*slow, 20, 30))
    image = ome_image(sizes, [Plane({}, 0, count=24)], extra={"order": order})
    write_described(tmp_path / "a.ome.tif", data.reshape(24, 20, 30), ome_document(image))
    turned = data.transpose([order[:1:-1].index(a) for a in "TCZ"] + [3, 4])
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        np.testing.assert_array_equal(pixels(source), turned)


def test_planes_may_lie_in_any_order(tmp_path, stored, pixels):
    """And two may be one page."""
    places = [3, 0, 2, 3]
    image = ome_image(
        {"x": 30, "y": 20, "z": 4}, [Plane({"z": z}, p) for z, p in enumerate(places)]
    )
    pages = pages_of((4, 20, 30))
    write_described(tmp_path / "a.ome.tif", pages, ome_document(image))
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        np.testing.assert_array_equal(pixels(source), pages[places])


@pytest.mark.parametrize(
    ("kind", "inside", "name"), [("lifetime", 4, "h"), ("angle", 2, "angle"), ("other", 4, "?")]
)
def test_axes_inside_others_keep_their_names(tmp_path, stored, kind, inside, name):
    """OME's Modulo annotations: none of them is z, and one position can be picked."""
    labels = "".join(f"<Label>{i}</Label>" for i in range(inside))
    annotation = (
        '<StructuredAnnotations><XMLAnnotation ID="Annotation:0" '
        'Namespace="openmicroscopy.org/omero/dimension/modulo"><Value><Modulo>'
        f'<ModuloAlongT Type="{kind}">{labels}</ModuloAlongT></Modulo></Value></XMLAnnotation>'
        "</StructuredAnnotations>"
    )
    image = ome_image(
        {"x": 30, "y": 20, "t": 8},
        [Plane({}, 0, count=8)],
        extra={"inside": '<AnnotationRef ID="Annotation:0"/>'},
    )
    pages = pages_of((8, 20, 30))
    write_described(tmp_path / "a.ome.tif", pages, ome_document(image + annotation))
    where = stored(tmp_path / "a.ome.tif")
    with open_images(where) as images:
        assert images.images[0].axes == ("t", name, "y", "x")
        assert images.images[0].shape == (8 // inside, inside, 20, 30)
    with pytest.raises(SourceFormatError):
        open_source(where)
    with open_source(where, selection=Selection(dims=tuple("tzyx"))) as source:
        data = source.image.data[0 : 8 // inside, 0:inside, 0:20, 0:30]
        np.testing.assert_array_equal(data.reshape(8, 20, 30), pages)


def test_a_document_that_does_not_say_where_planes_are(tmp_path, stored, pixels):
    """All pages in their order, which is noted; too few of them are refused."""
    image = ome_image({"x": 30, "y": 20, "z": 3}, [])
    write_described(tmp_path / "a.ome.tif", SET[0], ome_document(image))
    write_described(tmp_path / "b.ome.tif", SET[0, :2], ome_document(image))
    with pytest.raises(SourceFormatError, match="1 of 3 planes are missing"):
        open_source(tmp_path / "b.ome.tif")
    with open_source(stored(tmp_path / "a.ome.tif")) as source:
        np.testing.assert_array_equal(pixels(source), SET[0])
        assert any(
            str(n).startswith("assumed: the planes are all pages") for n in source.about.notes
        )


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ([Plane({"z": 0}, 0), Plane({"z": 2}, 2)], "1 of 3 planes are missing"),
        ([Plane({}, 0, count=10**12)], "1 of 3 planes are missing"),
        ([Plane({}, 7, count=3)], "3 of 3 planes are missing"),
        ([Plane({"z": z}, 0) for z in (0, 1, 9)], "1 of 3 planes are missing"),
    ],
)
def test_missing_planes_are_refused(tmp_path, planes, words):
    """In the document, or in the file."""
    image = ome_image({"x": 30, "y": 20, "z": 3}, planes)
    pages = SET[0] if planes[0].count == 1 else SET[0, :2]
    write_described(tmp_path / "a.ome.tif", pages, ome_document(image))
    with pytest.raises(SourceFormatError, match=words):
        open_source(tmp_path / "a.ome.tif")


def test_an_impossible_size_costs_no_memory():
    """The document is compared with the pages that are there first."""
    body = ome_image({"x": 30, "y": 20, "z": 10**9, "t": 10**9}, [Plane({}, 0, count=10**18)])
    (image,) = images_of(parse_document(ome_document(body)), Names("a.tif", None))
    with pytest.raises(ValueError, match="planes are missing"):
        place_planes(image, 1, {None: 5})


def test_a_page_of_another_size_than_the_document_says_is_refused(tmp_path):
    """Both sizes are in the message."""
    write_described(
        tmp_path / "a.ome.tif",
        SET[0, 0],
        ome_document(ome_image({"x": 31, "y": 20}, [Plane({}, 0)])),
    )
    with pytest.raises(SourceFormatError, match=r"pages of 20 x 30 .* says 20 x 31"):
        open_source(tmp_path / "a.ome.tif")


def test_a_type_other_than_the_documents_is_that_of_the_samples(tmp_path, pixels):
    """Which is noted."""
    image = ome_image({"x": 30, "y": 20}, [Plane({}, 0)], "i2")
    write_described(tmp_path / "a.ome.tif", SET[0, 0], ome_document(image))
    with open_source(tmp_path / "a.ome.tif") as source:
        assert source.image.data.dtype == "u2"
        np.testing.assert_array_equal(pixels(source), SET[0, 0])
        text = "left out: the type int16 that the OME-XML names: the samples are of uint16"
        assert text in map(str, source.about.notes)


def test_colors_that_the_document_calls_one_channel_of_three_samples(tmp_path, stored, pixels):
    """Named and colored; also where the document does not say that they are samples."""
    rgb = (pages_of((20, 30, 3)) >> 8).astype("u1")
    for name, samples in (("a", 3), ("b", 1)):
        image = ome_image({"x": 30, "y": 20, "c": 3}, [Plane({}, 0)], "u1", {"samples": samples})
        write_described(tmp_path / f"{name}.ome.tif", rgb, ome_document(image), photometric="rgb")
        with open_source(stored(tmp_path / f"{name}.ome.tif")) as source:
            assert source.image.dims == ("c", "y", "x")
            assert [c.color for c in source.about.channels] == ["FF0000", "00FF00", "0000FF"]
            np.testing.assert_array_equal(pixels(source), np.moveaxis(rgb, -1, 0))


# --- broken documents ------------------------------------------------------------------


@pytest.mark.parametrize("lost", [10, 60, 300])
def test_a_cut_document_is_refused_not_guessed(tmp_path, lost):
    """As a writer leaves it that gives the field too little room."""
    text = ome_document(ome_image({"x": 30, "y": 20, "c": 3}, [Plane({}, 0, count=3)]))
    write_described(tmp_path / "a.ome.tif", SET[0], text[:-lost])
    with pytest.raises(
        SourceFormatError, match="an OME-TIFF whose OME-XML cannot be read"
    ) as caught:
        open_source(tmp_path / "a.ome.tif")
    assert "\n" not in str(caught.value)


def test_entities_in_a_document_are_refused(tmp_path):
    """They may be a bomb."""
    text = ome_document(ome_image({"x": 30, "y": 20}, [Plane({}, 0)]))
    text = text.replace("?><OME", '?><!DOCTYPE x [<!ENTITY a "b">]><OME')
    write_described(tmp_path / "a.ome.tif", SET[0, 0], text)
    with pytest.raises(SourceFormatError, match="OME-XML cannot be read"):
        open_source(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    ("old", "new"),
    [('SizeZ="1"', 'SizeZ="0"'), ('SizeZ="1"', 'SizeZ="-3"'), ('SizeZ="1"', 'SizeZ="many"'),
     ("XYZCT", "XYZZT"), ('IFD="0"', 'IFD="-1"'), ('SizeC="1"', "")],
)  # fmt: skip
def test_documents_that_make_no_sense_are_refused(tmp_path, old, new):
    """In one line that names OME-XML."""
    text = ome_document(ome_image({"x": 30, "y": 20}, [Plane({}, 0)])).replace(old, new)
    write_described(tmp_path / "a.ome.tif", SET[0, 0], text)
    with pytest.raises(SourceFormatError, match="the OME-XML cannot be used"):
        open_source(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<?xml version="1.0"?>\n<!-- a comment --><OME xmlns="x">', True),
        ('<ome:OME xmlns:ome="x">', True),
        ("\ufeff<OME>", True),
        ("ImageJ=1.54p\n<OME>", False),
        ("<OMERO>", False),
        ("", False),
    ],
)
def test_documents_are_known_by_their_root(text, expected):
    """Not by their end, which may be lost."""
    assert begins_ome(text) is expected


# --- threads and cuts ------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened_set(tmp_path_factory):
    """A set of three files in tiles."""
    folder = tmp_path_factory.mktemp("set")
    write_set(folder, tile=(16, 16), compression="zlib")
    with open_source(folder / "c1.ome.tif") as source:
        yield source.image.data


@given(key=st.tuples(slices(2), slices(3), slices(20), slices(30)))
def test_any_cut_of_a_set_is_what_numpy_gives(opened_set, key):
    """Whatever files it lies in."""
    np.testing.assert_array_equal(opened_set[key], SET[key])


def test_sixteen_threads_read_the_same_samples_of_a_set(tmp_path):
    """More files than are kept open, in random boxes."""
    rng = np.random.default_rng(3)
    data = pages_of((24, 20, 30))
    names = [f"{z}.ome.tif" for z in range(24)]
    planes = [Plane({"z": z}, 0, names[z], uuid(z)) for z in range(24)]
    image = ome_image({"x": 30, "y": 20, "z": 24}, planes)
    for z, name in enumerate(names):
        write_described(tmp_path / name, data[z], ome_document(image, uuid(z)), compression="zlib")
    boxes = []
    for _ in range(300):
        starts = [int(rng.integers(0, n)) for n in data.shape]
        boxes.append(tuple(slice(a, a + 9) for a in starts))
    with open_source(tmp_path / "7.ome.tif") as source, ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda box: source.image.data[box], boxes)
        for box, block in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(block, data[box])


def test_a_companion_that_vanishes_gives_an_error_not_zeros(tmp_path):
    """While it is read."""
    names = [f"{z}.ome.tif" for z in range(3)]
    planes = [Plane({"z": z}, 0, names[z], uuid(z)) for z in range(3)]
    image = ome_image({"x": 30, "y": 20, "z": 3}, planes)
    for z, name in enumerate(names):
        write_described(tmp_path / name, SET[0, z], ome_document(image, uuid(z)))
    with open_source(tmp_path / "0.ome.tif") as source:
        shutil.move(tmp_path / "2.ome.tif", tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"2\.ome\.tif"):
            source.image.data[2:3, 0:20, 0:30]
