"""What the caller chooses of a source, and says of it where the file is silent or wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ngff_core.errors import InvalidOptionError, StoredDataError
from ngff_core.model.axes import AXIS_ORDER, check_dims, spatial_dims

ALL = "all"
"""The value of ``series`` that stands for every image of a source."""
ALL_SPATIAL = "space"
"""The key in ``scale`` and ``units`` that stands for every spatial axis the image has."""


@dataclass(frozen=True)
class Selection:
    """The image of a source that is read, and corrections of what the source says of it.

    Attributes
    ----------
    series
        Number (from 0) or name of the image in the source. None: the image that is meant, see
        ``sources.choose``.
    dims
        Names out of t, c, z, y, x for the axes of the image, in the order in which ``inspect``
        shows them. None: as the source names them.
    pick
        One position on an axis that no pyramid can have (``{"h": 3}``), or on any other: only
        that position is read, and the axis is left out.
    scale, units
        Size of a sample, and its UDUNITS name, by axis: they take the place of the source's. The
        key `ALL_SPATIAL` stands for all spatial axes.
    channel_names
        A name for each channel. None: the source's.
    channel_colors
        A color for each channel, as `Channel.color`. None: the source's.
    """

    series: int | str | None = None
    dims: tuple[str, ...] | None = None
    pick: Mapping[str, int] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] | None = None
    channel_colors: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dims is not None:
            check_dims(self.dims, len(self.dims))
        _check_known(self.scale, "scale")
        _check_known(self.units, "units")
        for dim, size in self.scale.items():
            if not 0 < size < float("inf"):
                raise InvalidOptionError(f"scale: {dim}={size} is not a positive size")

    @property
    def reading(self) -> str:
        """The part that decides which samples are read, as JSON; empty if nothing is chosen.

        Kept with a plan, so that the source is opened in the same way again.
        """
        chosen = {"series": self.series, "dims": self.dims, "pick": dict(self.pick)}
        chosen = {name: value for name, value in chosen.items() if value not in (None, {})}
        return json.dumps(chosen, sort_keys=True) if chosen else ""

    @classmethod
    def of_reading(cls, reading: str) -> Selection:
        """The selection that reads the same samples again; the inverse of `reading`."""
        try:
            chosen: dict[str, Any] = json.loads(reading) if reading else {}
            dims = chosen.get("dims")
            return cls(
                chosen.get("series"), None if dims is None else tuple(dims), chosen.get("pick", {})
            )
        except (ValueError, AttributeError, TypeError) as error:
            raise StoredDataError(f"what a plan reads of its source is damaged: {error}") from error


def _check_known(values: Mapping[str, Any], option: str) -> None:
    unknown = [dim for dim in values if dim not in (*AXIS_ORDER, ALL_SPATIAL)]
    if unknown:
        raise InvalidOptionError(
            f"{option}: unknown axis {unknown[0]!r}; the axes are t, c, z, y, x"
        )


def by_axis[T](values: Mapping[str, T], dims: Sequence[str]) -> dict[str, T]:
    """Values by axis, that of `ALL_SPATIAL` given to each spatial axis in ``dims``.

    >>> by_axis({"space": 2.0, "z": 5.0}, "czyx")
    {'z': 5.0, 'y': 2.0, 'x': 2.0}
    """
    common = {d: values[ALL_SPATIAL] for d in spatial_dims(dims) if ALL_SPATIAL in values}
    return common | {dim: value for dim, value in values.items() if dim != ALL_SPATIAL}


def split_dims(text: str | Sequence[str]) -> tuple[str, ...]:
    """Axis names from text with or without commas, or from a sequence of names.

    >>> split_dims("czyx"), split_dims("t, c,y,x")
    (('c', 'z', 'y', 'x'), ('t', 'c', 'y', 'x'))
    """
    if not isinstance(text, str):
        return tuple(text)
    return tuple(part.strip() for part in (text.split(",") if "," in text else text))
