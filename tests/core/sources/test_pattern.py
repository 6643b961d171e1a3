"""Names of files: which belong together, and where each has its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.sources.pattern import Pattern, arrange, guess_pattern


def keys(*names: str, pattern: str) -> dict[tuple[int, ...], str]:
    (grid,) = arrange(Pattern(pattern), names, "in")
    return dict(grid.keys)


def test_axes_come_in_canonical_order_whatever_the_names_say() -> None:
    """Numbers by value, not by their spelling."""
    (grid,) = arrange(
        Pattern("z{z}_c{c}.tif"), ["z2_cB.tif", "z10_cB.tif", "z2_cA.tif", "z10_cA.tif"], "in"
    )
    assert (grid.axes, grid.values) == (("c", "z"), (("A", "B"), ("2", "10")))
    assert grid.keys[1, 0] == "z2_cB.tif"


def test_each_text_of_a_wildcard_is_an_image() -> None:
    """Folders count too."""
    grids = arrange(Pattern("**/p*_z{z}.tif"), ["a/p1_z1.tif", "b/p1_z1.tif", "a/p2_z1.tif"], "in")
    assert [grid.name for grid in grids] == ["a_1", "a_2", "b_1"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["z1_c1.tif", "z2_c1.tif", "z1_c2.tif"], "1 of 4 files are missing: c=2, z=2"),
        (["z1_c1.tif", "z2_c1.tif", "z4_c1.tif"], "no file has z=3, between z=2 and z=4"),
        (["z1_c1.tif", "z01_c1.tif"], "two spellings of the number z=1"),
        (["other.tif"], "no file matches"),
    ],
)
def test_what_is_missing_is_named(names: list[str], words: str) -> None:
    """Nothing is filled in."""
    with pytest.raises(SourceFormatError, match=words):
        arrange(Pattern("z{z}_c{c}.tif"), names, "in")


def test_even_steps_are_no_gap() -> None:
    """Positions in micrometers, or every fifth frame."""
    assert list(keys("z0.tif", "z5.tif", "z10.tif", pattern="z{z}.tif").values()) == [
        *("z0.tif", "z5.tif", "z10.tif")
    ]


@pytest.mark.parametrize("pattern", ["a_{q}.tif", "{z}_{z}.tif"])
def test_a_pattern_without_sense_is_refused(pattern: str) -> None:
    """An axis that is none, or one twice."""
    with pytest.raises(InvalidOptionError):
        Pattern(pattern)


@given(
    z=st.integers(1, 4),
    c=st.lists(st.text("abcDEF", min_size=1, max_size=4), min_size=1, max_size=3, unique=True),
    order=st.randoms(use_true_random=False),
)
def test_every_file_has_one_place(z: int, c: list[str], order: object) -> None:
    """Whatever the order of the listing."""
    names = [f"p_{name}-z{plane:03}.tif" for name in c for plane in range(z)]
    order.shuffle(names)  # type: ignore[attr-defined]
    found = keys(*names, pattern="p_{c}-z{z}.tif")
    assert sorted(found.values()) == sorted(names)
    for (channel, plane), name in found.items():
        assert name == f"p_{sorted(c)[channel]}-z{plane:03}.tif"


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["s_t1_ch0.tif", "s_t1_ch1.tif"], "s_t1_ch{c}.tif"),
        (["x1_z1.tif", "x1_z2.tif"], "x1_z{z}.tif"),
        (["img1.tif", "img2.tif"], None),
        (["a_z1.tif", "b_z2.tif"], None),
        (["a_z1.tif"], None),
    ],
)
def test_letters_before_numbers_tell_the_axis(names: list[str], pattern: str | None) -> None:
    """And without them nothing is guessed."""
    assert guess_pattern(names) == pattern
