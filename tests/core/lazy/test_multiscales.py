"""``NgffMultiscales`` and the classes of its metadata, as users know them."""

from __future__ import annotations

import numpy as np
import pytest

from ngff_core import (
    LPS,
    Axis,
    Dataset,
    Identity,
    Metadata,
    Methods,
    Multiscales,
    NgffImage,
    NgffMultiscales,
    Scale,
    Translation,
)
from ngff_core.lazy.multiscales import metadata_of, placement


def image(**options: object) -> NgffImage:
    """A small image with everything."""
    return NgffImage(
        np.zeros((2, 3, 4)),
        dims=("c", "y", "x"),
        scale={"y": 0.5, "x": 0.25},
        translation={"x": 3.0},
        name="cells",
        axes_units={"y": "micrometer"},
        axes_orientations={"x": LPS["x"]},
    )


def test_metadata_says_what_the_images_say() -> None:
    """Axes with types, units and orientation; paths; scale before translation."""
    metadata = metadata_of([image(), image()], Methods.ITKWASM_GAUSSIAN)
    assert metadata.axes == [
        Axis("c", "channel"),
        Axis("y", "space", "micrometer"),
        Axis("x", "space", None, LPS["x"]),
    ]
    assert [dataset.path for dataset in metadata.datasets] == ["scale0/cells", "scale1/cells"]
    assert metadata.datasets[0].coordinateTransformations == [
        Scale([1.0, 0.5, 0.25]),
        Translation([0.0, 0.0, 3.0]),
    ]
    assert (metadata.name, metadata.type) == ("cells", "itkwasm_gaussian")
    assert set(metadata.metadata or {}) == {"description", "method", "version"}
    assert (metadata.coordinateTransformations, metadata.omero) == (None, None)


def test_a_pyramid_put_together_by_hand_needs_images_and_metadata_only() -> None:
    """How it was made is not known then."""
    images = [image()]
    made = NgffMultiscales(images=images, metadata=metadata_of(images))
    assert (made.scale_factors, made.method, made.chunks) == (None, None, None)
    assert made.metadata.type is None
    assert Multiscales is NgffMultiscales


def test_transformations_are_applied_in_their_order() -> None:
    """The dataset's own first, then those of the whole image."""
    dataset = Dataset("0", [Identity(), Scale([2.0, 3.0]), Translation([1.0, 1.0])])
    assert placement(dataset, None, 2) == ((2.0, 3.0), (1.0, 1.0))
    beyond = [Scale([10.0, 10.0]), Translation([0.5, 0.0])]
    assert placement(dataset, beyond, 2) == ((20.0, 30.0), (10.5, 10.0))
    assert placement(Dataset("0"), None, 2) == ((1.0, 1.0), (0.0, 0.0))


def test_a_transformation_of_another_length_is_an_error() -> None:
    """Three numbers for two axes."""
    with pytest.raises(ValueError, match="argument"):
        placement(Dataset("0", [Scale([1.0, 1.0, 1.0])]), None, 2)


def test_metadata_has_defaults() -> None:
    """Axes and datasets are enough."""
    metadata = Metadata(axes=[Axis("x", "space")], datasets=[Dataset("0")])
    assert (metadata.name, metadata.type, metadata.metadata) == ("image", None, None)
