"""Plans of images of which nothing but their size matters."""

from __future__ import annotations

from typing import Any

from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin


def plan_of(dims: str, shape: tuple[int, ...], dtype: str = "<u2", **options: Any) -> PyramidPlan:
    """A plan of an image of these axes, at scale 1; ``options`` are those of ``make_plan``."""
    zero, one, none = (0.0,) * len(dims), (1.0,) * len(dims), (None,) * len(dims)
    image = ImageInfo(tuple(dims), shape, dtype, one, zero, none)
    return make_plan(SourcePin("array:image"), image, **options)
