"""Precomputed volumes: written by tensorstore, read through our stores."""

import gzip
import json

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from ngff_core.sources.contract import ChunkCount
from tests.support.drawn import slices
from tests.support.precomputed_files import ARRAY, SHARDING, write
from tests.support.readers import check_described, hammer, read_all, to_memory
from tests.support.samples import sample


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "u4", "u8", "f4"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_what_tensorstore_wrote(tmp_path, stored, dtype, channels):
    """Each type, with and without an axis of channels."""
    array = (ARRAY[:channels] % 120).astype(dtype)
    with open_images(stored(write(tmp_path / "a", array))) as source:
        image, samples = source.images[0], source.open_image(0)
        assert image.axes == ("c", "z", "y", "x")[2 - channels :]
        check_described(image, samples, array if channels == 2 else array[0])
        assert samples.read_unit == ((2, 2, 3, 4) if channels == 2 else (2, 3, 4))
        assert image.placement.scale == {"x": 8.0, "y": 8.0, "z": 40.0}
        assert image.placement.units == dict.fromkeys("xyz", "nanometer")


def test_an_offset_is_a_position(tmp_path, stored):
    """Chunks are named, and voxels counted, from the offset on."""
    with open_images(stored(write(tmp_path / "a", offset=(100, -7, 3)))) as source:
        image = source.images[0]
        check_described(image, source.open_image(0), ARRAY)
        assert source.open_image(0).chunks == ChunkCount(27, 0)
        assert image.placement.translation == {"x": 800.0, "y": -56.0, "z": 120.0}


@pytest.mark.parametrize("encoding", ["compressed_segmentation", "compresso"])
def test_a_segmentation_has_labels(tmp_path, stored, encoding):
    """Its numbers must not be averaged."""
    options = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8] * 3}
    array = ARRAY[:1].astype("u8") % 5
    path = write(tmp_path / "a", array, "segmentation", **options)
    if encoding == "compresso":
        info = json.loads((path / "info").read_text())
        info["scales"][0]["encoding"] = encoding
        (path / "info").write_text(json.dumps(info))
        with pytest.raises(SourceFormatError, match="compresso"):
            open_images(stored(path))
        return
    with open_images(stored(path)) as source:
        assert source.images[0].labels
        check_described(source.images[0], source.open_image(0), array[0])


def test_jpeg_chunks(tmp_path, stored):
    """As tensorstore itself decodes them."""
    array = (ARRAY[:1] // 300).astype("u1")
    path = write(tmp_path / "a", array, encoding="jpeg")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{path}/"}}
    expected = ts.open(spec, read=True, open=True).result()[..., 0].read().result().T
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), expected)


@pytest.mark.parametrize("renamed", [False, True])
def test_chunks_may_be_gzip_files(tmp_path, stored, renamed):
    """CloudVolume stores them so, on disks with .gz at the end of the name."""
    path = write(tmp_path / "a")
    for chunk in (path / "full").iterdir():
        data = gzip.compress(chunk.read_bytes())
        chunk.unlink()
        (chunk.with_name(f"{chunk.name}.gz") if renamed else chunk).write_bytes(data)
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)


def test_a_gzip_bomb_is_refused(tmp_path):
    """A chunk is not inflated far beyond its samples."""
    path = write(tmp_path / "a")
    chunk = path / "full/0-4_0-3_0-2"
    chunk.write_bytes(gzip.compress(bytes(10_000_000)))
    with open_images(path) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match="full/0-4_0-3_0-2: truncated, or of more than"):
            samples.data[:, :, :, :]


def test_shards_are_read_from_a_disk_and_refused_elsewhere(tmp_path, memory):
    """Only tensorstore's own store finds chunks in them."""
    path = write(tmp_path / "a", sharding=SHARDING)
    with open_images(path) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)
        hammer(source.open_image(0), ARRAY)
    with pytest.raises(SourceFormatError, match="sharded precomputed volume is read from a local"):
        open_images(to_memory(path, memory))


@pytest.mark.parametrize(("name", "channels"), [("one_channel", 1), ("two_channels", 2)])
def test_real_metadata(name, channels):
    """Of Neuroglancer's own tests; without chunks all samples are 0."""
    with open_images(sample(f"precomputed/{name}")) as source:
        shape = (30, 20, 10) if channels == 1 else (2, 30, 20, 10)
        check_described(source.images[0], source.open_image(0), np.zeros(shape, "u2"))
        assert source.images[0].placement.scale == {"x": 3.0, "y": 4.0, "z": 5.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"@type": "neuroglancer_skeletons"}, "it is of neuroglancer_skeletons"),
        ({"scales": []}, "with 0 scales"),
        ({"data_type": "float7"}, "float7"),
        ({"num_channels": 0}, "size, chunk size and channels"),
        ({"key": "../other"}, "outside the folder"),
        ({"key": "/other"}, "outside the folder"),
        ({"size": [3, 4]}, "size, chunk size and channels"),
        ({"encoding": "other"}, "other"),
    ],
)
def test_an_info_of_something_else_is_refused_in_one_line(tmp_path, stored, change, words):
    """With what is wrong in it."""
    path = write(tmp_path / "a")
    info = json.loads((path / "info").read_text())
    place = info["scales"][0] if next(iter(change)) in info["scales"][0] else info
    place.update(change)
    (path / "info").write_text(json.dumps(info))
    with pytest.raises(SourceFormatError, match=words) as caught:
        open_images(stored(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_refused_by_name(tmp_path, stored):
    """One that has too few samples."""
    path = write(tmp_path / "a")
    (path / "full/0-4_0-3_0-2").write_bytes(b"abc")
    with open_images(stored(path)) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match="cannot decode the chunks full/0-4_0-3_0-2"):
            read_all(samples)


def test_a_source_has_the_order_of_a_pyramid(tmp_path, pixels):
    """Opened by itself, and another one after a change of a chunk."""
    path = write(tmp_path / "a")
    with open_source(path) as source:
        assert source.image.dims == ("c", "z", "y", "x")
        np.testing.assert_array_equal(pixels(source), ARRAY)
        before = source.identity
    (path / "full/0-4_0-3_0-2").unlink()
    with open_source(path) as source:
        assert source.chunks == ChunkCount(27, 1)
        assert source.identity != before


@pytest.fixture(scope="module", params=["local", "memory"])
def opened(tmp_path_factory, request):
    """The samples of a folder, opened once."""
    path = write(tmp_path_factory.mktemp("precomputed") / "a", offset=(5, 6, 7))
    uri = to_memory(path, "memory://sources-precomputed") if request.param == "memory" else path
    with open_images(uri) as source:
        yield source.open_image(0)


@given(key=st.tuples(slices(2), slices(6), slices(7), slices(9)))
def test_any_box_is_what_numpy_gives(opened, key):
    """Slicing follows numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.data[key], ARRAY[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    hammer(opened, ARRAY)
