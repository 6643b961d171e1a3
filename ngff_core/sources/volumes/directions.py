"""Sizes, positions and directions out of the direction vectors of a file's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.sources.affine import place
from ngff_core.sources.contract import Note, Placement

OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
"""The side of a body opposite to one, by their letters."""

_STRAIGHT = 1e-5
"""Largest part of a direction across a world's axis for which the two count as parallel."""


@dataclass(frozen=True)
class Directions:
    """What direction vectors say of an image's axes.

    Attributes
    ----------
    placement
        Without units.
    along
        Number of the world's axis that each image axis is parallel to; empty if any is oblique.
    notes
        What was left out.
    metadata
        The affine, where it says more than the rest.
    """

    placement: Placement = field(default_factory=Placement)
    along: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def from_directions(
    vectors: Mapping[str, Sequence[float]], origin: Sequence[float] | None, sides: str | None
) -> Directions:
    """``vectors`` lead from one sample to the next, by axis, ``origin`` to the first sample.

    ``sides`` are the letters of the sides that the world's axes lead to, such as ``LPS``; None
    for a world that is no body. Positions along an axis are counted in its own direction, which
    may be the world's reverse.
    """
    lengths = {axis: float(np.linalg.norm(vector)) for axis, vector in vectors.items()}
    known = {axis: n for axis, n in lengths.items() if n > 0 and np.isfinite(n)}
    along = _parallels(vectors, known)
    if sides is not None:
        found = place(_in_ras(vectors, origin, sides), list(vectors), None)
        return Directions(found.placement, along, found.notes, found.metadata)
    if len(along) < len(vectors):
        affine = {"directions": {a: list(v) for a, v in vectors.items()}, "origin": origin}
        text = "directions of the axes, which are oblique, and the position: kept as metadata"
        note = Note("left out", text)
        return Directions(Placement(known), notes=(note,), metadata={"affine": affine})
    return _in_world(vectors, origin, known, along)


def _in_world(
    vectors: Mapping[str, Sequence[float]],
    origin: Sequence[float] | None,
    scale: Mapping[str, float],
    along: Mapping[str, int],
) -> Directions:
    """Of axes parallel to those of a world that is no body."""
    forward = {axis: vectors[axis][number] > 0 for axis, number in along.items()}
    translation: dict[str, float] = {}
    if origin is not None and np.isfinite(origin).all():
        signed = {a: origin[n] if forward[a] else -origin[n] for a, n in along.items()}
        translation = {axis: float(value) for axis, value in signed.items() if value}
    reverse = [axis for axis, ahead in forward.items() if not ahead]
    notes = []
    if reverse:
        text = (
            f"{', '.join(reverse)}: counted in the direction of the samples, which is the reverse"
        )
        notes.append(Note("converted", f"positions along {text} of the file's world"))
    return Directions(Placement(scale, translation=translation), along, tuple(notes))


def _in_ras(
    vectors: Mapping[str, Sequence[float]], origin: Sequence[float] | None, sides: str
) -> np.ndarray[Any, Any]:
    """The affine to a world whose axes lead to the right, to the front and up."""
    affine = np.eye(4)
    signs = [1.0 if side in "RAS" else -1.0 for side in sides]
    for column, vector in enumerate([*vectors.values(), origin or (0.0,) * len(sides)]):
        position = column if column < len(vectors) else 3
        affine[:3, position] = 0.0
        affine[: len(vector), position] = [s * v for s, v in zip(signs, vector, strict=False)]
    return affine


def _parallels(
    vectors: Mapping[str, Sequence[float]], lengths: Mapping[str, float]
) -> dict[str, int]:
    """The world's axis of each image axis; empty unless each has one of its own."""
    found: dict[str, int] = {}
    for axis, length in lengths.items():
        parts = np.abs(np.array(vectors[axis], float)) / length
        number = int(parts.argmax())
        if np.delete(parts, number).max(initial=0.0) > _STRAIGHT or number in found.values():
            return {}
        found[axis] = number
    return found
