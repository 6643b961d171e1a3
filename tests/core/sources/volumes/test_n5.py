"""N5 folders: chunks written by tensorstore or by hand, equal to what was written."""

import gzip
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from ngff_core.sources.contract import ChunkCount
from tests.support.drawn import slices
from tests.support.n5_files import ARRAY, VIEWS, add, bdv, write
from tests.support.readers import check_described, hammer, notes, to_memory
from tests.support.samples import sample


def by_hand(path, array, block, pack=lambda data: data, compression=None):
    """A dataset by the text of the format: chunks with a header in big-endian, cut at the end."""
    sizes = array.shape[::-1]
    path.mkdir(parents=True)
    for position in itertools.product(
        *(range(-(-n // b)) for n, b in zip(sizes, block, strict=True))
    ):
        spans = [slice(i * b, (i + 1) * b) for i, b in zip(position, block, strict=True)]
        part = array.T[tuple(spans)]
        head = struct.pack(f">HH{part.ndim}I", 0, part.ndim, *part.shape)
        chunk = path.joinpath(*map(str, position))
        chunk.parent.mkdir(parents=True, exist_ok=True)
        samples = part.astype(part.dtype.newbyteorder(">")).tobytes(order="F")
        chunk.write_bytes(head + pack(samples))
    add(
        path,
        dimensions=list(sizes),
        blockSize=list(block),
        dataType=str(array.dtype),
        compression=compression or {"type": "raw"},
    )
    return path


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_samples_are_those_of_the_chunks(tmp_path, stored, dtype, packed):
    """Chunks made by hand, by the text of the format: x first, big-endian."""
    array = (ARRAY % 120).astype(dtype)
    pack, kind = (gzip.compress, {"type": "gzip"}) if packed else (bytes, {"type": "raw"})
    path = by_hand(tmp_path / "a.n5", array, (4, 3, 2), pack, kind)
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), array)
        assert source.open_image(0).read_unit == (2, 3, 4)


@pytest.mark.parametrize("kind", ["raw", "gzip", "bzip2", "xz", "zstd", "blosc"])
def test_compressions(tmp_path, stored, kind):
    """Those that tensorstore has."""
    compression = {"type": kind}
    if kind == "blosc":
        compression |= {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}
    path = write(tmp_path / "a.n5", compression=compression)
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)


def test_a_compression_that_is_not_there_is_refused_by_name(tmp_path, stored):
    """As n5-lz4's blocks, or n5-jpeg's."""
    path = write(tmp_path / "a.n5")
    add(path, compression={"type": "lz4", "blockSize": 65536})
    with open_images(stored(path)) as source, pytest.raises(SourceFormatError, match="lz4"):
        source.open_image(0)


def test_a_chunk_that_is_not_there_reads_as_zero(tmp_path, stored):
    """N5 leaves out chunks of zeros."""
    path = write(tmp_path / "a.n5")
    (path / "1/0/2").unlink()
    expected = ARRAY.copy()
    expected[4:6, 0:3, 4:8] = 0
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), expected)
        assert source.open_image(0).chunks == ChunkCount(27, 1)


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"\0\0\0\3" + b"\xff" * 12 + b"\1" * 99])
def test_a_damaged_chunk_is_refused_by_name(tmp_path, stored, content):
    """Empty, cut short, or of a shape that is no chunk's."""
    path = write(tmp_path / "a.n5")
    (path / "1/0/2").write_bytes(content)
    with open_images(stored(path)) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match=r"cannot decode the chunks.*1/0/2"):
            samples.data[:, :, :]
        np.testing.assert_array_equal(samples.data[:2, :3, :4], ARRAY[:2, :3, :4])


@pytest.mark.parametrize("kind", ["modern", "deprecated"])
def test_a_multiscale_group_is_its_full_resolution(kind):
    """Real metadata of n5-viewer, without chunks: sizes in nm; a second is no length."""
    path = sample(f"n5/n5_viewer_multiscale_{kind}")
    with open_images(path) as source:
        (image,) = source.images
        check_described(image, source.open_image(0), np.zeros((20, 10), "u2"))
    assert image.axes == ("y", "x")
    assert image.placement.scale == {"x": 10.0, "y": 20.0}
    assert image.placement.units == {"x": "nanometer"}
    assert "left out: the unit 's' of the axis y, which it does not fit" in notes(image)


@pytest.mark.parametrize("kind", ["modern", "deprecated"])
def test_a_level_of_a_group_has_its_own_size_and_place(kind):
    """Its sample is the mean of 2 x 2, the centre of which is half a sample inside."""
    with open_images(sample(f"n5/n5_viewer_multiscale_{kind}") / "s1") as source:
        (image,) = source.images
    assert image.shape == (10, 5)
    assert image.placement.scale == {"x": 20.0, "y": 40.0}
    assert image.placement.translation == {"x": 5.0, "y": 10.0}


@pytest.mark.parametrize(
    ("attributes", "axes", "scale", "unit"),
    [
        (
            {"pixelResolution": {"unit": "um", "dimensions": [0.1, 0.2, 0.3]}},
            ("z", "y", "x"),
            {"x": 0.1, "y": 0.2, "z": 0.3},
            "micrometer",
        ),
        ({"resolution": [4, 4, 40]}, ("z", "y", "x"), {"x": 4.0, "y": 4.0, "z": 40.0}, None),
        ({"pixelResolution": [4, 0, -1]}, ("z", "y", "x"), {"x": 4.0}, None),
        (
            {"axes": ["x", "y", "t"], "resolution": [4, 4, 5], "units": ["nm", "nm", "s"]},
            ("t", "y", "x"),
            {"x": 4.0, "y": 4.0, "t": 5.0},
            "nanometer",
        ),
        (
            {
                "transform": {
                    "axes": ["z", "y", "x"],
                    "scale": [5.24, 4.0, 3.0],
                    "translate": [1.0, 0.0, 2.0],
                    "units": ["nm", "nm", "nm"],
                }
            },
            ("z", "y", "x"),
            {"x": 3.0, "y": 4.0, "z": 5.24},
            "nanometer",
        ),
        ({}, ("?", "?", "?"), {}, None),
    ],
)
def test_attributes_name_axes_and_sizes(tmp_path, attributes, axes, scale, unit):
    """Of n5-viewer (x first) and of COSEM (z first)."""
    with open_images(write(tmp_path / "a.n5", **attributes)) as source:
        image = source.images[0]
    assert image.axes == axes
    assert image.placement.scale == scale
    assert image.placement.units.get("x") == unit
    if "transform" in attributes:
        assert image.placement.translation == {"z": 1.0, "x": 2.0}


def test_all_datasets_of_a_container_are_found(tmp_path, stored):
    """By their paths; of a multiscale group only the full resolution."""
    root = tmp_path / "a.n5"
    add(root, n5="2.5.0")
    write(root / "raw/deep")
    for level in range(3):
        write(root / f"scaled/s{level}", ARRAY[:: 2**level])
    write(root / "scaled/mask", ARRAY[:2])
    uri = stored(root)
    with open_images(uri) as source:
        assert [image.name for image in source.images] == ["/raw/deep", "/scaled", "/scaled/mask"]
        assert source.main is None
        check_described(source.images[1], source.open_image(1), ARRAY)
        assert source.open_image(1).chunks == ChunkCount(27, 0)
    with open_source(f"{uri}::/scaled/mask") as source:
        np.testing.assert_array_equal(source.image.data[:, :, :], ARRAY[:2])


def test_what_is_no_image_is_left_out_by_name(tmp_path):
    """Texts, tables and empty arrays beside an image."""
    root = tmp_path / "a.n5"
    write(root / "image")
    for name, sizes, kind in (("text", [3, 4], "string"), ("row", [3], "uint8")):
        add(root / name, dimensions=sizes, blockSize=sizes, dataType=kind)
    with open_images(root) as source:
        (image,) = source.images
    assert image.name == "/image"
    assert "/text (samples of type string, which are not numbers)" in notes(image)
    assert "/row (one axis)" in notes(image)


def test_four_axes_keep_what_is_known(tmp_path):
    """The fourth one is without a name."""
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype("u2")
    path = write(tmp_path / "a.n5", array, resolution=[1, 2, 3, 1])
    with open_images(path) as source:
        assert source.images[0].axes == ("?", "z", "y", "x")
        check_described(source.images[0], source.open_image(0), array)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not readable N5 attributes"),
        ("[]", "not a JSON object"),
        ('{"n5": "2.5.0"}', "an N5 folder without an image"),
        ('{"dimensions": [3, 4], "blockSize": [3], "dataType": "uint8"}', "dimensions"),
        ('{"dimensions": [3, 4], "blockSize": [3, 4], "dataType": "string"}', "not numbers"),
        ('{"dimensions": [3, 4], "blockSize": [3, 4], "dataType": "float7"}', "float7"),
        ('{"dimensions": [3, 0], "blockSize": [3, 4], "dataType": "uint8"}', "no samples"),
    ],
)
def test_damaged_attributes_are_refused_in_one_line(tmp_path, stored, document, words):
    """With what is wrong in them."""
    (tmp_path / "a.n5").mkdir()
    (tmp_path / "a.n5/attributes.json").write_text(document)
    with pytest.raises(SourceFormatError, match=words) as caught:
        open_images(stored(tmp_path / "a.n5"))
    assert "\n" not in str(caught.value)


def test_a_changed_chunk_is_another_source(tmp_path):
    """The listing and the decoder are part of the identity."""
    path = write(tmp_path / "a.n5")
    with open_images(path) as source:
        before = source.identity
        assert dict(before.pins)["reader"].startswith("tensorstore ")
    (path / "1/0/2").unlink()
    with open_images(path) as source:
        assert source.identity != before


# --- BigDataViewer -----------------------------------------------------------------------


def test_setups_of_bigdataviewer_are_images(tmp_path, memory):
    """Times along t, sizes from the XML beside the folder, which opens it too."""
    folder = tmp_path / "files"
    bdv(folder / "a.n5", skip={(1, 2)})
    (folder / "a.xml").write_text(
        '<SpimData><BasePath type="relative">.</BasePath><SequenceDescription>'
        '<ImageLoader format="bdv.n5"><n5 type="relative">a.n5</n5></ImageLoader><ViewSetups>'
        "<ViewSetup><id>0</id><name>left</name><voxelSize><unit>um</unit>"
        "<size>0.5 0.25 2</size></voxelSize></ViewSetup></ViewSetups></SequenceDescription>"
        "</SpimData>"
    )
    root = to_memory(folder, memory)
    expected = VIEWS[1].copy()
    expected[2] = 0
    for uri in (folder / "a.n5", folder / "a.xml", f"{root}/a.n5", f"{root}/a.xml"):
        with open_images(uri) as source:
            check_described(source.images[0], source.open_image(0), VIEWS[0])
            check_described(source.images[1], source.open_image(1), expected)
            assert source.open_image(0).read_unit == (1, 2, 3, 4)
            assert source.open_image(0).chunks == ChunkCount(24, 0)
            assert source.images[0].axes == ("t", "z", "y", "x")
            assert source.images[0].placement.scale == {"x": 0.5, "y": 0.25, "z": 2.0}
            assert "at time 2: not in the file, read as 0" in notes(source.images[1])


# --- any cut -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["local", "memory", "bdv"])
def opened(tmp_path_factory, request):
    """An array and the samples of a folder with it, opened once."""
    folder = tmp_path_factory.mktemp("n5")
    if request.param == "bdv":
        path, array = bdv(folder / "a.n5"), VIEWS[0]
    else:
        path, array = write(folder / "a.n5"), ARRAY
    uri = to_memory(path, "memory://sources-n5") if request.param == "memory" else path
    with open_images(uri) as source:
        yield array, source.open_image(0)


@given(data=st.data())
def test_any_box_is_what_numpy_gives(opened, data):
    """Slicing follows numpy's rules for bounds."""
    array, samples = opened
    key = data.draw(st.tuples(*(slices(n) for n in array.shape)))
    np.testing.assert_array_equal(samples.data[key], array[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    array, samples = opened
    hammer(samples, array)
