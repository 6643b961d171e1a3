"""What an affine of medical images says of the axes of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.model.orientation import AnatomicalOrientation, AnatomicalOrientationValues
from ngff_core.sources.contract import Note, Placement

_TERMS = (
    ("right-to-left", "left-to-right"),
    ("anterior-to-posterior", "posterior-to-anterior"),
    ("superior-to-inferior", "inferior-to-superior"),
)
"""For each coordinate of RAS: the direction in which it falls, and that in which it grows."""

_NEAREST = math.cos(math.radians(45))
_ALONG = math.cos(math.radians(0.1))
"""Cosines of the angles to an anatomical axis, up to which an axis of the array is said to lie
nearest to it, and to lie along it."""


@dataclass(frozen=True)
class Geometry:
    """Sizes, positions and directions, with what must be said of them."""

    placement: Placement
    notes: tuple[Note, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def place(affine: np.ndarray[Any, Any], axes: Sequence[str], unit: str | None) -> Geometry:
    """What ``affine`` says of ``axes``, whose indices are its columns.

    ``affine`` is 4 x 4 and gives the centre of a sample in RAS coordinates, which grow to the
    right, to the front and up. The scale is the length of a column. The orientation names where an
    index grows to, so the translation is the position of the first sample along that direction:
    with x from right to left and the first sample 90 mm right of the origin, it is -90 mm. An axis
    that lies oblique has the orientation of the anatomical axis within 45 degrees of it, and its
    translation is along its own direction; the affine is kept in the metadata, and this is noted.
    """
    if not np.isfinite(affine).all():
        return Geometry(Placement(), (Note("unknown", "positions: the affine is not finite"),))
    columns, origin = affine[:3, : len(axes)], affine[:3, 3]
    sizes = np.linalg.norm(columns, axis=0)
    known = [i for i in range(len(axes)) if sizes[i] > 0]
    directions = {axes[i]: columns[:, i] / sizes[i] for i in known}
    scale = {axes[i]: float(_short(sizes[i])) for i in known}
    orientations, oblique = _orientations(directions)
    placement = Placement(
        scale=scale,
        units=dict.fromkeys(scale, unit) if unit else {},
        translation={axis: float(_short(d @ origin)) for axis, d in directions.items()},
        orientations=orientations,
    )
    notes: tuple[Note, ...] = ()
    if oblique:
        text = (
            f"the axes {', '.join(oblique)} lie oblique in the body: their directions are those of "
            "the nearest anatomical axes, and the affine is kept in the metadata only"
        )
        notes = (Note("left out", text),)
    whole = {"affine": affine.tolist(), "affine_space": "RAS"}
    return Geometry(placement, notes, whole if len(known) == len(axes) else {})


def _orientations(
    directions: dict[str, np.ndarray[Any, Any]],
) -> tuple[dict[str, AnatomicalOrientation], list[str]]:
    """The anatomical direction of each axis, and the axes that lie along none of them exactly."""
    found, oblique = {}, []
    for axis, direction in directions.items():
        nearest = int(np.abs(direction).argmax())
        cosine = float(direction[nearest])
        if abs(cosine) < _ALONG:
            oblique.append(axis)
        if abs(cosine) > _NEAREST:
            term = AnatomicalOrientationValues(_TERMS[nearest][cosine > 0])
            found[axis] = AnatomicalOrientation(term)
    if len({frozenset(o.value.split("-to-")) for o in found.values()}) < len(found):
        # Only of a sheared affine: two axes within 45 degrees of the same direction.
        return {}, oblique
    return found, oblique


def _short(value: Any) -> float:
    """Without the digits that single precision and square roots leave: 2.0 for 1.99999998."""
    return float(f"{float(value):.7g}") + 0.0
