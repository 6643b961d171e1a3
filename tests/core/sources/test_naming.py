"""Axes: what the file says, what the caller says, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import CallerError, InvalidOptionError, SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources.contract import UNNAMED, ImageDescription
from ngff_core.sources.naming import NamedAxes, name_axes


def named(axes: str | list[str], shape: tuple[int, ...], **chosen: object) -> NamedAxes:
    image = ImageDescription(None, tuple(axes), shape, "|u1")
    return name_axes(image, Selection(**chosen), "a.tif")  # type: ignore[arg-type]


@pytest.mark.parametrize("axes", ["yx", "zyx", "tczyx", "czyx", "xyz", "tyx"])
def test_names_of_the_file_are_taken(axes: str) -> None:
    """In any order; nothing is noted."""
    shape = tuple(range(2, 2 + len(axes)))
    found = named(axes, shape)
    assert (found.dims, found.notes) == (tuple(axes), ())
    assert found.keep == tuple(range(len(axes)))


@pytest.mark.parametrize(
    ("axes", "dims"), [("?", "x"), ("??", "yx"), ("???", "zyx"), ("?yx", "zyx")]
)
def test_two_and_three_axes_without_names_are_assumed(axes: str, dims: str) -> None:
    """And the note says how to say otherwise."""
    found = named(axes, (5,) * len(axes))
    assert found.dims == tuple(dims)
    (note,) = found.notes
    assert note.kind == "assumed"
    assert "--dims" in note.text


@pytest.mark.parametrize("axes", ["????", "?????", "?cyx", "?yxc", "??yx", "?zyx", "?tyx"])
def test_more_axes_without_names_are_refused(axes: str) -> None:
    """Nobody can tell the channel from the time."""
    with pytest.raises(SourceFormatError, match="--dims"):
        named(axes, (5,) * len(axes))


@pytest.mark.parametrize(
    ("axes", "example"), [("????", "czyx"), ("?yxc", "tyxc"), ("?cyx", "tcyx"), ("??yx", "tcyx")]
)
def test_the_names_that_are_proposed_keep_those_of_the_file(axes: str, example: str) -> None:
    """A proposal that turned y into z would be taken."""
    with pytest.raises(SourceFormatError, match=rf"--dims {example}$"):
        named(axes, (5,) * len(axes))


def test_the_colors_of_a_pixel_are_not_proposed_as_anything_else() -> None:
    """Beside channels they can only be chosen from."""
    with pytest.raises(SourceFormatError, match=r"name it with dims .*--pick sample=0"):
        named(["c", "y", "x", "sample"], (7, 5, 5, 3))


@pytest.mark.parametrize("word", ["h", "lambda", "tile", "detector"])
def test_an_axis_that_is_something_else_never_becomes_z(word: str) -> None:
    """It is refused with its length and both ways to go."""
    with pytest.raises(SourceFormatError, match=f"{word}.* length 32 .*--dims.*--pick {word}=0"):
        named([word, "y", "x"], (32, 5, 5))


def test_one_position_of_such_an_axis_can_be_read() -> None:
    """What is left out is noted with its length."""
    found = named(["lambda", "y", "x"], (32, 5, 5), pick={"lambda": 7})
    assert (found.dims, found.keep, found.start) == (("y", "x"), (1, 2), (7, 0, 0))
    assert [note.kind for note in found.notes] == ["left out"]
    assert "of 32" in found.notes[0].text


def test_such_an_axis_of_length_one_vanishes() -> None:
    """It holds nothing."""
    assert named(["h", "y", "x"], (1, 5, 5)).dims == ("y", "x")


def test_the_caller_overrules_the_file() -> None:
    """The note says what is read as what."""
    found = named("tyx", (9, 5, 5), dims=("z", "y", "x"))
    assert found.dims == ("z", "y", "x")
    assert [str(note) for note in found.notes] == ["overruled: the axis t of 9 is read as z"]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"dims": ("y", "x")}, "2 names for the 3 axes .*z 9, y 5, x 5"),
        ({"pick": {"h": 0}}, "has no axis 'h'"),
        ({"pick": {"z": 9}}, "z=9 is not one of its positions 0 to 8"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(chosen: dict[str, object], words: str) -> None:
    """By the name of the option, and with the axes that there are."""
    with pytest.raises(InvalidOptionError, match=words):
        named("zyx", (9, 5, 5), **chosen)


@given(
    axes=st.lists(st.sampled_from([*"tczyx", UNNAMED, "h", "tile"]), min_size=1, max_size=6),
    data=st.data(),
)
def test_every_axis_is_kept_or_refused_or_empty(axes: list[str], data: st.DataObject) -> None:
    """No axis of more than one sample is ever dropped, and names are different ones of ours."""
    shape = tuple(data.draw(st.integers(1, 4)) for _ in axes)
    try:
        found = named(axes, shape)
    except CallerError:
        return
    dropped = set(range(len(axes))) - set(found.keep)
    assert all(shape[i] == 1 and axes[i] not in "tczyx" for i in dropped)
    assert len(set(found.dims)) == len(found.dims)
    for index, dim in zip(found.keep, found.dims, strict=True):
        assert axes[index] == dim or (axes[index] == UNNAMED and found.notes)
