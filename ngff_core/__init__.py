"""OME-Zarr multiscale pyramids, correct to the byte and resumable after anything.

>>> import numpy as np, ngff_core
>>> image = ngff_core.NgffImage(np.zeros((1024, 1024), "uint8"), dims=("y", "x"))
>>> report = ngff_core.build_pyramid(image, "memory://readme/zeros.ome.zarr")
>>> [level.shape for level in report.levels]
[(1024, 1024), (512, 512), (256, 256)]
>>> report.verified
True
"""

from ngff_core.build import (
    Build,
    build_pyramid,
    build_status,
    check_build,
    verify_pyramid,
)
from ngff_core.config import config
from ngff_core.image import NgffImage
from ngff_core.methods import Methods
from ngff_core.options import BuildOptions
from ngff_core.planning import PlannedBuild, plan_pyramid
from ngff_core.report import BuildReport, BuildStatus, LevelReport

__all__ = [
    "Build",
    "BuildOptions",
    "BuildReport",
    "BuildStatus",
    "LevelReport",
    "Methods",
    "NgffImage",
    "PlannedBuild",
    "build_pyramid",
    "build_status",
    "check_build",
    "config",
    "plan_pyramid",
    "verify_pyramid",
]
