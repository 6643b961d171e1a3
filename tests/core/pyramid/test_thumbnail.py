"""A small picture of a pyramid, whatever its samples are."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ngff_core import BuildOptions, NgffImage
from ngff_core.build.build import Build

pytestmark = pytest.mark.usefixtures("memory_filesystem")

RAMP = np.add.outer(np.arange(60), np.arange(80))


def picture(data: np.ndarray, dims: str, **options: Any) -> Image.Image:
    """The thumbnail of a pyramid of one level, decoded by Pillow."""
    given = BuildOptions(**{"scale_factors": []} | options)
    with Build.open(NgffImage(data, dims), "memory://thumb/image.ome.zarr", given) as build:
        build.write_level(0)
        build.publish()
        uri = build.thumbnail()
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    found = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    found.load()
    assert found.format == "PNG"
    return found


def test_a_plane_becomes_a_grey_picture_of_its_size() -> None:
    """Its contrast stretched from dark to light."""
    found = picture(RAMP.astype("u2"), "yx")
    assert (found.mode, found.size) == ("L", (80, 60))
    pixels = np.asarray(found)
    assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
    assert (np.diff(pixels.astype(int), axis=1) >= 0).all()


def test_three_channels_become_red_green_and_blue() -> None:
    """Each with its own contrast."""
    data = np.stack([RAMP, RAMP[::-1] * 10, RAMP[:, ::-1] + 1000]).astype("u2")
    found = picture(data, "cyx")
    assert (found.mode, found.size) == ("RGB", (80, 60))
    pixels = np.asarray(found)
    assert pixels[0, 0].tolist()[0] == 0
    assert pixels[-1, 0].tolist()[1] < pixels[0, -1].tolist()[1]
    assert pixels[0, -1].tolist()[2] == 0


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_of_other_numbers_of_channels_the_first_is_shown(channels: int) -> None:
    """In grey."""
    data = np.stack([RAMP] + [RAMP * 0] * (channels - 1)).astype("u2")
    found = picture(data, "cyx")
    assert found.mode == "L"
    assert np.asarray(found).max() == 255


def test_of_a_volume_the_middle_plane_of_the_first_time_is_shown() -> None:
    """The others are empty here."""
    data = np.zeros((2, 5, 60, 80), "u2")
    data[0, 2] = RAMP
    assert np.asarray(picture(data, "tzyx")).max() == 255


@pytest.mark.parametrize(
    "data",
    [
        np.full((60, 80), 7, "u2"),
        np.zeros((60, 80), bool),
        RAMP % 2 == 0,
        RAMP.astype("c8") * (1 + 1j),
        RAMP.astype("f4"),
        RAMP.astype("f4") * np.nan,
        np.where(RAMP == 9, np.inf, RAMP).astype("f4"),
        np.where(RAMP % 3 == 0, np.inf, -np.inf).astype("f4"),
        np.where(RAMP % 3 == 0, 1.7e308, -1.7e308),
        RAMP.astype("i8") - 2**62,
        RAMP.astype("u8") + 2**63,
    ],
    ids=[
        "constant", "no label", "bool", "complex", "float", "all NaN", "one infinity",
        "infinities", "the whole range of float64", "int64", "uint64",
    ],
)  # fmt: skip
def test_any_samples_make_a_picture(data: np.ndarray) -> None:
    """Without a warning."""
    assert picture(data, "yx").size == (80, 60)


def test_a_constant_image_is_even() -> None:
    """No contrast is made up."""
    assert len(np.unique(np.asarray(picture(np.full((60, 80), 7, "u2"), "yx")))) == 1


@pytest.mark.parametrize(
    ("shape", "size"), [((1000, 500), (167, 334)), ((1, 1), (1, 1)), ((3, 5000), (373, 1))]
)
def test_no_picture_is_longer_than_384(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """Every second or third sample of a large level, the middle of a very long one."""
    data = np.random.default_rng(0).integers(0, 255, shape, "u1")
    assert picture(data, "yx").size == size
