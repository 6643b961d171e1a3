"""What becomes of the axes of an image: the one place where a reader's names are judged.

A pyramid has the axes t, c, z, y, x. Where a file names no axes, two and three of them get the
documented default, which is noted; four and more are refused until they are named. An axis that
is something else (a spectrum, a detector, a tile) is never taken for z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import AXIS_ORDER, default_dims, spatial_dims
from ngff_core.model.selection import Selection
from ngff_core.sources.contract import UNNAMED, ImageDescription, Note

_MOST_ASSUMED = 3
"""Axes of an image that are named by default where its file names none."""


@dataclass(frozen=True)
class NamedAxes:
    """Which axes of the stored samples are kept, and their names.

    Attributes
    ----------
    keep
        Indices of the kept axes, in the stored order.
    dims
        Their names, in the same order.
    start
        For every stored axis the position that is read where the axis is not kept; else 0.
    notes
        What was assumed, overruled or left out.
    """

    keep: tuple[int, ...]
    dims: tuple[str, ...]
    start: tuple[int, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class _Axis:
    index: int
    name: str
    length: int


def name_axes(image: ImageDescription, selection: Selection, uri: str) -> NamedAxes:
    """Names for the axes of an image, by the file, the caller and the documented defaults.

    Axes of length 1 that are none of t, c, z, y, x are dropped. Raises `SourceFormatError` for
    axes that nobody names, `InvalidOptionError` for names that do not fit.
    """
    axes = [
        _Axis(*each) for each in zip(range(len(image.axes)), image.axes, image.shape, strict=True)
    ]
    axes, start, notes = _pick(axes, selection, uri)
    axes = _without_empty(axes)
    if selection.dims is not None:
        dims = _given(axes, selection.dims, uri)
        notes += _overruled(axes, dims)
    else:
        dims, assumed = _found(axes, uri)
        notes += assumed
    _check(axes, dims, uri)
    return NamedAxes(tuple(axis.index for axis in axes), dims, start, notes)


def _pick(
    axes: list[_Axis], selection: Selection, uri: str
) -> tuple[list[_Axis], Shape, tuple[Note, ...]]:
    """The axes of which no single position was chosen, and the positions."""
    start = [0] * len(axes)
    notes: tuple[Note, ...] = ()
    for name, position in selection.pick.items():
        found = [axis for axis in axes if axis.name == name]
        if len(found) != 1:
            raise InvalidOptionError(f"pick: {uri} has no axis {name!r}; it has {_show(axes)}")
        (axis,) = found
        if not 0 <= position < axis.length:
            raise InvalidOptionError(
                f"pick: {name}={position} is not one of its positions 0 to {axis.length - 1}"
            )
        start[axis.index] = position
        axes = [each for each in axes if each is not axis]
        text = f"all positions on the axis {name} but {position}, of {axis.length}"
        notes += (Note("left out", text),) if axis.length > 1 else ()
    return axes, tuple(start), notes


def _without_empty(axes: list[_Axis]) -> list[_Axis]:
    """Without axes of length 1 that mean nothing here, unless no axis has a name at all."""
    if all(axis.name == UNNAMED for axis in axes):
        return axes
    return [axis for axis in axes if axis.name in AXIS_ORDER or axis.length > 1]


def _given(axes: Sequence[_Axis], dims: tuple[str, ...], uri: str) -> tuple[str, ...]:
    if len(dims) != len(axes):
        raise InvalidOptionError(
            f"dims: {len(dims)} names for the {len(axes)} axes of {uri}: {_show(axes)}"
        )
    return dims


def _overruled(axes: Sequence[_Axis], dims: tuple[str, ...]) -> tuple[Note, ...]:
    changed = [
        f"the axis {axis.name} of {axis.length} is read as {dim}"
        for axis, dim in zip(axes, dims, strict=True)
        if axis.name not in (UNNAMED, dim)
    ]
    return (Note("overruled", "; ".join(changed)),) if changed else ()


def _found(axes: Sequence[_Axis], uri: str) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    names = tuple(axis.name for axis in axes)
    others = [axis for axis in axes if axis.name not in (*AXIS_ORDER, UNNAMED)]
    if others:
        raise SourceFormatError(_other_meaning(others[0], axes, uri))
    if UNNAMED not in names:
        return names, ()
    if len(names) > _MOST_ASSUMED:
        raise SourceFormatError(
            f"{uri}: the file does not name its axes ({_show(axes)}); say what they are with dims, "
            f"such as --dims {_example(names)}"
        )
    dims = _assumed(names)
    if dims is None:
        raise SourceFormatError(
            f"{uri}: cannot tell what the axis without a name is ({_show(axes)}); say what the "
            "axes are with dims, such as --dims tyx"
        )
    text = (
        f"the file does not name all axes: {_show(axes)} is read as {', '.join(dims)}; "
        "dims (--dims) says otherwise"
    )
    return dims, (Note("assumed", text),)


def _assumed(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The documented default: x, yx, zyx; one axis without a name beside y and x is z."""
    if all(name == UNNAMED for name in names):
        return default_dims(len(names))
    if names.count(UNNAMED) == 1 and set(names) == {UNNAMED, "y", "x"}:
        return tuple("z" if name == UNNAMED else name for name in names)
    return None


def _other_meaning(axis: _Axis, axes: Sequence[_Axis], uri: str) -> str:
    rest = tuple(each.name for each in axes if each is not axis)
    known = all(name in AXIS_ORDER for name in rest)
    free = next((dim for dim in ("c", "t", "z") if dim not in rest), None)
    if free is not None and known and axis.name != "sample":
        names = (free if each is axis else each.name for each in axes)
        example = f"name it ({'--dims ' + ','.join(names)})"
    else:
        example = "name it with dims (--dims)"
    return (
        f"{uri}: the axis {axis.name!r} of length {axis.length} is none of t, c, z, y, x "
        f"({_show(axes)}); {example}, or choose one position (--pick {axis.name}=0)"
    )


def _check(axes: Sequence[_Axis], dims: tuple[str, ...], uri: str) -> None:
    if len(set(dims)) != len(dims):
        raise SourceFormatError(
            f"{uri}: the axes {_show(axes)} name one axis twice; "
            "say what they are with dims (--dims)"
        )
    if not spatial_dims(dims):
        raise SourceFormatError(
            f"{uri}: the axes {_show(axes)} have no spatial axis (z, y, x); "
            "say what they are with dims (--dims)"
        )


def _example(names: Sequence[str]) -> str:
    """Names for all axes: those that the file gives stay, the others are the usual ones.

    >>> _example(["?", "y", "x", "c"]), _example(["?"] * 4)
    ('tyxc', 'czyx')
    """
    if all(name == UNNAMED for name in names):
        return {4: "czyx", 5: "tczyx"}.get(len(names), "tczyx together with --pick")
    free = [dim for dim in ("t", "c", "z", "y", "x") if dim not in names]
    given = [free.pop(0) if name == UNNAMED and free else name for name in names]
    return "".join(given) if UNNAMED not in given else "tczyx together with --pick"


def _show(axes: Sequence[_Axis]) -> str:
    return ", ".join(f"{axis.name} {axis.length}" for axis in axes)
