"""What is in a source, for people: its images, where each value comes from, what is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ngff_core.errors import CallerError
from ngff_core.model.selection import Selection
from ngff_core.sources.choose import choose_image
from ngff_core.sources.contract import ImageDescription, SourceImages
from ngff_core.sources.detect import open_images, split_inside
from ngff_core.sources.naming import name_axes
from ngff_core.storage import StorageOptions


@dataclass(frozen=True)
class InspectedImage:
    """One image of a source, and what a build would make of it.

    Attributes
    ----------
    number
        What ``series`` calls it.
    description
        What the source says of it.
    dims
        Axes that a build would write, in the order stored; empty where it would refuse.
    refusal
        Why a build of this image would be refused; None where it would not.
    """

    number: int
    description: ImageDescription
    dims: tuple[str, ...]
    refusal: str | None

    def to_dict(self) -> dict[str, Any]:
        """The image as JSON values."""
        described = self.description
        placement = described.placement
        return {
            "series": self.number,
            "name": described.name,
            "role": described.role,
            "axes": described.axes,
            "shape": described.shape,
            "dtype": described.dtype,
            "dims": self.dims,
            "scale": dict(placement.scale),
            "units": dict(placement.units),
            "translation": dict(placement.translation),
            "orientations": {d: str(o.value) for d, o in placement.orientations.items()},
            "channels": [asdict(channel) for channel in described.channels],
            "labels": described.labels,
            "origins": dict(described.origins),
            "notes": [asdict(note) for note in described.notes],
            "metadata": dict(described.metadata),
            "refusal": self.refusal,
        }


@dataclass(frozen=True)
class Inspection:
    """The images of a source.

    Attributes
    ----------
    source
        Path or URI.
    format
        The format in words.
    images
        All images, in the order of the source.
    default
        Number of the image that a build takes unasked; None where one must be chosen.
    reason
        Why none is taken unasked; None where one is.
    pins
        What identifies the content: sizes, versions, digests and the decoder.

    Examples
    --------
    >>> import numpy as np
    >>> found = inspect_source(np.zeros((3, 64, 64), "uint8"))
    >>> found.images[0].dims, found.default
    (('z', 'y', 'x'), 0)
    """

    source: str
    format: str
    images: tuple[InspectedImage, ...]
    default: int | None
    reason: str | None
    pins: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """The inspection as JSON values."""
        return {
            "source": self.source,
            "format": self.format,
            "default": self.default,
            "reason": self.reason,
            "images": [image.to_dict() for image in self.images],
            "pins": dict(self.pins),
        }


def inspect_source(source: Any, storage_options: StorageOptions | None = None) -> Inspection:
    """Describe all images in a source; no sample is read.

    Parameters
    ----------
    source, storage_options
        As of `build_pyramid`.

    Returns
    -------
    Inspection
        The images, with axes, shapes, dtypes, sizes, channels, and where each value comes from.

    Raises
    ------
    CallerError
        The source cannot be found or is of no format that can be read.

    Examples
    --------
    >>> import numpy as np
    >>> inspect_source(np.zeros((64, 64), "uint8")).images[0].description.dtype
    '|u1'
    """
    text, inside = split_inside(source)
    with open_images(text, storage_options) as images:
        default, reason = _default(images, inside)
        return Inspection(
            source=images.identity.uri,
            format=images.format,
            images=tuple(
                _inspected(number, image, images.identity.uri)
                for number, image in enumerate(images.images)
            ),
            default=default,
            reason=reason,
            pins=images.identity.pins,
        )


def _default(images: SourceImages, inside: str | None) -> tuple[int | None, str | None]:
    try:
        return choose_image(images, inside), None
    except CallerError as error:
        return None, str(error)


def _inspected(number: int, image: ImageDescription, uri: str) -> InspectedImage:
    try:
        axes = name_axes(image, Selection(), uri)
    except CallerError as error:
        return InspectedImage(number, image, (), str(error))
    return InspectedImage(number, image, axes.dims, None)
