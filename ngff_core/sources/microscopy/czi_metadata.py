"""What a CZI file's XML says of its images: sizes, times, scenes, channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ngff_core.model.channels import Channel
from ngff_core.sources.microscopy.vendor import color_of, decimal, micrometers, regular_step

_IMAGE = "./Metadata/Information/Image"
_SCALING = "./Metadata/Scaling/Items/Distance"
_DISPLAY = "./Metadata/DisplaySetting/Channels/Channel"


@dataclass(frozen=True)
class Scene:
    """A scene as the file calls it.

    Attributes
    ----------
    name
        Well and name, such as ``"B2-P1"``; None if the file has neither.
    well
        The well of the plate, such as ``"B2"``.
    """

    name: str | None = None
    well: str | None = None


@dataclass(frozen=True)
class CziMetadata:
    """What the XML says; empty for a file without it.

    Attributes
    ----------
    sizes
        Micrometers between samples, by ``x``, ``y``, ``z``; only those that are positive.
    step
        Seconds between the positions on the axis T, if it is regular.
    irregular
        Shortest and longest step in seconds, where it is not.
    scenes
        By the scene's number.
    channels
        In the order of the axis C.
    shear
        How the planes of a z stack are sheared; None if they are not.
    """

    sizes: dict[str, float]
    step: float | None
    irregular: tuple[float, float] | None
    scenes: dict[int, Scene]
    channels: tuple[Channel, ...]
    shear: str | None


def read_metadata(document: str) -> CziMetadata:
    """Parse the XML of a CZI file."""
    from defusedxml.ElementTree import fromstring

    root: Any = fromstring(document) if document.strip() else fromstring("<ImageDocument/>")
    step, irregular = _times(root)
    shear = (root.findtext(f"{_IMAGE}/Dimensions/Z/ZAxisShear") or "None").strip()
    return CziMetadata(
        sizes=_sizes(root),
        step=step,
        irregular=irregular,
        scenes=_scenes(root),
        channels=_channels(root),
        shear=None if shear == "None" else shear,
    )


def _sizes(root: Any) -> dict[str, float]:
    found = {}
    for distance in root.findall(_SCALING):
        size = micrometers(distance.findtext("Value"))
        axis = str(distance.get("Id")).lower()
        if size is not None and axis in ("x", "y", "z"):
            found[axis] = size
    return found


def _times(root: Any) -> tuple[float | None, tuple[float, float] | None]:
    """The step of time, or the shortest and longest one where they differ."""
    positions = root.find(f"{_IMAGE}/Dimensions/T/Positions")
    if positions is None:
        return None, None
    increment = decimal(positions.findtext("Interval/Increment"))
    if increment is not None and increment > 0:
        return float(increment), None
    offsets = [decimal(text) for text in (positions.findtext("List/Offsets") or "").split()]
    times = [float(value) for value in offsets if value is not None]
    if len(times) < 2 or len(times) < len(offsets):
        return None, None
    step = regular_step(times)
    steps = [later - earlier for earlier, later in pairwise(times)]
    return step, None if step is not None else (min(steps), max(steps))


def _scenes(root: Any) -> dict[int, Scene]:
    found = {}
    for scene in root.findall(f"{_IMAGE}/Dimensions/S/Scenes/Scene"):
        number = decimal(scene.get("Index"))
        shape = scene.find("Shape")
        well = (shape.get("Name") or None) if shape is not None else None
        names = dict.fromkeys(name for name in (well, scene.get("Name")) if name)
        if number is not None:
            found[int(number)] = Scene("-".join(names) or None, well)
    return found


def _channels(root: Any) -> tuple[Channel, ...]:
    """Names and colors; what the image does not say is looked up in the display settings."""
    shown = {each.get("Id"): each for each in root.findall(_DISPLAY)}
    channels = root.findall(f"{_IMAGE}/Dimensions/Channels/Channel")
    return tuple(_channel([each, shown.get(each.get("Id"))]) for each in channels)


def _channel(elements: Sequence[Any]) -> Channel:
    known = [each for each in elements if each is not None]
    names = [each.get("Name") for each in known]
    colors = [color_of(each.findtext("Color")) for each in known]
    return Channel(
        next((name for name in names if name), None),
        next((color for color in colors if color), None),
    )
