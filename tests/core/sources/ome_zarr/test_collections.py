"""Plates, wells and bioformats2raw collections: every image of them, and one of them."""

import time

import numpy as np
import pytest
import zarr

from ngff_core import build_pyramid
from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.detect import _open_stored
from tests.support.ome_zarr import SAMPLES, multiscale, write_image
from tests.support.stores import WatchedStore

FIELDS = ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]


def inside(attributes, zarr_format):
    return {"ome": {"version": "0.5", **attributes}} if zarr_format == 3 else attributes


def group(place, attributes, zarr_format):
    zarr.open_group(
        place, mode="a", zarr_format=zarr_format, attributes=inside(attributes, zarr_format)
    )


def images(place, paths, zarr_format):
    """An image at each path, its samples greater by its number, its size too."""
    for number, path in enumerate(paths):
        entry = multiscale(size=(1, 1, 1, 1 + number), name="of the file")
        entry["version"] = "0.5" if zarr_format == 3 else "0.4"
        attributes = inside({"multiscales": [entry]}, zarr_format)
        write_image(place / path, attributes, SAMPLES + number, zarr_format=zarr_format)


def plate(place, zarr_format=2, fields=FIELDS, missing=()):
    wells = list(dict.fromkeys(path.rpartition("/")[0] for path in fields))
    group(place, {"plate": {"wells": [{"path": well} for well in wells]}}, zarr_format)
    for well in wells:
        names = [path.rpartition("/")[2] for path in fields if path.startswith(f"{well}/")]
        group(place / well, {"well": {"images": [{"path": name} for name in names]}}, zarr_format)
    images(place, [path for path in fields if path not in missing], zarr_format)
    return place


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_fields_of_a_plate_are_its_images(tmp_path, stored, pixels, zarr_format):
    """Each by its path; none is taken unasked."""
    uri = stored(plate(tmp_path / "p.zarr", zarr_format))
    with open_images(uri) as found:
        assert [image.name for image in found.images] == FIELDS
        assert found.main is None
        assert found.format == f"an OME-Zarr {'0.5' if zarr_format == 3 else '0.4'} plate"
    with pytest.raises(SourceFormatError, match=r"holds 4 images; .*2 'B/3/0' \(c 2, z 3, y 20"):
        open_source(uri)
    for series in ("B/3/1", 3):
        opened = open_source(uri, selection=Selection(series=series))
        assert opened.image.scale["x"] == 4
        np.testing.assert_array_equal(pixels(opened), SAMPLES + 3)
        assert opened.identity.uri == uri
    by_path = open_source(f"{uri}/B/3/1")
    assert by_path.identity.pins == opened.identity.pins
    assert open_source(f"{uri}/A/1/0").identity.pins != opened.identity.pins


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_well_is_a_source(tmp_path, pixels, zarr_format):
    """Of its fields; of one, it is that one."""
    plate(tmp_path / "p.zarr", zarr_format)
    opened = open_source(tmp_path / "p.zarr" / "B" / "3", selection=Selection(series="0"))
    np.testing.assert_array_equal(pixels(opened), SAMPLES + 2)
    plate(tmp_path / "q.zarr", zarr_format, ["C/2/5"])
    for place in ("q.zarr/C/2", "q.zarr"):
        np.testing.assert_array_equal(pixels(open_source(tmp_path / place)), SAMPLES)


def test_the_chunks_of_one_field_are_its_identity(tmp_path):
    """Those of another are not."""
    place = plate(tmp_path / "p.zarr")
    first = open_source(place, selection=Selection(series="A/1/0")).identity
    zarr.open_array(place / "A/1/1/0")[0] = 7
    assert open_source(place, selection=Selection(series="A/1/0")).identity == first
    zarr.open_array(place / "A/1/0/0")[0] = 7
    assert open_source(place, selection=Selection(series="A/1/0")).identity != first


def test_a_field_of_a_plate_is_built(tmp_path):
    """And checked after reading, and found done by a second run."""
    place = plate(tmp_path / "p.zarr")
    for _ in range(2):
        build_pyramid(place, tmp_path / "out.ome.zarr", series="A/1/1", scale_factors=[2])
    built = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    path = built.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    np.testing.assert_array_equal(built[path][:], SAMPLES + 1)


def test_fields_that_are_not_there_are_noted(tmp_path):
    """A plate that was not finished names more than it holds."""
    place = plate(tmp_path / "p.zarr", missing=["A/1/1"])
    with open_images(place) as found:
        assert [image.name for image in found.images] == ["A/1/0", "B/3/0", "B/3/1"]
        (note,) = found.images[0].notes
    said = "1 images that the group names and that cannot be read: A/1/1; of the first: there is no"
    assert str(note).startswith(f"left out: {said}")


def test_a_plate_without_a_single_image_hints_at_one(tmp_path):
    """There is nothing to choose from."""
    place = plate(tmp_path / "p.zarr", missing=FIELDS)
    with pytest.raises(SourceFormatError, match="a plate of many images; give one of them"):
        open_source(place)


@pytest.mark.parametrize("path", ["../p.zarr/A/1", "A/../A/1", "/A/1", "", None, 3.5])
def test_paths_that_lead_outside_are_none(tmp_path, path):
    """They are not followed."""
    attributes = {"plate": {"wells": [{"path": path}, {"path": "A/1"}]}}
    plate(tmp_path / "p.zarr")
    zarr.open_group(tmp_path / "p.zarr", mode="a").attrs.put(attributes)
    with open_images(tmp_path / "p.zarr") as found:
        assert [image.name for image in found.images] == ["A/1/0", "A/1/1"]


XML = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0" Name="first"/><Image ID="Image:1"/></OME>"""


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("by", ["series", "xml", "numbers"])
def test_the_images_of_a_collection_have_numbers_and_names(
    tmp_path, stored, pixels, zarr_format, by
):
    """By the list of series, else by the OME-XML, else by counting; names are the XML's."""
    place = tmp_path / "c.zarr"
    group(place, {"bioformats2raw.layout": 3}, zarr_format)
    paths = ["b", "a"] if by == "series" else ["0", "1"]
    images(place, paths, zarr_format)
    if by != "numbers":
        group(place / "OME", {"series": paths} if by == "series" else {}, zarr_format)
        (place / "OME" / "METADATA.ome.xml").write_text(XML)
    uri = stored(place)
    names = ["0", "1"] if by == "numbers" else ["first", paths[1]]
    with open_images(uri) as found:
        assert [image.name for image in found.images] == names
    opened = open_source(uri, selection=Selection(series=1))
    np.testing.assert_array_equal(pixels(opened), SAMPLES + 1)
    with pytest.raises(SourceFormatError, match="holds 2 images"):
        open_source(uri)
    with pytest.raises(InvalidOptionError, match="there is no 'third'"):
        open_source(uri, selection=Selection(series="third"))


def test_a_collection_of_one_image_is_that_image(tmp_path, pixels):
    """As bioformats2raw writes for a file of one series; bad XML costs the name alone."""
    place = tmp_path / "c.zarr"
    group(place, {"bioformats2raw.layout": 3}, 2)
    images(place, ["0"], 2)
    (place / "OME").mkdir()
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><OME><Image Name="&b;"/></OME>'
    (place / "OME" / "METADATA.ome.xml").write_text(bomb)
    opened = open_source(place)
    assert opened.image.name == "0"
    assert str(opened.about.notes[0]).startswith("unknown: the names of the images:")
    np.testing.assert_array_equal(pixels(opened), SAMPLES)


@pytest.mark.parametrize(("zarr_format", "each"), [(2, 4), (3, 2)])
def test_a_field_costs_few_requests_and_no_listing(tmp_path, zarr_format, each):
    """Its group and its array; what is above it is read once."""

    class Watched(WatchedStore):
        def child(self, name):
            made = Watched(self.root / name, at_once=4)
            made.asked = self.asked
            return made

    place = plate(tmp_path / "p.zarr", zarr_format, [f"A/1/{n}" for n in range(20)])
    store = Watched(place, at_once=4)
    with _open_stored(store) as found:
        assert len(found.images) == 20
    assert not store.requests("objects*")
    # Which group is one of labels is asked by the name of its folder alone.
    assert len(store.requests("read *")) <= 20 * each + 10


def test_a_large_plate_is_described_in_seconds(tmp_path):
    """1536 wells: the documents are copied here, as the samples do not matter."""
    place = plate(tmp_path / "p.zarr", 3, ["A/1/0"])
    documents = {
        name: (place / "A/1" / name).read_bytes()
        for name in ("zarr.json", "0/zarr.json", "0/0/zarr.json")
    }
    wells = [f"A/{n}" for n in range(1, 1537)]
    for well in wells:
        for name, document in documents.items():
            (place / well / name).parent.mkdir(parents=True, exist_ok=True)
            (place / well / name).write_bytes(document)
    zarr.open_group(place, mode="a").attrs["ome"] = {
        "version": "0.5",
        "plate": {"wells": [{"path": well} for well in wells]},
    }
    start = time.process_time()
    with open_images(place) as found:
        assert len(found.images) == 1536
    assert time.process_time() - start < 30
