"""Damaged files of every format: read as described, or refused in one line; bombs cost nothing.

`make fuzz` judges many more; docs/bad_input.md says what is promised.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import check_build
from ngff_core.errors import MemoryLimitError, SourceFormatError
from ngff_core.plan.options import BuildOptions
from ngff_core.sources import open_images, open_source
from ngff_core.sources.codestreams import check_claimed, claimed_shape
from ngff_core.sources.ome_zarr.bounded_codecs import with_bounds
from tests.support.judging import Verdict, judge
from tests.support.mutations import mutate
from tests.support.readers import read_all
from tests.support.seed_files import MAKERS, Seed, make

EACH = 6
"""Mutants of each format."""
MIB = 2**20


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Verdict]]:
    """How the mutants of each format ended; formats whose samples are absent are left out."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel's own figures are needed")
    seeds: list[Seed] = []
    for name in MAKERS:
        try:
            seeds.append(make(name, tmp_path_factory.mktemp(name)))
        except pytest.skip.Exception:
            continue
    found: dict[str, list[Verdict]] = {}
    for verdict in judge([(seed, n) for n in range(EACH) for seed in seeds], workers=2):
        found.setdefault(verdict.seed, []).append(verdict)
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_are_read_or_refused(name: str, verdicts: dict[str, list[Verdict]]) -> None:
    """In bounded time and memory, without a crash, by one error of one line."""
    if name not in verdicts:
        pytest.skip("its sample file is not there")
    assert len(verdicts[name]) == EACH
    failed = [each for each in verdicts[name] if each.outcome == "failed"]
    assert not failed, "\n".join(f"{each.number} ({each.how}): {each.text}" for each in failed)


def test_a_mutant_is_made_again_by_its_number(tmp_path: Path) -> None:
    """Or nobody could look into a failure."""
    seed = make("npy", tmp_path)
    assert mutate(seed, 3) == mutate(seed, 3)
    assert len({mutate(seed, n).seed.files["a.npy"] for n in range(50)}) > 40


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """What runs inside takes no more memory of Python and numpy than that, at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()


# --- what unpacks to more than it should -------------------------------------------------


def _zarr(path: Path, zarr_format: Any, chunks: tuple[int, ...], shape: Any, **options: Any) -> Any:
    import zarr

    array: Any = zarr.create_array(
        path, shape=shape, chunks=chunks, dtype="u1", zarr_format=zarr_format, **options
    )
    array[...] = 1
    return array


def _names(codecs: Any) -> str:
    # Not their repr, whose order of fields differs between processes.
    return "+".join(type(c).__name__ for c in (codecs if isinstance(codecs, list) else [codecs]))


def _compressors() -> list[Any]:
    import numcodecs
    import zarr.codecs as v3

    return [
        *((2, codec()) for codec in (numcodecs.Zlib, numcodecs.GZip, numcodecs.BZ2)),
        *((2, codec()) for codec in (numcodecs.LZMA, numcodecs.LZ4, numcodecs.Zstd)),
        (2, numcodecs.Blosc()),
        *((3, codec()) for codec in (v3.GzipCodec, v3.ZstdCodec, v3.BloscCodec)),
        (3, [v3.GzipCodec(), v3.Crc32cCodec()]),
    ]


@pytest.mark.parametrize("made", _compressors(), ids=lambda made: f"v{made[0]}-{_names(made[1])}")
def test_a_chunk_that_unpacks_to_too_much_is_refused(tmp_path: Path, made: Any) -> None:
    """With the numbers, and without the memory that it would take: 32 MiB here."""
    zarr_format, compressor = made
    array = _zarr(tmp_path / "a", zarr_format, (64, 64), (64, 64), compressors=compressor)
    honest = open_source(tmp_path / "a")
    assert (np.asarray(honest.image.data[0:64, 0:64]) == 1).all()
    large = (32, 1024, 1024)
    _zarr(tmp_path / "large", zarr_format, large, large, compressors=compressor)
    inner = ("0.0", "0.0.0") if zarr_format == 2 else ("c/0/0", "c/0/0/0")
    packed = (tmp_path / "large" / inner[1]).read_bytes()
    (tmp_path / "a" / inner[0]).write_bytes(packed)
    del array
    refusal = pytest.raises(SourceFormatError, match="unpacks to more than the 4096 of its samples")
    # A decoder of LZMA has a dictionary of 8 MiB.
    with at_most(12 * MIB), refusal:
        open_source(tmp_path / "a").image.data[0:64, 0:64]


def test_codecs_inside_shards_are_bounded_too(tmp_path: Path) -> None:
    """An array with its bounds reads as before, and says that its codecs are the same."""
    array = _zarr(tmp_path / "a", 3, (8, 8), (32, 32), shards=(16, 16))
    bounded = with_bounds(array)
    np.testing.assert_array_equal(bounded[...], array[...])
    assert "_BoundedV3" in repr(bounded.metadata.codecs)
    assert [c.to_dict() for c in bounded.metadata.codecs] == [
        c.to_dict() for c in array.metadata.codecs
    ]


def test_a_blosc_chunk_that_is_cut_is_refused(tmp_path: Path) -> None:
    """c-blosc believes the header, and reads on behind the end."""
    import numcodecs

    _zarr(tmp_path / "a", 2, (64, 64), (64, 64), compressors=numcodecs.Blosc())
    chunk = tmp_path / "a" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(SourceFormatError, match=r"truncated: .* bytes of a chunk of blosc"):
        open_source(tmp_path / "a").image.data[0:64, 0:64]


def test_a_chunk_larger_than_its_array_meets_the_memory_limit(tmp_path: Path) -> None:
    """As a resized array has it: the chunk counts whole, and the build is refused."""
    import zarr

    options: dict[str, Any] = {"dtype": "u1", "dimension_names": list("zyx")}
    zarr.create_array(tmp_path / "a", shape=(4, 1024, 1024), chunks=(512, 1024, 1024), **options)
    assert open_source(tmp_path / "a").read_unit == (512, 1024, 1024)
    limit = BuildOptions(memory_limit="512MiB")
    with pytest.raises(MemoryLimitError, match="memory_limit: 512MiB is too little"):
        check_build(tmp_path / "a", tmp_path / "out", limit)


def test_a_large_chunk_of_hdf5_meets_the_memory_limit(tmp_path: Path) -> None:
    """Its dataset may grow, so its chunk may be larger than what is there."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape, chunks = (16, 64, 64), (512, 1024, 1024)
        options = {"maxshape": (None, None, None), "dtype": "u1", "compression": "gzip"}
        file.create_dataset("data", shape=shape, chunks=chunks, **options)
    with open_images(tmp_path / "a.h5") as images:
        assert images.open_image(0).read_unit == (512, 1024, 1024)


def test_a_strip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    """tifffile gives the decoder the room of one strip."""
    import tifffile

    packed = zlib.compress(bytes(32 * MIB))
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter([packed]),
        shape=(64, 64),
        dtype="u1",
        compression="zlib",
        rowsperstrip=64,
        photometric="minisblack",
    )
    with (
        at_most(8 * MIB),
        open_images(tmp_path / "a.tif") as images,
        pytest.raises(SourceFormatError, match="cannot decode the box"),
    ):
        read_all(images.open_image(0))


def test_a_tile_whose_picture_claims_more_is_refused(tmp_path: Path) -> None:
    """A picture of 1200 x 1200 in place of a tile of 16 x 16."""
    import tifffile

    imagecodecs = pytest.importorskip("imagecodecs")
    large = imagecodecs.jpeg_encode(np.zeros((1200, 1200, 3), "u1"))
    small = imagecodecs.jpeg_encode(np.zeros((16, 16, 3), "u1"))
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter([small, large]),
        shape=(16, 32, 3),
        dtype="u1",
        photometric="rgb",
        tile=(16, 16),
        compression="jpeg",
    )
    with open_images(tmp_path / "a.tif") as images:
        samples = images.open_image(0)
        with pytest.raises(SourceFormatError, match="claims 1200 x 1200 x 3 samples"):
            read_all(samples)


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGBaseline8Bit", "JPEGLSLossless"])
def test_a_frame_whose_picture_claims_more_is_refused(tmp_path: Path, syntax: str) -> None:
    """By its header, before it is decoded."""
    imagecodecs = pytest.importorskip("imagecodecs")
    uid = pytest.importorskip("pydicom.uid")
    from tests.support.dicom import dataset, save_compressed

    encode = {"JPEG2": imagecodecs.jpeg2k_encode, "JPEGB": imagecodecs.jpeg_encode}
    frame = encode.get(syntax[:5], imagecodecs.jpegls_encode)(np.zeros((300, 300), "u1"))
    found = dataset(np.zeros((16, 16), "u1"))
    save_compressed(found, [frame], tmp_path / "a.dcm", getattr(uid, syntax))
    with (
        open_images(tmp_path / "a.dcm") as images,
        pytest.raises(SourceFormatError, match="claims 300 x 300 x 1 samples, where 256"),
    ):
        read_all(images.open_image(0))


@pytest.mark.parametrize("name", ["jpeg", "jpegls", "jpeg2k", "jpegxr"])
def test_the_size_that_a_picture_claims(name: str) -> None:
    """Of gray and of color."""
    imagecodecs = pytest.importorskip("imagecodecs")
    for shape in ((20, 31), (20, 31, 3)):
        data = getattr(imagecodecs, f"{name}_encode")(np.zeros(shape, "u1"))
        claimed = claimed_shape(data)
        assert claimed is not None
        assert claimed[:2] == (20, 31)
        assert claimed[2:] in ((), (shape[2] if len(shape) == 3 else 1,))
        check_claimed(data, 20 * 31 * 3)
        with pytest.raises(ValueError, match="claims 20 x 31"):
            check_claimed(data, 20 * 31 - 1)
        assert claimed_shape(data[:8]) is None
    assert claimed_shape(b"no picture at all") is None


@pytest.mark.parametrize("name", ["nifti", "mrc", "nrrd", "metaimage", "npy", "mgh"])
def test_a_header_that_promises_terabytes_is_refused(name: str, tmp_path: Path) -> None:
    """By arithmetic, with both numbers."""
    seed = make(name, tmp_path)
    changes = {
        "npy": (b"(3, 20, 24)", b"(3, 9999999999, 24)"),
        "nrrd": (b"24 20 3", b"24 20 99999999999"),
        "metaimage": (b"24 20 3", b"24 20 99999999999"),
        "nifti": (np.array([3, 24, 20], "<i2").tobytes(), np.array([3, 32000, 32000], "<i2")),
        "mgh": (np.array([24, 20], ">i4").tobytes(), np.array([2**30, 2**30], ">i4")),
        "mrc": (np.array([24, 20], "<i4").tobytes(), np.array([2**30, 2**30], "<i4")),
    }
    old, new = changes[name]
    path = tmp_path / seed.entry
    data = path.read_bytes()
    assert old in data
    changed = data.replace(old, bytes(new), 1)
    if name == "npy":
        # The header keeps its length: its padding gives way.
        changed = changed.replace(b" " * (len(new) - len(old)) + b"\n", b"\n", 1)
    path.write_bytes(changed)
    with at_most(8 * MIB), pytest.raises(SourceFormatError, match=r"truncated|bytes"):
        open_source(path)


# --- messages ----------------------------------------------------------------------------


def test_texts_of_files_do_not_break_the_line(tmp_path: Path) -> None:
    """Line breaks and control characters out of a file, and texts without end."""
    error = SourceFormatError("a.tif: bad:\n  two\x07lines " + "long " * 1000 + "end")
    text = str(error)
    assert text.isprintable()
    assert text.startswith("a.tif: bad: two\\x07lines")
    assert text.endswith("end")
    assert len(text) < 2100


def test_deep_json_is_refused(tmp_path: Path) -> None:
    """Python's parser has a limit, which is no crash."""
    (tmp_path / "a").mkdir()
    depth = sys.getrecursionlimit() * 100
    (tmp_path / "a" / "zarr.json").write_text("[" * depth)
    with pytest.raises(SourceFormatError, match="not readable as JSON"):
        open_source(tmp_path / "a")
    (tmp_path / "a" / "zarr.json").write_text(json.dumps([1]))
    with pytest.raises(SourceFormatError, match="expected a JSON object"):
        open_source(tmp_path / "a")
