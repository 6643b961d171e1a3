"""OME-Zarr multiscale pyramids, correct to the byte and resumable after anything.

>>> import numpy as np, ngff_core
>>> image = ngff_core.NgffImage(np.zeros((1024, 1024), "uint8"), dims=("y", "x"))
>>> report = ngff_core.build_pyramid(image, "memory://readme/zeros.ome.zarr")
>>> [level.shape for level in report.levels]
[(1024, 1024), (512, 512), (256, 256)]
>>> report.verified
True
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ngff_core.build.api import build_pyramid, check_build
from ngff_core.build.build import Build
from ngff_core.build.planning import PlannedBuild, plan_pyramid
from ngff_core.build.report import BuildReport, BuildStatus, LevelReport
from ngff_core.config import config
from ngff_core.kernels.methods import Methods
from ngff_core.lazy.multiscales import (
    Axis,
    Dataset,
    Identity,
    Metadata,
    Multiscales,
    NgffMultiscales,
    Scale,
    Translation,
)
from ngff_core.lazy.progress import NgffProgress, NgffProgressCallback
from ngff_core.maintain.cleanup import Leftover, clean_build, find_targets
from ngff_core.maintain.repair import Repair, repair_pyramid
from ngff_core.maintain.status import build_status, verify_pyramid
from ngff_core.model.image import NgffImage
from ngff_core.model.orientation import LPS, RAS, AnatomicalOrientation, AnatomicalOrientationValues
from ngff_core.plan.options import BuildOptions
from ngff_core.sources.inspection import InspectedImage, Inspection, inspect_source

if TYPE_CHECKING:
    from ngff_core.lazy.reading import from_ngff_zarr
    from ngff_core.lazy.writing import to_ngff_zarr
    from ngff_core.to_multiscales import to_multiscales, to_ngff_image

__all__ = [
    "LPS",
    "RAS",
    "AnatomicalOrientation",
    "AnatomicalOrientationValues",
    "Axis",
    "Build",
    "BuildOptions",
    "BuildReport",
    "BuildStatus",
    "Dataset",
    "Identity",
    "InspectedImage",
    "Inspection",
    "Leftover",
    "LevelReport",
    "Metadata",
    "Methods",
    "Multiscales",
    "NgffImage",
    "NgffMultiscales",
    "NgffProgress",
    "NgffProgressCallback",
    "PlannedBuild",
    "Repair",
    "Scale",
    "Translation",
    "build_pyramid",
    "build_status",
    "check_build",
    "clean_build",
    "config",
    "find_targets",
    "from_ngff_zarr",
    "inspect_source",
    "plan_pyramid",
    "repair_pyramid",
    "to_multiscales",
    "to_ngff_image",
    "to_ngff_zarr",
    "verify_pyramid",
]

# Importing dask costs nearly a second, so these are imported when they are first asked for.
_LAZY = {
    "from_ngff_zarr": "lazy.reading",
    "to_multiscales": "to_multiscales",
    "to_ngff_image": "to_multiscales",
    "to_ngff_zarr": "lazy.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    setattr(sys.modules[__name__], name, found)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package, in which ``to_multiscales`` is always the function, never its module.

    When Python imports the module, it sets the attribute of that name to the module; this class
    sets it to the function. ``from ngff_core.to_multiscales import …`` works as usual.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "to_multiscales" and isinstance(value, ModuleType):
            value = value.to_multiscales
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
