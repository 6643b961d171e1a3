"""Zeiss CZI: scenes are images, mosaics are composed in order, sizes and names are the file's."""

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.decoded import DecodedCache
from tests.support.czi_files import (
    JPEG_XR,
    SIZE,
    ZSTD,
    Block,
    mosaic,
    tile,
    write,
    xml,
)
from tests.support.drawn import slices
from tests.support.reading import described, identity, whole, wrong_reads
from tests.support.samples import sample


@pytest.mark.parametrize("compression", [0, ZSTD, JPEG_XR])
def test_overlapping_tiles_are_composed_in_the_order_of_m(tmp_path, stored, compression):
    """A later M covers an earlier one, whatever the order of the directory."""
    blocks, picture = mosaic(compression)
    path = write(tmp_path / "a.czi", blocks, xml(SIZE))
    with open_images(stored(path)) as images:
        (image,) = images.images
        assert (images.kind, image.axes, image.shape) == ("czi", ("c", "y", "x"), (1, 10, 14))
        np.testing.assert_array_equal(whole(images)[0], picture)
        assert images.open_image(0).read_unit == (1, 6, 8)


@given(key=st.tuples(slices(1), slices(10), slices(14)))
def test_any_box_of_a_mosaic_is_a_part_of_the_whole(opened, key):
    """However it is cut, a sample is the same."""
    data, picture = opened
    np.testing.assert_array_equal(data[key], picture[None][key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    blocks, picture = mosaic(ZSTD)
    path = write(tmp_path_factory.mktemp("czi") / "a.czi", blocks)
    with open_images(path) as images:
        yield images.open_image(0).data, picture


@pytest.fixture
def decoded(monkeypatch):
    """The M of every subblock that is decoded."""
    from ngff_core.sources.microscopy.czi_mosaic import MosaicArray

    found = []
    real = MosaicArray._decode

    def decode(self, entry):
        found.append(entry.mosaic_index)
        return real(self, entry)

    monkeypatch.setattr(MosaicArray, "_decode", decode)
    return found


def test_a_box_reads_only_the_tiles_that_it_shows(tmp_path, decoded):
    """And a tile that two boxes share is decoded once."""
    blocks, _ = mosaic()
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        data = images.open_image(0).data
        assert data[0:1, 0:2, 0:3].shape == (1, 2, 3)
        assert decoded == [0]
        for y in range(0, 10, 3):
            for x in range(0, 14, 3):
                assert data[0:1, y : y + 3, x : x + 3].size
        assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_each_tile_of_a_regular_mosaic_is_decoded_once(tmp_path, decoded):
    """Cut at the read unit, also where nothing is kept: hidden margins are not read."""
    blocks = [
        Block(tile(4 * r + c), {"X": 6 * c, "Y": 5 * r, "M": 4 * r + c})
        for r in range(3)
        for c in range(4)
    ]
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        unit = images.open_image(0).read_unit
        assert unit == (5, 6)
        data = images.open_image(0).data
        object.__setattr__(data.array, "cache", DecodedCache(0))
        for y in range(0, 15, 5):
            for x in range(0, 24, 6):
                assert data[y : y + 5, x : x + 6].size
    assert sorted(decoded) == list(range(12))


def test_a_tile_shows_through_where_a_later_one_was_not_written(tmp_path, monkeypatch):
    """Masks of subblocks are respected."""
    from czifile import CziSubBlockSegmentData

    hole = np.ones((6, 8), bool)
    hole[2:4, 3:5] = False

    def mask(segment):
        return hole if segment.directory_entry.mosaic_index == 1 else None

    monkeypatch.setattr(CziSubBlockSegmentData, "mask", mask)
    blocks = [Block(tile(m), {"X": 0, "Y": 0, "M": m}) for m in range(2)]
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        expected = np.where(hole, tile(1), tile(0))
        np.testing.assert_array_equal(whole(images), expected)
        np.testing.assert_array_equal(images.open_image(0).data[3:6, 2:8], expected[3:6, 2:8])


def test_pixels_that_no_tile_covers_are_0(tmp_path):
    """Two tiles with a gap between them."""
    blocks = [Block(tile(0), {"X": 0, "Y": 0, "M": 0}), Block(tile(1), {"X": 20, "Y": 6, "M": 1})]
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        found = whole(images)
        assert found.shape == (12, 28)
        assert not found[6:, :20].any()
        np.testing.assert_array_equal(found[6:, 20:], tile(1))


def test_scenes_are_images_at_their_places(tmp_path):
    """Far apart in the file, near in their own boxes; names are well and name."""
    blocks = [
        Block(tile(0), {"X": 118583, "Y": 88865, "S": 0, "M": 0}),
        Block(tile(1), {"X": 208583, "Y": 88865, "S": 1, "M": 0}),
    ]
    document = xml(SIZE, scenes=[("P1", "B2"), ("P1", "B3")], channels=[("EGFP", "#FF00FF5B")])
    with open_images(write(tmp_path / "a.czi", blocks, document)) as images:
        first, second = images.images
        assert (first.name, second.name) == ("B2-P1", "B3-P1")
        assert first.shape == second.shape == (6, 8)
        assert first.placement.scale == {"y": 0.4, "x": 0.4}
        assert first.placement.units == {"y": "micrometer", "x": "micrometer"}
        assert first.placement.translation == {"y": 35546.0, "x": 47433.2}
        assert second.placement.translation == {"y": 35546.0, "x": 83433.2}
        assert second.metadata["well"] == "B3"
        assert "grid of the file" in first.origins["translation"]
        assert [(c.name, c.color) for c in first.channels] == [("EGFP", "00FF5B")]
    with open_source(tmp_path / "a.czi", selection=Selection(series="B3-P1")) as source:
        assert source.image.translation["x"] == pytest.approx(83433.2)


def test_sizes_of_zero_are_unknown_and_the_place_is_left_out(tmp_path):
    """A converted file has a scaling of 0."""
    blocks = [Block(tile(0), {"X": 7, "Y": 0})]
    path = write(tmp_path / "a.czi", blocks, xml({"X": "0", "Y": "-1", "Z": "NaN"}))
    with open_source(path) as source:
        notes = [str(note) for note in source.about.notes]
    assert any("position of the image" in note for note in notes)
    assert any("size of a sample along y, x" in note for note in notes)
    assert described(path)[0].placement.scale == {}


@pytest.mark.parametrize(
    ("times", "scale", "note"),
    [("0 60.1 120.2", 60.1, None), ("0 1 5", None, "unknown: the step of time")],
)
def test_steps_of_time_are_given_where_they_are_regular(tmp_path, times, scale, note):
    """Else a note says the shortest and the longest."""
    blocks = [Block(tile(t), {"X": 0, "Y": 0, "T": t}) for t in range(3)]
    image = described(write(tmp_path / "a.czi", blocks, xml(SIZE, times=times)))[0]
    assert image.placement.scale.get("t") == scale
    assert any(note in str(n) for n in image.notes) if note else not image.notes


def test_other_axes_have_their_own_names(tmp_path):
    """H is never z; an axis of length 1 vanishes."""
    blocks = [Block(tile(h), {"X": 0, "Y": 0, "Z": 0, "V": 0, "H": h}) for h in range(3)]
    path = write(tmp_path / "a.czi", blocks)
    assert described(path)[0].axes == ("h", "view", "z", "y", "x")
    with pytest.raises(SourceFormatError, match="axis 'h' of length 3"):
        open_source(path)
    with open_source(path, selection=Selection(pick={"h": 2})) as source:
        assert source.image.dims == ("z", "y", "x")
        np.testing.assert_array_equal(source.image.data[0:1, 0:6, 0:8][0], tile(2))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("compression", [0, ZSTD])
def test_colors_are_channels_in_the_order_red_green_blue(tmp_path, pixels, dtype, compression):
    """The file has blue first."""
    stored = tile(0, (6, 8, 3), dtype)
    blocks = [Block(stored, {"X": 0, "Y": 0, "C": 0}, compression)]
    with open_source(write(tmp_path / "a.czi", blocks)) as source:
        assert source.image.dims == ("c", "y", "x")
        assert [c.name for c in source.about.channels] == ["red", "green", "blue"]
        np.testing.assert_array_equal(pixels(source), stored[..., ::-1].transpose(2, 0, 1))


def test_channels_with_other_types_of_pixel_are_images_of_their_own(tmp_path):
    """Neither is converted; each has the names of its channels."""
    blocks = [
        Block(tile(0, dtype="u1"), {"X": 0, "Y": 0, "C": 1}),
        Block(tile(1, dtype="u2"), {"X": 0, "Y": 0, "C": 0}),
        Block(tile(2, dtype="u2"), {"X": 0, "Y": 0, "C": 2}),
    ]
    document = xml(channels=[("a", "#FF0000FF"), ("b", "x"), ("", "#00FF00")])
    with open_images(write(tmp_path / "a.czi", blocks, document)) as images:
        assert [(i.name, i.dtype, i.shape) for i in images.images] == [
            ("gray8", "|u1", (1, 6, 8)),
            ("gray16", "<u2", (2, 6, 8)),
        ]
        assert [c.name for c in images.images[0].channels] == ["b"]
        assert [(c.name, c.color) for c in images.images[1].channels] == [
            ("a", "0000FF"),
            (None, "00FF00"),
        ]
        np.testing.assert_array_equal(whole(images, 1), np.stack([tile(1), tile(2)]))


def test_levels_of_the_files_own_pyramid_are_ignored(tmp_path):
    """Only full resolution is read."""
    small = tile(9, (3, 4))
    blocks = [
        Block(small, {"X": 0, "Y": 0}, pyramid=2, pyramid_type=2),
        Block(tile(0), {"X": 0, "Y": 0, "M": 0}),
    ]
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        np.testing.assert_array_equal(whole(images), tile(0))


def test_subblocks_at_half_resolution_are_repeated_and_said(tmp_path):
    """Fast Airyscan stores fewer rows than the image has."""
    blocks = [Block(tile(0), {"X": 0, "Y": 0}, pyramid=2)]
    with open_images(write(tmp_path / "a.czi", blocks)) as images:
        np.testing.assert_array_equal(whole(images), tile(0).repeat(2, 0).repeat(2, 1))
        assert any("their samples are repeated" in str(n) for n in images.images[0].notes)


def test_planes_that_are_missing_and_attachments_are_said(tmp_path):
    """An interrupted acquisition; a label is not carried along."""
    blocks = [
        Block(tile(i), {"X": 0, "Y": 0, "Z": z, "C": c})
        for i, (z, c) in enumerate([(0, 0), (1, 1)])
    ]
    image = described(write(tmp_path / "a.czi", blocks, xml(), ["Label", "Thumbnail"]))[0]
    assert [str(n) for n in image.notes] == [
        "assumed: 2 of 4 planes have no subblock in the file, and are written as 0",
        "left out: attached pictures: Label, Thumbnail",
    ]


def test_a_sheared_stack_is_said(tmp_path):
    """Raw lattice light sheet planes are not at right angles."""
    blocks = [Block(tile(z), {"X": 0, "Y": 0, "Z": z}) for z in range(2)]
    document = xml(SIZE, extra="<Z><ZAxisShear>Skew45</ZAxisShear></Z>")
    image = described(write(tmp_path / "a.czi", blocks, document))[0]
    assert any("Skew45" in str(n) for n in image.notes)


# --- damaged files -------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, stored, kept):
    """Whether its directory or its samples are cut."""
    blocks, _ = mosaic()
    path = write(tmp_path / "a.czi", blocks, xml(SIZE))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with (
        pytest.raises(SourceFormatError, match="CZI") as error,
        open_images(stored(path)) as images,
    ):
        whole(images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block(tile(0), {"X": 0, "Y": 0}, claimed=(30000, 30000)), "its samples need 1800000000"),
        (Block(tile(0), {"X": 0, "Y": 0}, ZSTD, claimed=(30000, 30000)), "claims to hold"),
        (Block(tile(0), {"X": 0, "Y": 0}, compression=3), "compression JPEGLL"),
    ],
)
def test_claims_are_checked_before_memory_is_taken(tmp_path, block, message):
    """A subblock that says more than its bytes can hold."""
    with (
        open_images(write(tmp_path / "a.czi", [block])) as images,
        pytest.raises(SourceFormatError, match=message),
    ):
        assert images.open_image(0).data[0:1, 0:1].size


def test_an_absurd_box_is_refused_with_its_numbers(tmp_path):
    """Two tiles a billion pixels apart would be an image of 10¹⁸ samples."""
    far = 10**9
    blocks = [Block(tile(0), {"X": 0, "Y": 0}), Block(tile(1), {"X": far, "Y": far})]
    with pytest.raises(SourceFormatError, match=r"\(1000000006, 1000000008\), of which .* 96 of"):
        open_source(write(tmp_path / "a.czi", blocks))


def test_xml_with_entities_is_refused(tmp_path):
    """They may be bombs."""
    document = "<!DOCTYPE a [<!ENTITY b 'c'>]><ImageDocument>&b;</ImageDocument>"
    with pytest.raises(SourceFormatError, match="not a readable CZI"):
        open_images(write(tmp_path / "a.czi", [Block(tile(0), {"X": 0, "Y": 0})], document))


# --- threads, identity, real files ---------------------------------------------------------


@pytest.mark.parametrize("compression", [0, ZSTD])
def test_sixteen_threads_read_what_one_reads(tmp_path, stored, monkeypatch, compression):
    """czifile gives wrong samples in silence where its lock is not set."""
    monkeypatch.setattr("ngff_core.sources.microscopy.czi.DecodedCache", lambda: DecodedCache(0))
    blocks = [
        Block(tile(10 * z + c, (40, 50)), {"X": 0, "Y": 0, "Z": z, "C": c}, compression)
        for z in range(6)
        for c in range(4)
    ]
    with open_images(stored(write(tmp_path / "a.czi", blocks))) as images:
        assert wrong_reads(images, 0) == 0


def test_the_identity_changes_with_the_file_and_names_the_decoders(tmp_path):
    """imagecodecs only where it decodes."""
    path = tmp_path / "a.czi"
    blocks, _ = mosaic()
    first = identity(write(path, blocks))
    assert dict(first.pins)["reader"].startswith("czifile 20")
    assert "decoder" not in dict(first.pins)
    second = identity(write(path, mosaic(ZSTD)[0]))
    assert dict(second.pins)["decoder"].startswith("imagecodecs 20")
    assert first != second


def test_two_wells_of_a_plate_are_two_images():
    """90 000 pixels apart: not one image of 90 544 x 440."""
    with open_images(sample("gpl/WellD6-7_S2.czi")) as images:
        assert [(i.name, i.shape) for i in images.images] == [
            ("D6", (1, 440, 544)),
            ("D7", (1, 440, 544)),
        ]
        assert images.images[1].placement.translation == {"x": 9000.0}
        assert images.images[0].placement.scale == {"y": 0.1, "x": 0.1}
        assert wrong_reads(images, 1, 64) == 0


def test_a_real_stack_equals_an_independent_reader():
    """Lattice light sheet, two times, channels and three slices; read by openreadout too."""
    openreadout = pytest.importorskip("openreadout")
    path = sample("gpl/LLS7_small.czi")
    with open_images(path) as images:
        (image,) = images.images
        assert image.axes == ("t", "c", "z", "y", "x")
        assert image.placement.scale["t"] == 90.038
        assert image.placement.scale["z"] == 0.144992
        assert [c.color for c in image.channels] == ["FF00FF", "00FFFF"]
        with openreadout.open(str(path)) as other:
            expected = np.asarray(other.read_image(0)).reshape(image.shape)
        np.testing.assert_array_equal(whole(images), expected)
        assert wrong_reads(images, 0) == 0


def test_a_remote_file_is_read_in_ranges(tmp_path, memory):
    """By any store that opens files."""
    blocks, picture = mosaic()
    path = write(tmp_path / "a.czi", blocks)
    fsspec.filesystem("memory").pipe_file(f"{memory}/a.czi", path.read_bytes())
    with open_images(f"{memory}/a.czi") as images:
        np.testing.assert_array_equal(whole(images)[0], picture)
