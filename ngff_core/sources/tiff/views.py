"""Lazy views of a TIFF's samples: turned, with colors in place of indices, with one channel axis.

Each step knows three things: the axes, shape and dtype it makes of others (`Form`), the box that
is decoded at once behind it, and the array itself. Nothing is read before the array is sliced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np

from ngff_core.blocks import ArrayLike, Block
from ngff_core.geometry import Shape
from ngff_core.model.image import TransposedArray
from ngff_core.sources.base import PickedArray
from ngff_core.sources.tiff.axes import SAMPLES


@dataclass(frozen=True)
class Form:
    """Names of axes, lengths and dtype of an array."""

    axes: tuple[str, ...]
    shape: Shape
    dtype: np.dtype[Any]


class Step(Protocol):
    """One step from the samples as they are stored to those that are given."""

    def form(self, form: Form) -> Form:
        """What the step makes of an array of this form."""

    def unit(self, form: Form, unit: Shape) -> Shape:
        """What the step makes of the box that is decoded at once; ``form`` is before the step."""

    def view(self, form: Form, array: ArrayLike) -> ArrayLike:
        """The array behind the step; ``form`` is that of ``array``."""


def final_form(form: Form, steps: Sequence[Step]) -> Form:
    """What ``steps`` make of an array of this form."""
    return reduce(lambda made, step: step.form(made), steps, form)


def final_view(
    form: Form, array: ArrayLike, unit: Shape, steps: Sequence[Step]
) -> tuple[ArrayLike, Shape]:
    """The array behind ``steps``, and the box of it that is decoded at once."""
    for step in steps:
        array, unit = step.view(form, array), step.unit(form, unit)
        form = step.form(form)
    return array, unit


# --- axes of length 1 ------------------------------------------------------------------


@dataclass(frozen=True)
class Squeeze:
    """Leaves out axes of length 1 other than y and x."""

    def form(self, form: Form) -> Form:
        keep = _kept(form)
        return Form(
            tuple(form.axes[i] for i in keep), tuple(form.shape[i] for i in keep), form.dtype
        )

    def unit(self, form: Form, unit: Shape) -> Shape:
        return tuple(unit[i] for i in _kept(form))

    def view(self, form: Form, array: ArrayLike) -> ArrayLike:
        keep = _kept(form)
        return (
            array
            if len(keep) == len(form.axes)
            else PickedArray(array, keep, (0,) * len(form.axes))
        )


def _kept(form: Form) -> tuple[int, ...]:
    return tuple(
        i
        for i, (axis, length) in enumerate(zip(form.axes, form.shape, strict=True))
        if axis in ("y", "x") or length > 1
    )


# --- channels --------------------------------------------------------------------------


@dataclass(frozen=True)
class JoinChannels:
    """Makes one axis ``c`` of the channels and the samples of each: c0s0, c0s1, …, c1s0, …"""

    def form(self, form: Form) -> Form:
        if SAMPLES not in form.axes:
            return form
        if "c" not in form.axes:
            axes = tuple("c" if axis == SAMPLES else axis for axis in form.axes)
            return Form(axes, form.shape, form.dtype)
        samples = form.axes.index(SAMPLES)
        lengths = [
            n * (form.shape[samples] if a == "c" else 1)
            for a, n in zip(form.axes, form.shape, strict=True)
        ]
        return Form(_without(form.axes, samples), _without(tuple(lengths), samples), form.dtype)

    def unit(self, form: Form, unit: Shape) -> Shape:
        if SAMPLES not in form.axes or "c" not in form.axes:
            return unit
        samples, channels = form.axes.index(SAMPLES), form.axes.index("c")
        # One channel with some of its samples, or several channels with all of theirs.
        lengths = list(unit)
        lengths[channels] = unit[channels] * unit[samples]
        return _without(tuple(lengths), samples)

    def view(self, form: Form, array: ArrayLike) -> ArrayLike:
        if SAMPLES not in form.axes or "c" not in form.axes:
            return array
        return JoinedArray(array, form.axes.index("c"), form.axes.index(SAMPLES))


def _without[T](values: tuple[T, ...], index: int) -> tuple[T, ...]:
    return values[:index] + values[index + 1 :]


@dataclass(frozen=True, eq=False)
class JoinedArray:
    """A view of an array with its axis ``inner`` joined to its axis ``outer``."""

    array: ArrayLike
    outer: int
    inner: int

    @property
    def shape(self) -> Shape:
        lengths = list(self.array.shape)
        lengths[self.outer] *= lengths[self.inner]
        return _without(tuple(lengths), self.inner)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        # Where the joined axis is in the result.
        at = self.outer - (self.inner < self.outer)
        start, stop = key[at].start, key[at].stop
        per = self.array.shape[self.inner]
        first, last = start // per, math.ceil(stop / per)
        box = list(key)
        box[at] = slice(first, last)
        # Of a single channel only the samples that are asked for are read.
        alone = last - first == 1
        part = slice(start - first * per, stop - first * per) if alone else slice(0, per)
        box.insert(self.inner, part)
        found = np.asarray(self.array[tuple(box)])
        found = np.moveaxis(found, self.inner, at + 1)
        length = found.shape[at] * found.shape[at + 1]
        joined = found.reshape(*found.shape[:at], length, *found.shape[at + 2 :])
        if alone:
            return joined
        cut = slice(start - first * per, stop - first * per)
        return joined[(slice(None),) * at + (cut,)]


# --- orientation -----------------------------------------------------------------------

_TURNS = {
    2: (False, ("x",)),
    3: (False, ("y", "x")),
    4: (False, ("y",)),
    5: (True, ()),
    6: (True, ("x",)),
    7: (True, ("y", "x")),
    8: (True, ("y",)),
}
"""By value of the Orientation tag: whether y and x change places, and what is reversed then."""


@dataclass(frozen=True)
class Orient:
    """Turns and mirrors an image so that its first row is the top and its first column the left."""

    value: int
    """Of the Orientation tag, 2 to 8."""

    @property
    def swaps(self) -> bool:
        """Whether y and x change places."""
        return _TURNS[self.value][0]

    @property
    def reverses(self) -> tuple[str, ...]:
        """Axes of the result whose index grows against that of the stored samples."""
        return _TURNS[self.value][1]

    def form(self, form: Form) -> Form:
        order = self._order(form)
        return Form(form.axes, tuple(form.shape[i] for i in order), form.dtype)

    def unit(self, form: Form, unit: Shape) -> Shape:
        return tuple(unit[i] for i in self._order(form))

    def view(self, form: Form, array: ArrayLike) -> ArrayLike:
        turned = TransposedArray(array, self._order(form)) if self.swaps else array
        axes = tuple(form.axes.index(axis) for axis in self.reverses)
        return ReversedArray(turned, axes) if axes else turned

    def _order(self, form: Form) -> tuple[int, ...]:
        order = list(range(len(form.axes)))
        if self.swaps:
            y, x = form.axes.index("y"), form.axes.index("x")
            order[y], order[x] = x, y
        return tuple(order)


@dataclass(frozen=True, eq=False)
class ReversedArray:
    """A view of an array with some axes reversed."""

    array: ArrayLike
    axes: tuple[int, ...]

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        box, turn = list(key), [slice(None)] * len(key)
        for axis in self.axes:
            length = self.array.shape[axis]
            box[axis] = slice(length - key[axis].stop, length - key[axis].start)
            turn[axis] = slice(None, None, -1)
        return np.asarray(self.array[tuple(box)])[tuple(turn)]


# --- palettes --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Expand:
    """Gives the colors of a table in place of the indices that are stored."""

    table: Block
    """One row for each index, with three columns; or one value for each index."""

    def form(self, form: Form) -> Form:
        colors = self.table.shape[1:]
        axes = (*form.axes, SAMPLES) if colors else form.axes
        return Form(axes, (*form.shape, *colors), self.table.dtype)

    def unit(self, form: Form, unit: Shape) -> Shape:  # noqa: ARG002 - a step's signature
        return (*unit, *self.table.shape[1:])

    def view(self, form: Form, array: ArrayLike) -> ArrayLike:  # noqa: ARG002 - a step's signature
        return ExpandedArray(array, self.table)


@dataclass(frozen=True, eq=False)
class ExpandedArray:
    """A view of an array of indices as what a table holds for them."""

    array: ArrayLike
    table: Block

    @property
    def shape(self) -> Shape:
        return (*self.array.shape, *self.table.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.table.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        inner = len(self.array.shape)
        # Samples of one bit are booleans, which as an index would be a mask.
        indices = np.asarray(self.array[key[:inner]]).astype(np.intp)
        return self.table[(slice(None), *key[inner:])][indices]
