"""Sizes, position, times, channels and name of an OME-TIFF's image, from its OME-XML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ngff_core.model.channels import Channel
from ngff_core.sources.contract import Note, Placement
from ngff_core.sources.tiff.meaning import (
    Meaning,
    color_samples,
    hex_color,
    placed,
    sized,
    text_or_none,
    with_channels,
)
from ngff_core.sources.tiff.ome_xml import Measure, OmeChannel, OmeImage, OmePlane
from ngff_core.sources.units import Quantity, convert, duration, length

_ORIGIN = "OME-XML"
_REGULAR = 0.01
"""Largest spread of time steps, relative to their mean, that makes them one number."""
_STILL = 0.05
"""Largest movement between planes, in sizes of a sample, that counts as none."""
_SCHEMA_COLOR = 0xFFFFFFFF
"""White, the schema's default: it says nothing."""


def ome_meaning(image: OmeImage, channels: int | None = None) -> Meaning:
    """What OME-XML says of an image with so many ``channels``; by default as many as it says."""
    meaning = _with_times(_sizes(image), image)
    meaning = _with_position(meaning, image)
    count = image.pixels.shape.get("c", 1) if channels is None else channels
    meaning = with_channels(meaning, _channels(image.channels), count, _ORIGIN)
    name = text_or_none(image.name)
    if name is None:
        return meaning
    return replace(meaning, name=name, origins={**meaning.origins, "name": _ORIGIN})


# --- sizes and times -------------------------------------------------------------------


def _sizes(image: OmeImage) -> Meaning:
    """Physical sizes; a size in a unit that is no length (``pixel``) is unknown."""
    found = {axis: length(m.value, m.unit) for axis, m in image.pixels.sizes.items() if axis != "t"}
    increment = image.pixels.sizes.get("t")
    found["t"] = None if increment is None else duration(increment.value, increment.unit)
    known = {a: q for a, q in found.items() if q is not None and q.unit is not None}
    meaning = sized(known, _ORIGIN)
    meaningless = [
        f"{axis} {q.value:g} {q.given!r}"
        for axis, q in found.items()
        if q is not None and q.unit is None and q.value > 0
    ]
    if not meaningless:
        return meaning
    text = f"sizes of a sample in no unit of length or time: {', '.join(meaningless)}"
    return replace(meaning, notes=(*meaning.notes, Note("unknown", text)))


def _with_times(meaning: Meaning, image: OmeImage) -> Meaning:
    """The time step from the planes' times, where the image gives none."""
    if "t" in meaning.placement.scale or image.pixels.shape.get("t", 1) < 2:
        return meaning
    times = _times(image.pixels.planes)
    steps = [after - before for before, after in pairwise(times)]
    if not steps or not any(steps):
        return meaning
    mean = sum(steps) / len(steps)
    if min(steps) <= 0 or max(steps) - min(steps) > _REGULAR * mean:
        text = (
            f"the time between frames is not regular: {min(steps):.6g} to {max(steps):.6g} "
            "second; scale (--scale t=…) gives one"
        )
        return replace(meaning, notes=(*meaning.notes, Note("unknown", text)))
    placement = meaning.placement
    # All steps alike: the first has no rounding of a mean.
    step = steps[0] if len(set(steps)) == 1 else mean
    return replace(
        meaning,
        placement=Placement({**placement.scale, "t": step}, {**placement.units, "t": "second"}),
        origins={"scale": _ORIGIN, "units": _ORIGIN, **meaning.origins},
    )


def _times(planes: Sequence[OmePlane]) -> list[float]:
    """Seconds of the frames' first planes, in the order of frames; empty if some are unknown."""
    first: dict[int, OmePlane] = {}
    for plane in sorted(planes, key=lambda p: (p.t, p.c, p.z)):
        first.setdefault(plane.t, plane)
    times = [_seconds(plane.delta_t) for plane in first.values()]
    frames = list(first)
    if None in times or frames != list(range(len(frames))):
        return []
    return [time for time in times if time is not None]


def _seconds(measure: Measure | None) -> float | None:
    found = None if measure is None else duration(measure.value, measure.unit)
    if found is None or found.unit is None:
        return None
    return convert(found.value, found.unit, "second")


# --- position --------------------------------------------------------------------------


def _with_position(meaning: Meaning, image: OmeImage) -> Meaning:
    """The stage's position at the first plane, where its unit is a length."""
    planes = sorted((p for p in image.pixels.planes if p.position), key=lambda p: (p.t, p.c, p.z))
    if not planes:
        return meaning
    found = {axis: length(m.value, m.unit) for axis, m in planes[0].position.items()}
    known = {a: q for a, q in found.items() if q is not None and q.unit is not None}
    notes = _unusable(found)
    falling = "z" in known and _falls(planes, image.pixels.shape.get("z", 1))
    if falling:
        del known["z"]
        text = "positions along z: they decrease from plane to plane, which a pyramid cannot say"
        notes = (*notes, Note("left out", text))
    if not any(q.value for q in known.values()):
        # Zeros are what writers put that know no position.
        return replace(meaning, notes=(*meaning.notes, *notes))
    meaning = placed(meaning, known, f"{_ORIGIN} (stage)")
    moved = meaning.placement.translation
    if moved:
        text = (
            f"the first sample lies at the stage's position ({', '.join(sorted(moved))}), as the "
            "file gives it for the first plane; it may be that of the field's centre"
        )
        notes = (*notes, Note("assumed", text), *_movements(planes, meaning.placement))
    return replace(meaning, notes=(*meaning.notes, *notes))


def _unusable(found: Mapping[str, Quantity | None]) -> tuple[Note, ...]:
    lost = [
        f"{axis} {q.value:g}"
        for axis, q in found.items()
        if q is not None and q.unit is None and q.value != 0
    ]
    if not lost:
        return ()
    units = sorted({repr(q.given) for q in found.values() if q is not None and q.unit is None})
    text = f"the stage's position ({', '.join(lost)}): its unit {', '.join(units)} is no length"
    return (Note("left out", text),)


def _falls(planes: Sequence[OmePlane], depth: int) -> bool:
    """Whether positions along z decrease through the stack of the first frame and channel."""
    first = planes[0]
    stack = [
        p.position["z"] for p in planes if (p.t, p.c) == (first.t, first.c) and "z" in p.position
    ]
    return depth > 1 and len(stack) > 1 and stack[-1].value < stack[0].value


def _movements(planes: Sequence[OmePlane], placement: Placement) -> tuple[Note, ...]:
    """That planes were recorded elsewhere than the first plane and the sizes say."""
    moved = []
    for axis, start in placement.translation.items():
        unit, step = placement.units[axis], placement.scale[axis]
        found = [(plane, _in(plane.position.get(axis), unit)) for plane in planes]
        # Some writers give every plane of a stack the position of the first.
        offsets = [
            min(abs(value - start), abs(value - start - step * (plane.z if axis == "z" else 0)))
            for plane, value in found
            if value is not None
        ]
        if max(offsets, default=0.0) > _STILL * step:
            moved.append(f"{axis} by {max(offsets):.6g} {unit}")
    if not moved:
        return ()
    text = f"planes lie elsewhere than the first one says: {', '.join(moved)}; the first is taken"
    return (Note("left out", text),)


def _in(measure: Measure | None, unit: str) -> float | None:
    found = None if measure is None else length(measure.value, measure.unit)
    if found is None or found.unit is None:
        return None
    return convert(found.value, found.unit, unit)


# --- channels --------------------------------------------------------------------------


def _channels(channels: Sequence[OmeChannel]) -> tuple[Channel, ...]:
    """One for each sample of each channel, the samples of a channel one after another."""
    several = len(channels) > 1
    found: list[Channel] = []
    for number, channel in enumerate(channels):
        name = _name(channel)
        if channel.samples == 1:
            found.append(Channel(name, _color(channel.color)))
        else:
            before = name or f"channel {number}"
            found.extend(color_samples(before if several else None, channel.samples))
    return tuple(found)


def _name(channel: OmeChannel) -> str | None:
    name = text_or_none(channel.name)
    if name is None and channel.emission is not None and channel.emission.value > 0:
        return f"{channel.emission.value:g} {channel.emission.unit}"
    return name


def _color(color: int | None) -> str | None:
    if color is None or color == _SCHEMA_COLOR:
        return None
    return hex_color(color >> 24, color >> 16 & 0xFF, color >> 8 & 0xFF)
