"""From the images of a source and the caller's choice to one image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.model.channels import Channel
from ngff_core.model.selection import Selection
from ngff_core.sources.base import Source
from ngff_core.sources.choose import choose_image
from ngff_core.sources.contract import (
    ImageDescription,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.opening import open_chosen

RNG = np.random.default_rng(5)
STACK = RNG.integers(0, 99, (2, 4, 6, 8), "u1")
PLANE = RNG.integers(0, 99, (6, 8), "u1")
CHANNELS = (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"))


def images(main: int | None = None, **stack: Any) -> SourceImages:
    arrays = (STACK, PLANE, PLANE[:3])
    described = (
        ImageDescription(
            "stack",
            ("c", "z", "y", "x"),
            STACK.shape,
            "|u1",
            Placement({"z": 2.0, "y": 0.5, "x": 0.5}, {"z": "micrometer"}, {"x": 10.0}),
            CHANNELS,
            **stack,
        ),
        ImageDescription("plane", ("y", "x"), PLANE.shape, "|u1"),
        ImageDescription("macro", ("y", "x"), (3, 8), "|u1", role="macro"),
    )
    return SourceImages(
        SourceIdentity("a.czi", ()),
        "czi",
        "a CZI file",
        described,
        lambda n: Samples(arrays[n], (1,) * arrays[n].ndim),
        main,
    )


def opened(**chosen: Any) -> Source:
    return open_chosen(images(), Selection(**{"series": 0, **chosen}))


def test_several_images_are_refused_and_listed() -> None:
    """With numbers, names, shapes and roles, so that the caller can choose."""
    with pytest.raises(SourceFormatError) as caught:
        choose_image(images(), None)
    text = str(caught.value)
    assert "holds 2 images" in text
    assert "0 'stack' (c 2, z 4, y 6, x 8)" in text
    assert "2 'macro' (y 3, x 8, a macro)" in text
    assert "--series" in text


def test_the_image_that_is_meant_is_taken() -> None:
    """As the source says."""
    assert choose_image(images(main=1), None) == 1


@pytest.mark.parametrize(("series", "number"), [(1, 1), ("1", 1), ("plane", 1), ("macro", 2)])
def test_an_image_is_chosen_by_number_or_name(series: int | str, number: int) -> None:
    """Text of digits is a number; any role may be chosen."""
    assert choose_image(images(), series) == number


@pytest.mark.parametrize("series", [3, -1, "9", "nothing"])
def test_an_image_that_is_not_there_is_refused(series: int | str) -> None:
    """And the message lists those that are."""
    with pytest.raises(InvalidOptionError, match="'stack'"):
        choose_image(images(), series)


def test_what_is_left_out_is_noted() -> None:
    """Each other image by name."""
    (note,) = [note for note in opened().about.notes if note.kind == "left out"]
    assert "'plane'" in note.text
    assert "'macro'" in note.text


def test_unknown_sizes_are_noted() -> None:
    """They are written as 1, since OME-Zarr has no word for it."""
    source = open_chosen(images(), Selection(series=1))
    assert "unknown: the size of a sample along y, x: 1 without a unit" in str(
        source.about.notes[-1]
    )
    assert source.image.scale == {"y": 1.0, "x": 1.0}
    assert not [note for note in opened().about.notes if note.kind == "unknown"]


def test_the_caller_overrules_sizes_units_and_names() -> None:
    """Each change of a value that the source has is noted."""
    source = opened(
        scale={"space": 3.0, "z": 4.0},
        units={"z": "nanometer", "x": "nanometer"},
        channel_names=("a", "GFP"),
    )
    assert source.image.scale == {"c": 1.0, "z": 4.0, "y": 3.0, "x": 3.0}
    assert source.image.axes_units == {"z": "nanometer", "x": "nanometer"}
    assert source.about.channels == (Channel("a", "0000FF"), CHANNELS[1])
    kinds = [note.kind for note in source.about.notes]
    assert kinds.count("overruled") == 5
    assert "names of channels: 'DAPI' is given as 'a'" in source.about.notes[-1].text


def test_the_caller_overrules_colors() -> None:
    """A color that the source has is noted, one that it lacks is only filled in."""
    source = opened(channel_colors=("FF00FF", "00FF00"))
    assert [channel.color for channel in source.about.channels] == ["FF00FF", "00FF00"]
    assert [channel.name for channel in source.about.channels] == [c.name for c in CHANNELS]
    assert "colors of channels: '0000FF' is given as 'FF00FF'" in source.about.notes[-1].text


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"scale": {"t": 1.0}}, "scale: the image has no axis 't'"),
        ({"channel_names": ("a",)}, "channel_names: 1 of them for 2 channels"),
        ({"channel_colors": ("FF0000",) * 3}, "channel_colors: 3 of them for 2 channels"),
        ({"series": "all"}, "one pyramid is of one image"),
    ],
)
def test_a_correction_that_does_not_fit_is_refused(chosen: dict[str, Any], words: str) -> None:
    """Not ignored."""
    with pytest.raises(InvalidOptionError, match=words):
        opened(**chosen)


def test_one_channel_can_be_picked() -> None:
    """Its samples, its size and its channel are left."""
    source = opened(pick={"c": 1})
    np.testing.assert_array_equal(source.image.data[:, :, :], STACK[1])
    np.testing.assert_array_equal(source.image.data[1:2, 2:4, :], STACK[1, 1:2, 2:4])
    assert (source.image.dims, source.read_unit) == (("z", "y", "x"), (1, 1, 1))
    assert source.image.scale["z"] == 2.0
    assert source.about.channels == (CHANNELS[1],)


def test_the_same_samples_are_opened_again() -> None:
    """By what the plan keeps, whatever is chosen by default then."""
    first = opened(pick={"c": 1}, dims=("t", "y", "x"))
    again = open_chosen(images(main=1), Selection.of_reading(first.about.reading))
    np.testing.assert_array_equal(again.image.data[:, :, :], first.image.data[:, :, :])
    assert again.image.dims == ("t", "y", "x")
