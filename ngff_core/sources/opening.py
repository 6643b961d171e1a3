"""From the images of a source and what the caller chooses to one opened image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.model.axes import AXIS_ORDER, SPATIAL, canonical_order
from ngff_core.model.channels import Channel
from ngff_core.model.image import NgffImage, in_canonical_order
from ngff_core.model.selection import Selection, by_axis
from ngff_core.sources.base import About, PickedArray, Source
from ngff_core.sources.choose import choose_image, note_others
from ngff_core.sources.contract import ImageDescription, Note, Placement, SourceImages
from ngff_core.sources.endings import name_from_uri
from ngff_core.sources.naming import NamedAxes, name_axes


def open_chosen(source: SourceImages, selection: Selection) -> Source:
    """The image that ``selection`` chooses, with the caller's corrections.

    Closing it closes ``source``. Raises `SourceFormatError` or `InvalidOptionError` for an image
    or axes that cannot be told; ``source`` stays open then.
    """
    uri = source.identity.uri
    number = choose_image(source, selection.series)
    described = source.images[number]
    axes = name_axes(described, selection, uri)
    placement, changed = _placement(described, axes, selection)
    channels, renamed = _channels(described, axes, selection)
    if source.kind != "array":
        _check_sizes(placement, uri)
    samples = source.open_image(number)
    data = samples.data
    if len(axes.keep) < len(described.axes):
        data = PickedArray(data, axes.keep, axes.start)
    image = NgffImage(
        data=data,
        dims=axes.dims,
        scale=placement.scale,
        translation=placement.translation,
        name=_name(described, uri if source.kind != "array" else ""),
        axes_units=placement.units or None,
        axes_orientations=placement.orientations,
    )
    notes = (*described.notes, *axes.notes, *changed, *renamed, *_unknown_sizes(image, placement))
    about = About(
        format=source.format,
        series=(number, len(source.images)),
        described=described,
        channels=channels,
        notes=(*note_others(source, number), *notes),
        reading=_reading(source, number, selection),
    )
    order = canonical_order(image.dims)
    unit = [samples.read_unit[i] for i in axes.keep]
    return Source(
        image=in_canonical_order(image),
        identity=samples.identity or source.identity,
        read_unit=tuple(unit[i] for i in order),
        kind=source.kind,
        _close=source.close,
        chunks=samples.chunks,
        about=about,
    )


def _name(described: ImageDescription, uri: str) -> str:
    """The name that the source gives, else that of its file, else ``image``."""
    found = (described.name or "").strip() or name_from_uri(uri) or "image"
    # File names may have bytes that are no text, which no metadata document can hold.
    return found.encode("utf-8", "replace").decode()


def _reading(source: SourceImages, number: int, selection: Selection) -> str:
    """How to open the same samples again, whatever another version would choose by default."""
    series = number if len(source.images) > 1 else None
    return replace(selection, series=series).reading


def _placement(
    described: ImageDescription, axes: NamedAxes, selection: Selection
) -> tuple[Placement, tuple[Note, ...]]:
    """Sizes and positions by the names that the axes have now, the caller's taking precedence."""
    names = {described.axes[i]: dim for i, dim in zip(axes.keep, axes.dims, strict=True)}
    found = described.placement

    def renamed[T](values: Mapping[str, T]) -> dict[str, T]:
        return {names[name]: value for name, value in values.items() if name in names}

    scale, units = renamed(found.scale), renamed(found.units)
    given_scale = by_axis(selection.scale, axes.dims)
    given_units = by_axis(selection.units, axes.dims)
    for option, given in (("scale", given_scale), ("units", given_units)):
        absent = [dim for dim in given if dim not in axes.dims]
        if absent:
            raise InvalidOptionError(
                f"{option}: the image has no axis {absent[0]!r}; it has {', '.join(axes.dims)}"
            )
    notes = (
        *_overruled("size of a sample", scale, given_scale),
        *_overruled("unit", units, given_units),
    )
    orientations = {d: o for d, o in renamed(found.orientations).items() if d in SPATIAL}
    return Placement(
        {**scale, **given_scale},
        {**units, **given_units},
        renamed(found.translation),
        orientations,
    ), notes


def _check_sizes(placement: Placement, uri: str) -> None:
    """Raise `SourceFormatError` for a size that no pyramid can have, such as a flipped axis's."""
    for dim, size in placement.scale.items():
        if not 0 < size < float("inf"):
            raise SourceFormatError(
                f"{uri}: the size of a sample along {dim} is {size}, which is not a positive "
                f"number; give the size with scale (--scale {dim}=…), and the samples are read "
                "in the order in which they are stored"
            )


def _overruled(what: str, found: Mapping[str, object], given: Mapping[str, object]) -> list[Note]:
    return [
        Note("overruled", f"the source's {what} along {dim}, {found[dim]}, is given as {value}")
        for dim, value in given.items()
        if dim in found and found[dim] != value
    ]


def _channels(
    described: ImageDescription, axes: NamedAxes, selection: Selection
) -> tuple[tuple[Channel, ...], tuple[Note, ...]]:
    count = described.shape[axes.keep[axes.dims.index("c")]] if "c" in axes.dims else 1
    channels = _of_axis(described, axes)
    names, colors = selection.channel_names, selection.channel_colors
    for option, given in (("channel_names", names), ("channel_colors", colors)):
        if given is not None and len(given) != count:
            raise InvalidOptionError(f"{option}: {len(given)} of them for {count} channels")
    found = channels or (Channel(),) * count
    named = found if names is None else tuple(map(_named, found, names))
    colored = named if colors is None else tuple(map(_colored, named, colors))
    notes = (
        *_changed("names", [(a.name, b.name) for a, b in zip(found, colored, strict=True)]),
        *_changed("colors", [(a.color, b.color) for a, b in zip(found, colored, strict=True)]),
    )
    return (channels if names is None and colors is None else colored), notes


def _named(channel: Channel, name: str) -> Channel:
    return replace(channel, name=name)


def _colored(channel: Channel, color: str) -> Channel:
    return replace(channel, color=color)


def _changed(what: str, pairs: Sequence[tuple[str | None, str | None]]) -> tuple[Note, ...]:
    changed = [f"{old!r} is given as {new!r}" for old, new in pairs if old not in (None, new)]
    return (Note("overruled", f"{what} of channels: {'; '.join(changed)}"),) if changed else ()


def _of_axis(described: ImageDescription, axes: NamedAxes) -> tuple[Channel, ...]:
    """The channels that are left: all, or the one at which the axis c was picked."""
    channels = described.channels
    if "c" not in described.axes:
        # An image without the axis may still say what its only channel is.
        return channels if len(channels) == 1 and "c" not in axes.dims else ()
    index = described.axes.index("c")
    if index in axes.keep:
        kept = axes.dims[axes.keep.index(index)] == "c"
        return channels if kept else ()
    return channels[axes.start[index] : axes.start[index] + 1]


def _unknown_sizes(image: NgffImage, placement: Placement) -> Sequence[Note]:
    """That a size is written that nobody knows."""
    lengths = dict(zip(image.dims, image.data.shape, strict=True))
    unknown = [
        dim
        for dim in AXIS_ORDER
        if dim in lengths and dim not in placement.scale and (dim in SPATIAL or lengths[dim] > 1)
    ]
    unknown = [dim for dim in unknown if dim != "c"]
    if not unknown:
        return ()
    text = (
        f"the size of a sample along {', '.join(unknown)}: 1 without a unit is written; "
        f"scale and units (--scale {unknown[-1]}=…) say otherwise"
    )
    return (Note("unknown", text),)
