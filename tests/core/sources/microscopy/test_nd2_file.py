"""Nikon ND2: positions are images, a frame has all channels, missing frames are said."""

import nd2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nd2 import structures

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from ngff_core.sources.decoded import DecodedCache
from ngff_core.sources.microscopy.nd2_compat import frame_places
from tests.support.drawn import slices
from tests.support.reading import described, identity, whole, wrong_reads
from tests.support.samples import sample


@pytest.fixture
def file():
    return sample("lm/cluster.nd2")


@pytest.fixture
def loops(monkeypatch):
    """Opens every file as if its experiment had these loops."""

    def replace(*experiment):
        monkeypatch.setattr(nd2.ND2File, "experiment", list(experiment))

    return replace


def time_loop(count, average=0.0, low=0.0, high=0.0, period=0.0):
    difference = structures.PeriodDiff(average, high, low)
    return structures.TimeLoop(
        count, 0, structures.TimeLoopParams(0.0, period, 0.0, difference), "TimeLoop"
    )


def z_loop(count, upwards=True):
    return structures.ZStackLoop(
        count, 0, structures.ZStackLoopParams(0, 0.5, upwards, ""), "ZStackLoop"
    )


def stage_loop(*names):
    points = [
        structures.Position(structures.StagePosition(10.0 * i, 5.0, 1.0), None, name)
        for i, name in enumerate(names)
    ]
    return structures.XYPosLoop(
        len(names), 0, structures.XYPosLoopParams(True, points), "XYPosLoop"
    )


def test_a_real_stack_has_its_axes_sizes_names_and_colors(file):
    """Three times, ten slices, two channels; its steps of time are not in the file."""
    with open_images(file) as images:
        (image,) = images.images
        assert (images.kind, image.axes, image.shape) == (
            "nd2",
            ("t", "z", "c", "y", "x"),
            (3, 10, 2, 31, 38),
        )
        assert image.placement.scale == pytest.approx(
            {"x": 0.167809, "y": 0.167809, "z": 0.5}, 1e-5
        )
        assert image.placement.units == dict.fromkeys("xyz", "micrometer")
        assert [(c.name, c.color) for c in image.channels] == [
            ("5-FAM/pH 9.0", "78E90F"),
            ("FM 4-64/2% CHAPS", "FE0100"),
        ]
        assert images.open_image(0).read_unit == (1, 1, 2, 31, 38)
        np.testing.assert_array_equal(whole(images), nd2.imread(file))
    with open_source(file) as source:
        assert source.image.dims == ("t", "c", "z", "y", "x")
        assert any("size of a sample along t" in str(n) for n in source.about.notes)


def test_it_equals_an_independent_reader(file):
    """openreadout has t, c, z, y, x."""
    openreadout = pytest.importorskip("openreadout")
    with open_images(file) as images, openreadout.open(str(file)) as other:
        expected = np.asarray(other.read_image(0)).reshape(3, 2, 10, 31, 38)
        np.testing.assert_array_equal(whole(images), expected.swapaxes(1, 2))


def test_a_remote_file_is_read_in_ranges(file, stored, tmp_path):
    """By any store that opens files; local files are not mapped into memory."""
    copy = tmp_path / "a.nd2"
    copy.write_bytes(file.read_bytes())
    with open_images(stored(copy)) as images:
        np.testing.assert_array_equal(whole(images), nd2.imread(file))


@given(key=st.tuples(slices(3), slices(10), slices(2), slices(31), slices(38)))
def test_any_box_is_a_part_of_the_whole(opened, key):
    """However it is cut."""
    data, expected = opened
    np.testing.assert_array_equal(data[key], expected[key])


@pytest.fixture(scope="module")
def opened():
    path = sample("lm/cluster.nd2")
    with open_images(path) as images:
        yield images.open_image(0).data, nd2.imread(path)


def test_sixteen_threads_read_what_one_reads(file, stored, tmp_path, monkeypatch):
    """Of one opened file, near and far."""
    monkeypatch.setattr(
        "ngff_core.sources.microscopy.nd2_file.DecodedCache", lambda: DecodedCache(0)
    )
    copy = tmp_path / "a.nd2"
    copy.write_bytes(file.read_bytes())
    with open_images(stored(copy)) as images:
        assert wrong_reads(images) == 0


def test_each_position_is_an_image(file, loops):
    """Whatever the order of the loops; the place of the stage is kept."""
    frames = nd2.imread(file).reshape(30, 2, 31, 38)
    loops(z_loop(5), stage_loop("A1", None, "A3"), time_loop(2))
    with open_images(file) as images:
        assert [i.name for i in images.images] == ["A1", "position 1", "A3"]
        assert images.images[0].axes == ("z", "t", "c", "y", "x")
        assert images.images[2].metadata == {"stage_position": {"x": 20.0, "y": 5.0, "z": 1.0}}
        assert any("x 20 µm" in str(n) for n in images.images[2].notes)
        expected = frames.reshape(5, 3, 2, 2, 31, 38)
        for number in range(3):
            np.testing.assert_array_equal(whole(images, number), expected[:, number])


@pytest.mark.parametrize(
    ("loop", "scale", "note"),
    [
        (time_loop(30, 2000.0, 1990.0, 2010.0), 2.0, None),
        (time_loop(30, period=500.0), 0.5, None),
        (time_loop(30, 2000.0, 1000.0, 3000.0), None, "it is not regular, 1 to 3 s"),
    ],
)
def test_steps_of_time_are_the_measured_ones_where_regular(file, loops, loop, scale, note):
    """Else those that were asked for; else a note."""
    loops(loop)
    (image,) = described(file)
    assert image.placement.scale.get("t") == scale
    assert any(note in str(n) for n in image.notes) if note else not image.notes


def test_frames_that_are_missing_or_too_many_are_said(file, loops):
    """nd2 gives zeros for frames that the file does not have."""
    loops(time_loop(40))
    (image,) = described(file)
    assert "assumed: 10 of 40 frames are not in the file, and are written as 0" in map(
        str, image.notes
    )
    loops(time_loop(20))
    (image,) = described(file)
    assert "left out: 10 frames beyond those that the experiment lists" in map(str, image.notes)
    loops(time_loop(10**9))
    with pytest.raises(SourceFormatError, match="1000000000 frames, and 30"):
        described(file)


def test_frames_without_an_experiment_have_no_name(file, loops):
    """What thirty frames are must be asked."""
    loops()
    (image,) = described(file)
    assert image.axes == ("?", "c", "y", "x")
    with pytest.raises(SourceFormatError, match="does not name its axes"):
        open_source(file)


def test_other_loops_have_their_own_names_and_a_falling_z_is_said(file, loops):
    """A custom loop is never z."""
    loops(structures.CustomLoop(3), z_loop(10, upwards=False))
    (image,) = described(file)
    assert image.axes[:2] == ("custom", "z")
    assert any("direction of z" in str(n) for n in image.notes)


def test_samples_of_a_color_pixel_are_channels(file, monkeypatch):
    """Where one picture has several components; the assumed order is said."""
    expected = nd2.imread(file)
    with nd2.ND2File(file) as opened:
        attributes = opened.attributes._replace(channelCount=1)
    monkeypatch.setattr(nd2.ND2File, "attributes", attributes)
    with open_images(file) as images:
        (image,) = images.images
        assert (image.axes, image.shape[2:]) == (
            ("t", "z", "channel", "y", "x", "c"),
            (1, 31, 38, 2),
        )
        np.testing.assert_array_equal(whole(images)[:, :, 0], np.moveaxis(expected, 2, -1))
        assert any("assumed: the samples of a color pixel" in str(n) for n in image.notes)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file_is_refused_in_one_line(file, tmp_path, kept):
    """Its directory is at its end."""
    data = file.read_bytes()
    (tmp_path / "a.nd2").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceFormatError, match="not a readable ND2 file") as error:
        open_images(tmp_path / "a.nd2")
    assert "\n" not in str(error.value)


def test_a_frame_behind_the_end_is_refused(file, monkeypatch):
    """nd2 would give zeros for it."""
    monkeypatch.setattr(
        "ngff_core.sources.microscopy.nd2_file.frame_places", lambda _: {0: (557_000, 557_100)}
    )
    with pytest.raises(SourceFormatError, match="a truncated ND2 file: 557056 bytes"):
        open_images(file)


def test_the_private_part_of_nd2_is_what_it_was(file):
    """The first samples of each frame are at the place that is told."""
    data = file.read_bytes()
    with nd2.ND2File(file) as opened:
        places = frame_places(opened)
        assert sorted(places) == list(range(30))
        for number, (start, end) in places.items():
            first = np.frombuffer(data[start : start + 152], "<u2").reshape(38, 2)
            np.testing.assert_array_equal(first.T, opened.read_frame(number)[:, 0])
            assert start < end <= len(data)


def test_the_identity_changes_with_the_file(file, tmp_path):
    """And names the reader with its version."""
    copy = tmp_path / "a.nd2"
    copy.write_bytes(file.read_bytes())
    first = identity(copy)
    assert dict(first.pins)["reader"].startswith("nd2 0.")
    copy.write_bytes(file.read_bytes())
    assert identity(copy) != first
