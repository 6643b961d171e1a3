"""The memory limit holds for every kind of file, however its samples are decoded.

Images of some hundred MiB, of one small part repeated; ``make test-memory`` runs these too.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="the kernel's own figures"
    ),
]

MIB = 2**20
LIMIT = "512MiB"
LIMITS = {"czi": "768MiB"}
"""Where one region of the widest level needs more."""

type Write = Callable[[Path], tuple[str, int]]
"""Writes a source into a folder; what to open, relative to it, and the bytes of its samples."""


def noise(*shape: int) -> np.ndarray[Any, Any]:
    """Samples of 16 bits, four of them random: they compress to a third or so."""
    return np.random.default_rng(5).integers(0, 16, shape).astype("u2")


PLANE = (2048, 2048)
COUNT = 80


def tiff(folder: Path) -> tuple[str, int]:
    import tifffile

    plane = noise(*PLANE)
    tifffile.imwrite(
        folder / "a.ome.tif",
        (plane for _ in range(COUNT)),
        shape=(COUNT, *PLANE),
        dtype="u2",
        compression="zlib",
        rowsperstrip=64,
        metadata={"axes": "ZYX"},
    )
    return "a.ome.tif", plane.nbytes * COUNT


def tiff_planes(folder: Path) -> tuple[str, int]:
    """The same in strips of whole planes, large ones: they are decoded at once."""
    import tifffile

    plane = noise(4096, 4096)
    tifffile.imwrite(
        folder / "a.ome.tif",
        (plane for _ in range(16)),
        shape=(16, *plane.shape),
        dtype="u2",
        compression="zlib",
        rowsperstrip=4096,
        metadata={"axes": "ZYX"},
    )
    return "a.ome.tif", plane.nbytes * 16


def czi(folder: Path) -> tuple[str, int]:
    from tests.support.czi_files import ZSTD, Block, Czi, czi_bytes

    tile = noise(1024, 1024)
    blocks = [
        Block(tile, {"X": 1000 * x, "Y": 1000 * y, "C": 0}, ZSTD)
        for y in range(16)
        for x in range(16)
    ]
    (folder / "a.czi").write_bytes(czi_bytes(Czi(blocks)))
    return "a.czi", tile.nbytes * len(blocks)


def joined(folder: Path) -> tuple[str, int]:
    """A file for each plane, as most microscopes can save them."""
    import tifffile

    plane = noise(*PLANE)
    tifffile.imwrite(folder / "plane", plane, compression="zlib", photometric="minisblack")
    (folder / "planes").mkdir()
    for number in range(COUNT):
        os.link(folder / "plane", folder / "planes" / f"z{number:03}.tif")
    return "planes/z{z}.tif", plane.nbytes * COUNT


def dicom(folder: Path) -> tuple[str, int]:
    from tests.support.dicom import at_position, enhanced, save

    frames = np.repeat(noise(1, 1024, 1024), 300, axis=0)
    groups = [at_position(0, 0, 2.5 * n) for n in range(len(frames))]
    save(enhanced(frames, groups), folder / "a.dcm")
    return "a.dcm", frames.nbytes


def dicom_j2k(folder: Path) -> tuple[str, int]:
    import imagecodecs
    from pydicom.uid import JPEG2000Lossless

    from tests.support.dicom import at_position, enhanced, save_compressed

    plane = noise(1024, 1024)
    count = 160
    frame = imagecodecs.jpeg2k_encode(plane, level=0, reversible=True)
    groups = [at_position(0, 0, 2.5 * n) for n in range(count)]
    found = enhanced(np.zeros((count, 1, 1), "u2"), groups, Rows=1024, Columns=1024)
    save_compressed(found, [frame] * count, folder / "a.dcm", JPEG2000Lossless)
    return "a.dcm", plane.nbytes * count


def nifti_gz(folder: Path) -> tuple[str, int]:
    import nibabel

    array = np.repeat(noise(1, 1024, 1024), 200, axis=0)
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0).astype("i2"), np.eye(4))
    with gzip.open(folder / "a.nii.gz", "wb", compresslevel=1) as file:
        file.write(image.to_bytes())
    return "a.nii.gz", array.nbytes


def nrrd_gz(folder: Path) -> tuple[str, int]:
    plane = noise(1024, 1024)
    lines = ["NRRD0004", "type: ushort", "dimension: 3", "sizes: 1024 1024 200", "endian: little"]
    lines += ["encoding: gzip", "space: left-posterior-superior"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)"]
    with open(folder / "a.nrrd", "wb") as out:
        out.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
            for _ in range(200):
                file.write(plane.tobytes())
    return "a.nrrd", plane.nbytes * 200


def mrc(folder: Path) -> tuple[str, int]:
    import mrcfile

    with mrcfile.new_mmap(folder / "a.mrc", (300, 1024, 1024), mrc_mode=6) as file:
        file.data[...] = noise(1, 1024, 1024)
        file.voxel_size = 1.0
    return "a.mrc", 300 * 1024 * 1024 * 2


def hdf5(folder: Path) -> tuple[str, int]:
    import h5py

    cube = noise(64, 512, 512)
    with h5py.File(folder / "a.h5", "w") as file:
        shape = (256, 1024, 1024)
        options = {"chunks": (32, 256, 256), "compression": "gzip", "compression_opts": 1}
        data = file.create_dataset("data", shape, "u2", **options)
        data.attrs["DIMENSION_LABELS"] = ["z", "y", "x"]
        for z, y, x in np.ndindex(4, 2, 2):
            data[z * 64 : z * 64 + 64, y * 512 : y * 512 + 512, x * 512 : x * 512 + 512] = cube
    return "a.h5", 2 * 256 * 1024 * 1024


def zarr_larger(folder: Path) -> tuple[str, int]:
    """Chunks that reach far beyond the array, as a resize leaves them."""
    import zarr

    shape, chunks = (6, 4096, 4096), (4, 2048, 2816)
    array: Any = zarr.create_array(
        folder / "a.zarr", shape=shape, chunks=chunks, dtype="u2", dimension_names=list("zyx")
    )
    array[...] = np.broadcast_to(noise(1, 4096, 4096), shape)
    return "a.zarr", 2 * 6 * 4096 * 4096


WRITERS: tuple[Write, ...] = (
    tiff,
    tiff_planes,
    czi,
    joined,
    dicom,
    dicom_j2k,
    nifti_gz,
    nrrd_gz,
    mrc,
    hdf5,
    zarr_larger,
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest would keep gigabytes for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.filterwarnings("ignore:Setting the dtype on:DeprecationWarning")
def test_a_file_of_any_kind_stays_within_the_limit(write: Write, folder: Path) -> None:
    """Within what was projected, and that within the limit."""
    name, nbytes = write(folder)
    limit = LIMITS.get(write.__name__, LIMIT)
    options = {"method": "itkwasm_bin_shrink", "memory_limit": limit, "workers": 2}
    command = [sys.executable, "-m", "tests.memory.measure", str(folder / name)]
    command += [str(folder / "out.ome.zarr"), json.dumps(options)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    phases = ", ".join(f"{phase} {n / MIB:.0f}" for phase, n in found["phases"].items())
    sys.stdout.write(
        f"\n| {write.__name__} | {nbytes / MIB:.0f} | {found['projected'] / MIB:.0f} | "
        f"{found['peak'] / MIB:.0f} ({phases}) | {found['in_flight']} | "
        f"{found['seconds']:.0f} s |\n"
    )
    assert found["peak"] <= found["projected"] <= found["limit"]
