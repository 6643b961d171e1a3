"""The demonstration: builds a published pyramid from a photograph.

The picture is the retina that comes with scikit-image (1411 by 1411 pixels, three colours),
written once as an OME-TIFF in strips, as many instruments do.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

import ngff_core
from ngff_core import BuildOptions, BuildReport, build_status
from ngff_core.errors import TargetNotFoundError
from ngff_core.kernels.methods import warm
from ngff_flows.cli.run_flow import run_flow
from ngff_flows.cli.terminal import show_report

UPLOAD = Path("demo/uploads/retina.ome.tif")
TARGET = Path("demo/published/retina.ome.zarr")


def write_upload(path: Path) -> None:
    """Write the picture as an OME-TIFF; an interrupted write leaves nothing at ``path``."""
    import tifffile
    from PIL import Image

    with Image.open(str(files("skimage") / "data" / "retina.jpg")) as picture:
        pixels = np.asarray(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    tifffile.imwrite(
        partial, pixels, ome=True, photometric="rgb", compression="zlib", metadata={"axes": "YXS"}
    )
    partial.replace(path)


def main() -> None:
    """Build the demonstration's pyramid, unless it is finished."""
    if not UPLOAD.exists():
        print("Writing the upload", UPLOAD, flush=True)
        write_upload(UPLOAD)
    report = _finished() or _build()
    show_report(report)
    print("Look at it:  make look")


def _finished() -> BuildReport | None:
    """The report of a finished build, without waiting for Prefect to start."""
    try:
        if not build_status(TARGET).finished:
            return None
    except TargetNotFoundError:
        return None
    print(TARGET, "is finished already")
    return ngff_core.build_pyramid(UPLOAD, TARGET)


def _build() -> BuildReport:
    print("Compiling the kernels, or loading them from an earlier run", flush=True)
    warm()
    print("Building", TARGET, "with the flow build-pyramid")
    print("(the first time Prefect sets up its database, which takes half a minute)", flush=True)
    report, _ = run_flow(str(UPLOAD), str(TARGET), BuildOptions())
    return report


if __name__ == "__main__":
    main()
