"""Anatomical orientation of spatial axes (RFC-4): where in a body a coordinate grows to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.model.axes import AXIS_ORDER, SPATIAL


class AnatomicalOrientationValues(StrEnum):
    """The terms of RFC-4, each ``FROM-to-TO`` in the direction of growing coordinates.

    Attributes
    ----------
    value
        The term as text, such as ``"left-to-right"``.

    Examples
    --------
    >>> AnatomicalOrientationValues("left-to-right").name
    'left_to_right'
    """

    left_to_right = "left-to-right"
    right_to_left = "right-to-left"
    anterior_to_posterior = "anterior-to-posterior"
    posterior_to_anterior = "posterior-to-anterior"
    inferior_to_superior = "inferior-to-superior"
    superior_to_inferior = "superior-to-inferior"
    dorsal_to_ventral = "dorsal-to-ventral"
    ventral_to_dorsal = "ventral-to-dorsal"
    dorsal_to_palmar = "dorsal-to-palmar"
    palmar_to_dorsal = "palmar-to-dorsal"
    dorsal_to_plantar = "dorsal-to-plantar"
    plantar_to_dorsal = "plantar-to-dorsal"
    rostral_to_caudal = "rostral-to-caudal"
    caudal_to_rostral = "caudal-to-rostral"
    cranial_to_caudal = "cranial-to-caudal"
    caudal_to_cranial = "caudal-to-cranial"
    proximal_to_distal = "proximal-to-distal"
    distal_to_proximal = "distal-to-proximal"
    superficial_to_deep = "superficial-to-deep"
    deep_to_superficial = "deep-to-superficial"
    apical_to_basal = "apical-to-basal"
    basal_to_apical = "basal-to-apical"
    apex_to_base = "apex-to-base"
    base_to_apex = "base-to-apex"


@dataclass(frozen=True)
class AnatomicalOrientation:
    """The anatomical orientation of one spatial axis.

    Parameters
    ----------
    value
        The term, as a member of `AnatomicalOrientationValues` or as its text.
    type
        Always ``"anatomical"``.

    Raises
    ------
    InvalidOptionError
        The term is not one of RFC-4's. A ValueError.

    Examples
    --------
    >>> AnatomicalOrientation(value="left-to-right").to_dict()
    {'type': 'anatomical', 'value': 'left-to-right'}
    """

    value: AnatomicalOrientationValues
    type: str = "anatomical"

    def __post_init__(self) -> None:
        if self.type != "anatomical":
            raise InvalidOptionError(f"orientation: type {self.type!r} is not 'anatomical'")
        try:
            value = AnatomicalOrientationValues(self.value)
        except ValueError:
            raise InvalidOptionError(
                f"orientation: {self.value!r} is none of {', '.join(AnatomicalOrientationValues)}"
            ) from None
        object.__setattr__(self, "value", value)

    def to_dict(self) -> dict[str, str]:
        """The ``orientation`` of an axis as OME-Zarr metadata has it."""
        return {"type": self.type, "value": str(self.value)}


Orientations = Mapping[str, AnatomicalOrientation]


def _preset(x: str, y: str, z: str) -> dict[str, AnatomicalOrientation]:
    terms = {"x": x, "y": y, "z": z}
    return {
        dim: AnatomicalOrientation(AnatomicalOrientationValues(term)) for dim, term in terms.items()
    }


LPS: Orientations = _preset("right-to-left", "anterior-to-posterior", "inferior-to-superior")
"""Coordinates grow to the left, to the back and up: DICOM and ITK."""

RAS: Orientations = _preset("left-to-right", "posterior-to-anterior", "inferior-to-superior")
"""Coordinates grow to the right, to the front and up: NIfTI and neuroimaging."""

PRESETS: Mapping[str, Orientations] = {"LPS": LPS, "RAS": RAS}


def resolve_orientation(
    orientation: str | Mapping[str, Any], dims: Sequence[str]
) -> dict[str, AnatomicalOrientation]:
    """Orientation by axis of an image with axes ``dims``.

    A preset applies to the spatial axes that the image has. A mapping must name only spatial
    axes of this image. Raises InvalidOptionError, a ValueError, that names what is wrong.
    """
    if isinstance(orientation, str):
        return of_axes(_find_preset(orientation), dims) or {}
    if not isinstance(orientation, Mapping):
        raise InvalidOptionError(
            f"orientation: {orientation!r} is neither {' nor '.join(PRESETS)} nor a mapping "
            "from axis to AnatomicalOrientation"
        )
    absent = [d for d in orientation if d in SPATIAL and d not in dims]
    if absent:
        raise InvalidOptionError(
            f"orientation: {absent[0]!r} is not an axis of this image ({', '.join(dims)})"
        )
    found = of_axes(orientation, dims) or {}
    _check_apart(found)
    return found


def of_axes(
    orientations: Mapping[str, Any] | None, dims: Sequence[str]
) -> dict[str, AnatomicalOrientation] | None:
    """The orientations of those axes that are in ``dims``; None if there are none.

    Other spatial axes are left out, which lets a preset fit a 2-D image.
    """
    for dim in orientations or {}:
        if dim not in AXIS_ORDER:
            raise InvalidOptionError(
                f"orientation: {dim!r} is not an axis; the spatial axes are z, y, x"
            )
        if dim not in SPATIAL:
            raise InvalidOptionError(f"orientation: {dim!r} is not a spatial axis (z, y, x)")
    return {d: _one(o) for d, o in (orientations or {}).items() if d in dims} or None


def _find_preset(name: str) -> Orientations:
    try:
        return PRESETS[name.upper()]
    except KeyError:
        raise InvalidOptionError(
            f"orientation: {name!r} is unknown; the presets are {' and '.join(PRESETS)}"
        ) from None


def _one(value: Any) -> AnatomicalOrientation:
    return value if isinstance(value, AnatomicalOrientation) else AnatomicalOrientation(value)


def _check_apart(orientations: Orientations) -> None:
    """RFC-4: no two axes lie along the same anatomical axis, in either direction."""
    seen: dict[frozenset[str], str] = {}
    for dim, orientation in orientations.items():
        ends = frozenset(orientation.value.split("-to-"))
        if ends in seen:
            raise InvalidOptionError(
                f"orientation: {seen[ends]!r} and {dim!r} lie along the same anatomical axis"
            )
        seen[ends] = dim
