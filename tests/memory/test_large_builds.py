"""The memory limit holds for images far beyond it: measured, each in a process of its own.

``make test-memory`` runs these; they take minutes and disk, so the other tests leave them
out. They print what was measured beside what was projected.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ngff_core import check_build
from ngff_core.errors import MemoryLimitError
from ngff_core.plan.options import BuildOptions
from tests.memory.sources import write_tiff, write_zarr

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="the kernel's own figures"
    ),
]

MIB, GIB = 2**20, 2**30
BIN, GAUSSIAN, LABEL = "itkwasm_bin_shrink", "itkwasm_gaussian", "itkwasm_label_image"


@dataclass(frozen=True)
class Case:
    """An image, the options it is built with, and the disk that takes."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    """Of the source; those of a TIFF are whole planes."""
    limit: str
    method: str = GAUSSIAN
    dtype: str = "u2"
    bits: int = 16
    tiff: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def disk(self) -> int:
        """Bytes that source, cache and pyramid take together at most."""
        raw = math.prod(self.shape) * int(self.dtype[-1])
        share = self.bits / 8 / int(self.dtype[-1])
        cached = 1 if self.options.get("cache") == "always" or self.tiff else 0
        return int(raw * (1.4 + cached) * share * 1.2) + 2**28

    def write(self, folder: Path) -> Path:
        if self.tiff:
            path = folder / "source.ome.tif"
            write_tiff(
                path,
                self.shape,
                rowsperstrip=self.shape[1],
                compression="zlib",
                metadata={"axes": "ZYX"},
            )
            return path
        write_zarr(folder, self.shape, self.chunks, dtype=self.dtype, bits=self.bits)
        return folder / "image"


CUBE = (64, 256, 256)
CASES = [
    *(
        Case(f"{name} {method[8:]} in {limit}", shape, CUBE, limit, method, bits=bits)
        for name, shape, limit, bits in [
            ("1 GiB", (512, 1024, 1024), "1GiB", 16),
            ("4 GiB", (512, 2048, 2048), "1GiB", 16),
            ("4 GiB", (512, 2048, 2048), "2GiB", 16),
            ("16 GiB", (2048, 2048, 2048), "2GiB", 3),
        ]
        for method in (GAUSSIAN, BIN)
    ),
    Case("read back", (512, 1024, 1024), CUBE, "768MiB"),
    Case("labels of 32 bits", (256, 1024, 1024), CUBE, "1GiB", LABEL, "u4", 32),
    Case("5-D", (4, 2, 64, 1024, 1024), (1, 1, 64, 256, 256), "1GiB"),
    Case(
        "5-D, c and t in a chunk",
        (4, 2, 64, 1024, 1024),
        (2, 2, 64, 256, 256),
        "1GiB",
        options={"chunks": {"t": 2, "c": 2}},
    ),
    Case("plane", (24576, 24576), (1024, 1024), "1GiB"),
    Case(
        "plane without shards",
        (24576, 24576),
        (1024, 1024),
        "1GiB",
        options={"ome_zarr_version": "0.4"},
    ),
    Case("large shards", (512, 1024, 1024), CUBE, "2GiB", options={"shards": (256, 512, 512)}),
    Case("source chunks of 128 MiB", (512, 1024, 1024), (64, 1024, 1024), "1GiB"),
    Case(
        "source chunks of 128 MiB, no cache",
        (512, 1024, 1024),
        (64, 1024, 1024),
        "2GiB",
        options={"cache": "never"},
    ),
    Case("TIFF strips of 128 MiB", (6, 8192, 8192), (1, 8192, 8192), "2GiB", bits=4, tiff=True),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest would keep gigabytes for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_build_stays_within_its_memory_limit(case: Case, folder: Path) -> None:
    """Within what was projected, and that within the limit."""
    free = shutil.disk_usage(folder).free
    sys.stdout.write(f"\n{case.name}: up to {case.disk / GIB:.1f} GiB of disk\n")
    if free < case.disk + GIB:
        pytest.skip(f"{case.disk / GIB:.1f} GiB of disk needed, {free / GIB:.1f} free")
    source = case.write(folder)
    options = {"method": case.method, "memory_limit": case.limit, "workers": 2, **case.options}
    command = [sys.executable, "-m", "tests.memory.measure", str(source)]
    command += [str(folder / "out.ome.zarr"), json.dumps(options)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    mib = {name: n / MIB for name, n in found["phases"].items()}
    sys.stdout.write(
        f"  measured {found['peak'] / MIB:.0f} MiB ("
        + ", ".join(f"{name} {n:.0f}" for name, n in mib.items())
        + f"), projected {found['projected'] / MIB:.0f}, limit {found['limit'] / MIB:.0f}\n"
        f"  held {found['held'] / MIB:.0f} of {found['held_projected'] / MIB:.0f}; "
        f"{found['in_flight']} in flight, streamed {found['streamed']}, "
        f"{found['seconds']:.0f} s; regions "
        + ", ".join(f"{n / MIB:.0f}" for n in found["region_bytes"].values())
        + "\n"
    )
    assert found["peak"] <= found["projected"] <= found["limit"]
    assert found["held"] <= found["held_projected"]


def test_shards_that_do_not_fit_are_refused_with_the_numbers(folder: Path) -> None:
    """Before anything is written: how much one of them needs, and what helps."""
    write_zarr(folder, (512, 1024, 1024), CUBE)
    options = BuildOptions(shards=(512, 1024, 1024), memory_limit="1GiB")
    with pytest.raises(
        MemoryLimitError,
        match=r"1024MiB is too little; one region of level-0 .* needs \d{4,}MiB; .*smaller shards",
    ):
        check_build(folder / "image", folder / "out.ome.zarr", options)
    assert not (folder / "out.ome.zarr").exists()
