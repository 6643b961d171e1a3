"""Files of Micro-Manager: NDTiff by its index, image stacks by the map in each file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
import tifffile

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.tiff.micromanager import Frame, make_grid, parse_index
from tests.support.micromanager_frames import DATA, SUMMARY, frames, stack_frames
from tests.support.samples import sample
from tests.support.tiffs import pages_of, write_micromanager_stack, write_ndtiff


def folder_in_memory(folder, memory):
    fs = fsspec.filesystem("memory")
    for file in folder.iterdir():
        if file.is_file():
            fs.pipe_file(f"{memory}/{file.name}", file.read_bytes())


@pytest.mark.parametrize("labels", [False, True])
def test_ndtiff_has_the_axes_of_its_index_wherever_it_lies(tmp_path, memory, pixels, labels):
    """By path and by URI, by each of its files."""
    every = frames(labels)
    write_ndtiff(tmp_path, {"a_NDTiffStack.tif": every[:10], "a_NDTiffStack_1.tif": every[10:]})
    folder_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        for name in ("a_NDTiffStack.tif", "a_NDTiffStack_1.tif"):
            with open_source(f"{where}/{name}") as source:
                assert source.image.dims == ("t", "c", "z", "y", "x")
                np.testing.assert_array_equal(pixels(source), DATA)
                assert "file NDTiff.index" in dict(source.identity.pins)
                names = [channel.name for channel in source.about.channels]
                assert names == (["DAPI", "FITC", "Cy5"] if labels else [])


def test_the_real_ndtiff_file(memory, pixels):
    """As tifffile reads it by path; by URI the same."""
    path = sample("ndtiff/12_bit_pycromanager_mda/12_bit_pycromanager_mda_NDTiffStack.tif")
    folder_in_memory(path.parent, memory)
    expected = tifffile.imread(path)
    for where in (str(path), f"{memory}/{path.name}"):
        with open_source(where) as source:
            assert source.image.dims == ("t", "c", "y", "x")
            assert [channel.name for channel in source.about.channels] == ["DAPI", "FITC"]
            np.testing.assert_array_equal(pixels(source), expected)


def test_ndtiff_without_its_index_is_refused(tmp_path, memory):
    """Its pages are not taken for depth, wherever it lies."""
    write_ndtiff(tmp_path, {"a.tif": frames()})
    (tmp_path / "NDTiff.index").unlink()
    folder_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        with pytest.raises(
            SourceFormatError, match=r"axes are in NDTiff\.index, which is not beside"
        ):
            open_source(f"{where}/a.tif")


def test_ndtiff_beside_the_index_of_another_is_refused(tmp_path):
    """The message says what the index names."""
    write_ndtiff(tmp_path, {"a.tif": frames()})
    (tmp_path / "a.tif").rename(tmp_path / "b.tif")
    with pytest.raises(SourceFormatError, match=r"does not name; it names a\.tif"):
        open_source(tmp_path / "b.tif")


@pytest.mark.parametrize("cut", [1, 20, 33, 60])
def test_a_cut_index_is_refused(tmp_path, cut):
    """At any place within a record."""
    write_ndtiff(tmp_path, {"a.tif": frames()})
    index = tmp_path / "NDTiff.index"
    index.write_bytes(index.read_bytes()[:-cut])
    with pytest.raises(SourceFormatError, match=r"NDTiff\.index: the index .* cut short"):
        open_source(tmp_path / "a.tif")


def test_a_cut_ndtiff_file_is_refused(tmp_path):
    """The index says where its samples end."""
    write_ndtiff(tmp_path, {"a.tif": frames()[:23], "b.tif": frames()[23:]})
    for name in ("a.tif", "b.tif"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-10])
        with pytest.raises(SourceFormatError, match="truncated"):
            open_source(tmp_path / "a.tif")
        (tmp_path / name).write_bytes(data)


def test_missing_frames_and_files_are_refused(tmp_path):
    """With how many, or which."""
    write_ndtiff(tmp_path, {"a.tif": frames()[:-1]})
    with pytest.raises(SourceFormatError, match="1 of 24 frames are missing"):
        open_source(tmp_path / "a.tif")
    write_ndtiff(tmp_path, {"a.tif": frames()[:12], "b.tif": frames()[12:]})
    (tmp_path / "b.tif").unlink()
    with pytest.raises(SourceFormatError, match=r"1 files .* missing beside it: b\.tif"):
        open_source(tmp_path / "a.tif")


def test_positions_of_the_stage_are_images(tmp_path, stored, pixels):
    """Other axes keep their names, and are none of t, c, z."""
    data = pages_of((3, 2, 10, 12))
    every = [({"position": p, "row": r}, data[p, r]) for r in range(2) for p in range(3)]
    write_ndtiff(tmp_path / ".", {"a.tif": every})
    with open_images(str(tmp_path / "a.tif")) as images:
        assert images.main is None
        assert [image.name for image in images.images] == [f"Position {p}" for p in range(3)]
        assert {image.axes for image in images.images} == {("row", "y", "x")}
        block = images.open_image(1).data[0:2, 0:10, 0:12]
    np.testing.assert_array_equal(block, data[1])


def test_sixteen_threads_read_the_same_frames(tmp_path):
    """Of two files, one file handle each."""
    write_ndtiff(tmp_path, {"a.tif": frames()[:9], "b.tif": frames()[9:]})
    work = [(i % 2, i % 3, i % 4, i % 7) for i in range(300)]
    with open_source(tmp_path / "a.tif") as source, ThreadPoolExecutor(16) as threads:
        data = source.image.data
        found = threads.map(lambda w: data[w[0] : 2, w[1] : w[1] + 1, w[2] :, w[3] :, 2:9], work)
        for (t, c, z, y), block in zip(work, found, strict=True):
            np.testing.assert_array_equal(block, DATA[t:2, c : c + 1, z:, y:, 2:9])


def test_a_later_frame_replaces_one_at_its_place():
    """As the index of an acquisition that wrote a frame twice."""
    twice = [Frame({"t": 0}, None, 1), Frame({"t": 1}, None, 2), Frame({"t": 0}, None, 3)]
    assert [frame.offset for frame in make_grid(twice).frames] == [3, 2]
    with pytest.raises(ValueError, match="different axes"):
        make_grid([Frame({"t": 0}, None, 1), Frame({"z": 1}, None, 2)])
    with pytest.raises(ValueError, match="1 positions on t are missing"):
        make_grid([Frame({"t": 0}, None, 1), Frame({"t": 2}, None, 2)])


def test_an_index_names_sizes_that_do_not_count_as_memory():
    """A length beyond the end is a cut."""
    with pytest.raises(ValueError, match="cut short"):
        list(parse_index(b"\xff\xff\xff\x7f{}", "a.tif"))


# --- image stacks ----------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2])
def test_a_stack_has_the_axes_of_its_map(tmp_path, memory, pixels, parts):
    """Its own position's, also where that goes on in another file."""
    for position in range(2):
        every = stack_frames(position)
        half = len(every) // parts
        names = [f"x_MMStack_Pos{position}{part}.ome.tif" for part in ("", "_1")[:parts]]
        for number, name in enumerate(names):
            part = every[number * half : (number + 1) * half]
            write_micromanager_stack(tmp_path / name, part, SUMMARY)
    folder_in_memory(tmp_path, memory)
    for where in (str(tmp_path), memory):
        for name in names:
            with open_source(f"{where}/{name}") as source:
                assert source.about.format == "a Micro-Manager image stack"
                assert source.image.dims == ("t", "c", "z", "y", "x")
                assert [channel.name for channel in source.about.channels] == ["a", "b", "c"]
                np.testing.assert_array_equal(pixels(source), DATA + 1)


def test_positions_in_one_stack_are_images(tmp_path):
    """One for each, and none is meant."""
    both = [f for p in range(2) for f in stack_frames(p)]
    write_micromanager_stack(tmp_path / "x_MMStack.ome.tif", both, SUMMARY)
    with pytest.raises(SourceFormatError, match="2 images"):
        open_source(tmp_path / "x_MMStack.ome.tif")
    with open_source(tmp_path / "x_MMStack.ome.tif", selection=Selection(series=1)) as source:
        np.testing.assert_array_equal(source.image.data[0:2, 0:3, 0:4, 0:10, 0:12], DATA + 1)


def test_a_stack_with_missing_frames_is_refused(tmp_path):
    """With how many."""
    write_micromanager_stack(tmp_path / "x_MMStack.ome.tif", stack_frames(0)[:-2], SUMMARY)
    with pytest.raises(SourceFormatError, match="2 of 24 frames are missing"):
        open_source(tmp_path / "x_MMStack.ome.tif")


def test_a_stack_without_its_map_is_refused(tmp_path):
    """The map is at the end of the file, and is lost where the file is cut."""
    write_micromanager_stack(tmp_path / "x_MMStack.ome.tif", stack_frames(0), SUMMARY)
    data = (tmp_path / "x_MMStack.ome.tif").read_bytes()
    (tmp_path / "x_MMStack.ome.tif").write_bytes(data[:-500])
    with pytest.raises(SourceFormatError, match="Micro-Manager"):
        open_source(tmp_path / "x_MMStack.ome.tif")
