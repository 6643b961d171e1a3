"""Sizes, positions and anatomical directions out of the direction vectors of a file's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.model.orientation import AnatomicalOrientation, AnatomicalOrientationValues
from ngff_core.sources.contract import Note

_TERMS = {
    "L": "right-to-left",
    "R": "left-to-right",
    "P": "anterior-to-posterior",
    "A": "posterior-to-anterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}
"""RFC-4's term of a direction by the side that it leads to."""

OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}

_STRAIGHT = 1e-5
"""Largest part of a direction across a world's axis for which the two count as parallel."""


@dataclass(frozen=True)
class Directions:
    """What direction vectors say of an image's axes.

    Attributes
    ----------
    scale, translation, orientations
        By axis, see `Placement`.
    along
        Number of the world's axis that each image axis is parallel to; empty if any is oblique.
    notes
        What was left out.
    metadata
        The affine, where it says more than the rest.
    """

    scale: Mapping[str, float]
    translation: Mapping[str, float] = field(default_factory=dict)
    orientations: Mapping[str, AnatomicalOrientation] = field(default_factory=dict)
    along: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def from_directions(
    vectors: Mapping[str, Sequence[float]], origin: Sequence[float] | None, sides: str | None
) -> Directions:
    """``vectors`` lead from one sample to the next, by axis, ``origin`` to the first sample.

    ``sides`` are the letters of the sides that the world's axes lead to, such as ``LPS``.
    Positions along an axis are counted in its own direction, which may be the world's reverse.
    """
    lengths = {axis: float(np.linalg.norm(vector)) for axis, vector in vectors.items()}
    scale = {axis: n for axis, n in lengths.items() if n > 0 and np.isfinite(n)}
    along = _parallels(vectors, scale)
    if len(along) < len(vectors):
        affine = {"directions": {a: list(v) for a, v in vectors.items()}}
        if origin is not None:
            affine["origin"] = list(origin)  # type: ignore[assignment]
        text = "directions of the axes, which are oblique, and the position: kept as metadata"
        note = Note("left out", text)
        return Directions(scale, notes=(note,), metadata={"affine": affine})
    forward = {axis: vectors[axis][number] > 0 for axis, number in along.items()}
    translation: dict[str, float] = {}
    if origin is not None and all(np.isfinite(origin)):
        signed = {a: origin[n] if forward[a] else -origin[n] for a, n in along.items()}
        translation = {axis: float(value) for axis, value in signed.items() if value}
    if sides is not None:
        orientations = {a: _orientation(sides[n], forward[a]) for a, n in along.items()}
        return Directions(scale, translation, orientations, along)
    reverse = [axis for axis, ahead in forward.items() if not ahead]
    notes = []
    if reverse:
        text = f"{', '.join(reverse)} counted in the direction of the samples, which is the reverse"
        notes.append(Note("converted", f"positions along {text} of the file's world"))
    return Directions(scale, translation, along=along, notes=tuple(notes))


def _parallels(
    vectors: Mapping[str, Sequence[float]], scale: Mapping[str, float]
) -> dict[str, int]:
    """The world's axis of each image axis; empty unless each has one of its own."""
    found: dict[str, int] = {}
    for axis, length in scale.items():
        parts = np.abs(np.array(vectors[axis], float)) / length
        number = int(parts.argmax())
        if np.delete(parts, number).max(initial=0.0) > _STRAIGHT or number in found.values():
            return {}
        found[axis] = number
    return found


def _orientation(side: str, forward: bool) -> AnatomicalOrientation:
    term = _TERMS[side if forward else OPPOSITE[side]]
    return AnatomicalOrientation(AnatomicalOrientationValues(term))
