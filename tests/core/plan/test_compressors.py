"""Compressors as users spell them, and checksums that let no flipped bit through."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from ngff_core.errors import InvalidOptionError
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR, Compressor

SPELLINGS = [
    "none",
    "zstd:-7",
    "zstd:0",
    "zstd:3",
    "zstd:22",
    "gzip:0",
    "gzip:9",
    *(
        f"blosc:{codec}:{level}:{shuffle}"
        for codec in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for level, shuffle in ((0, "noshuffle"), (1, "shuffle"), (9, "bitshuffle"))
    ),
]
SAMPLES = np.random.default_rng(0).normal(500, 40, (32, 48)).astype("uint16")


def stored(spelling: str, zarr_format: int, shards: tuple[int, ...] | None = None) -> MemoryStore:
    """An array in memory, compressed as ``spelling`` says."""
    compressor = Compressor.parse(spelling)
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=SAMPLES.shape,
        chunks=(16, 16),
        shards=shards,
        dtype=SAMPLES.dtype,
        compressors=compressor.v3_codecs() if zarr_format == 3 else compressor.v2_compressor(),
        zarr_format=zarr_format,  # type: ignore[arg-type]
    )
    array[:] = SAMPLES
    return store


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_reads_back_as_itself(spelling: str) -> None:
    """What a plan or report prints can be given again."""
    parsed = Compressor.parse(spelling)
    assert str(parsed) == spelling
    assert Compressor.parse(str(parsed)) == Compressor.parse(parsed) == parsed


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_samples_come_back_as_they_went_in(spelling: str, zarr_format: int) -> None:
    """With every compressor, in zarr v2 and v3."""
    array = zarr.open_array(stored(spelling, zarr_format), mode="r")
    np.testing.assert_array_equal(array[:], SAMPLES)


def test_what_was_asked_for_is_what_is_stored() -> None:
    """Codec, level and shuffle reach the array's metadata."""
    codec = Compressor.parse("blosc:lz4:5:shuffle").v3_codecs()[0].to_dict()["configuration"]
    assert (codec["cname"], codec["clevel"], codec["shuffle"]) == ("lz4", 5, "shuffle")
    older = Compressor.parse("blosc:zstd:1:bitshuffle").v2_compressor().get_config()
    assert (older["id"], older["cname"], older["clevel"], older["shuffle"]) == (
        "blosc",
        "zstd",
        1,
        2,
    )
    assert Compressor.parse("gzip:5").v2_compressor().get_config() == {"id": "gzip", "level": 5}
    assert Compressor.parse("none").v2_compressor() is None


@pytest.mark.parametrize("spelling", [" Blosc:ZSTD:1:BitShuffle ", "BLOSC:zstd:1:bitshuffle"])
def test_case_and_blanks_do_not_matter(spelling: str) -> None:
    """Nor does it make another plan."""
    assert str(Compressor.parse(spelling)) == DEFAULT_COMPRESSOR


@pytest.mark.parametrize(
    "spelling",
    ["", "zip", "zstd", "none:1", "blosc", "blosc:zstd", "blosc:zstd:1", "blosc:lzma:1:shuffle",
     "blosc:zstd:1:byteshuffle", "blosc:zstd:1:shuffle:2", 3],
)  # fmt: skip
def test_an_unknown_compressor_is_an_error_with_the_forms(spelling: Any) -> None:
    """The message quotes what was given and shows how each is spelled."""
    with pytest.raises(InvalidOptionError) as caught:
        Compressor.parse(spelling)
    message = str(caught.value)
    assert repr(spelling) in message
    assert all(form in message for form in ("blosc:CODEC:LEVEL:SHUFFLE", "zstd:", "gzip:", "none"))


@pytest.mark.parametrize(
    ("spelling", "levels"),
    [
        ("zstd:23", "-7 to 22"),
        ("zstd:-8", "-7 to 22"),
        ("zstd:fast", "-7 to 22"),
        ("gzip:10", "0 to 9"),
        ("gzip:-1", "0 to 9"),
        ("gzip:1.5", "0 to 9"),
        ("blosc:zstd:10:shuffle", "0 to 9"),
        ("blosc:zstd::shuffle", "0 to 9"),
    ],
)
def test_a_level_out_of_range_is_an_error_with_the_range(spelling: str, levels: str) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidOptionError, match=levels):
        Compressor.parse(spelling)


@pytest.mark.parametrize("shards", [None, (32, 32)], ids=["chunks", "shards"])
@pytest.mark.parametrize("spelling", [DEFAULT_COMPRESSOR, "none", "zstd:3"])
def test_no_flipped_bit_passes_for_a_sample(spelling: str, shards: tuple[int, ...] | None) -> None:
    """One bit anywhere in a stored object of zarr v3, and reading it is an error."""
    store = stored(spelling, 3, shards)
    array = zarr.open_array(store, mode="r")
    buffer = store._store_dict["c/0/0"]
    whole = buffer.to_bytes()
    bits = random.Random(7).sample(range(8 * len(whole)), 150)
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        store._store_dict["c/0/0"] = default_buffer_prototype().buffer.from_bytes(bytes(damaged))
        with pytest.raises(ValueError, match=r"(?i)checksum|crc"):
            array[:32, :32]
    store._store_dict["c/0/0"] = buffer
    np.testing.assert_array_equal(array[:], SAMPLES)
