"""Rules for axes: their names, their order, and which are spatial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ngff_core.errors import InvalidOptionError

AXIS_ORDER: tuple[str, ...] = ("t", "c", "z", "y", "x")
SPATIAL: tuple[str, ...] = ("z", "y", "x")

_DEFAULT_DIMS: Mapping[int, tuple[str, ...]] = {
    1: ("x",),
    2: ("y", "x"),
    3: ("z", "y", "x"),
    4: ("z", "y", "x", "c"),
    5: ("t", "z", "y", "x", "c"),
}
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def default_dims(ndim: int) -> tuple[str, ...]:
    """Axis names of an array that has none of its own.

    >>> default_dims(3)
    ('z', 'y', 'x')
    """
    try:
        return _DEFAULT_DIMS[ndim]
    except KeyError:
        raise InvalidOptionError(
            f"an array of {ndim} dimensions has no default axis names; "
            "give dims, a sequence of names out of t, c, z, y, x"
        ) from None


def check_dims(dims: Sequence[str], ndim: int) -> tuple[str, ...]:
    """``dims`` as a tuple of ``ndim`` different axis names, one of them at least spatial.

    Raises InvalidOptionError, a ValueError, where they are not that.
    """
    dims = tuple(dims)
    unknown = [d for d in dims if d not in AXIS_ORDER]
    if unknown:
        raise InvalidOptionError(f"unknown axis {unknown[0]!r}; the axes are t, c, z, y, x")
    if len(set(dims)) != len(dims):
        raise InvalidOptionError(f"axes {dims} name one axis twice")
    if len(dims) != ndim:
        raise InvalidOptionError(f"{len(dims)} axis names {dims} for an array of {ndim} dimensions")
    if not spatial_dims(dims):
        raise InvalidOptionError(f"axes {dims} have no spatial axis (z, y, x)")
    return dims


def spatial_dims(dims: Sequence[str]) -> tuple[str, ...]:
    """The spatial axes of ``dims``, in their order there."""
    return tuple(d for d in dims if d in SPATIAL)


def axis_type(dim: str) -> str:
    """OME-Zarr's type of an axis: ``time``, ``channel`` or ``space``."""
    return _TYPES[dim]


def canonical_order(dims: Sequence[str]) -> tuple[int, ...]:
    """The permutation that brings ``dims`` into t, c, z, y, x order.

    >>> canonical_order(("y", "x", "c"))
    (2, 0, 1)
    """
    return tuple(sorted(range(len(dims)), key=lambda i: AXIS_ORDER.index(dims[i])))


def is_sound_name(name: str) -> bool:
    """Whether an array may have that name in a folder with zarr's own documents."""
    return (
        0 < len(name.encode()) <= 200
        and "/" not in name
        and name.isprintable()
        and not name.startswith(".")
        and name != "zarr.json"
    )
