"""The group documents of a published pyramid, by the models of ome-zarr-models."""

from __future__ import annotations

import json
from typing import Any, cast

from ngff_core.axes import axis_type
from ngff_core.methods import method_info
from ngff_core.plan import PyramidPlan


def ome_attributes(plan: PyramidPlan) -> dict[str, Any]:
    """The OME-Zarr attributes of the group: validated, as JSON values.

    For 0.5 they belong under the key ``ome``, for 0.4 at the top.
    """
    from ome_zarr_models.v04.image import ImageAttrs as ImageAttrs04
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs as ImageAttrs05
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    multiscale = Multiscale(
        name=plan.image.name,
        type=plan.method,
        metadata=cast(Any, method_info(plan.method).metadata),
        axes=[
            Axis(name=dim, type=axis_type(dim), unit=unit)
            for dim, unit in zip(plan.image.dims, plan.image.units, strict=True)
        ],
        datasets=tuple(
            Dataset.build(
                path=level.path,
                scale=plan.scale_of(level),
                translation=plan.translation_of(level),
            )
            for level in plan.levels
        ),
    )
    if plan.ome_zarr_version == "0.4":
        # Readers tell 0.4 by this field, which the conversion leaves out.
        older = multiscale.to_version("0.4").model_copy(update={"version": "0.4"})
        attributes: Any = ImageAttrs04(multiscales=[older])
    else:
        attributes = ImageAttrs05(version="0.5", multiscales=[multiscale])
    found: dict[str, Any] = json.loads(attributes.model_dump_json(exclude_none=True))
    return found


def group_documents(plan: PyramidPlan) -> dict[str, bytes]:
    """The root group's documents by key, in the order they must be written.

    The last one is what makes the store an image.
    """
    attributes = ome_attributes(plan)
    if plan.zarr_format == 2:
        return {".zgroup": _document({"zarr_format": 2}), ".zattrs": _document(attributes)}
    return {
        "zarr.json": _document(
            {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
        )
    }


def _document(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
