"""A user's script with annotations, for `scripts/check-wheel`: checked by mypy and run, both
against the installed wheel. It must not need Prefect."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ngff_core
from ngff_core import (
    BuildReport,
    LevelReport,
    Methods,
    NgffImage,
    NgffMultiscales,
    build_pyramid,
    from_ngff_zarr,
    to_multiscales,
    to_ngff_zarr,
)


def image() -> NgffImage:
    return NgffImage(
        np.arange(64 * 96, dtype="uint16").reshape(64, 96),
        dims=("y", "x"),
        scale={"y": 0.5, "x": 0.5},
        axes_units={"y": "micrometer", "x": "micrometer"},
    )


def built(target: Path) -> list[tuple[int, ...]]:
    report: BuildReport = build_pyramid(
        image(), str(target), method="itkwasm_bin_shrink", scale_factors=[2, 4]
    )
    levels: tuple[LevelReport, ...] = report.levels
    verified: bool = report.verified
    stored: int = sum(level.stored_bytes for level in levels)
    if not (verified and stored > 0 and report.target):
        raise SystemExit(f"not as expected: {report}")
    return [level.shape for level in levels]


def written(target: Path) -> list[tuple[int, ...]]:
    pyramid: NgffMultiscales = to_multiscales(
        image(), scale_factors=[2, 4], method=Methods.ITKWASM_BIN_SHRINK
    )
    to_ngff_zarr(str(target), pyramid, version="0.5")
    return [tuple(level.data.shape) for level in from_ngff_zarr(str(target)).images]


def main() -> None:
    expected = [(64, 96), (32, 48), (16, 24)]
    if built(Path("built.ome.zarr")) != expected or written(Path("written.ome.zarr")) != expected:
        raise SystemExit("shapes are not as expected")
    print(f"ngff_core of {Path(ngff_core.__file__).parent} builds and writes pyramids.")


if __name__ == "__main__":
    main()
