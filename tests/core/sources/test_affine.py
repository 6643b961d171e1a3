"""Affines: scale, direction and position of each axis, and oblique ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.sources.affine import place

AXES = ("x", "y", "z")
GROWS = {
    "left-to-right": (0, 1),
    "right-to-left": (0, -1),
    "posterior-to-anterior": (1, 1),
    "anterior-to-posterior": (1, -1),
    "inferior-to-superior": (2, 1),
    "superior-to-inferior": (2, -1),
}
PERMUTATIONS = list(itertools.product(itertools.permutations(range(3)), *[(1, -1)] * 3))


@given(
    permutation=st.sampled_from(PERMUTATIONS),
    sizes=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
)
def test_placement_gives_the_position_of_every_sample(permutation, sizes, origin):
    """From scale, translation and orientation follows what the affine says, for any permutation."""
    order, *signs = permutation
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        affine[row, column] = sign * sizes[column]
    affine[:3, 3] = origin
    found = place(affine, AXES, "millimeter")
    assert found.notes == ()
    index = np.array([3, 5, 7])
    for axis, i in zip(AXES, index, strict=True):
        row, sign = GROWS[found.placement.orientations[axis].value]
        along = found.placement.translation[axis] + i * found.placement.scale[axis]
        expected = (affine @ [*index, 1])[row]
        assert sign * along == pytest.approx(expected, rel=1e-5, abs=1e-2)


def test_an_axis_to_the_left_has_its_position_to_the_left():
    """RFC-4 names the direction that coordinates grow in."""
    affine = np.array([[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1.0]])
    found = place(affine, AXES, "millimeter").placement
    assert found.orientations["x"].value == "right-to-left"
    assert found.translation == {"x": -90, "y": -126, "z": -72}


def rotated(degrees: float) -> np.ndarray:
    turn = np.radians(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, 3] = 1, 2, 3
    return affine


def test_an_oblique_affine_is_kept_whole_and_noted():
    """The orientation is that of the nearest axis; the position is along the axis itself."""
    found = place(rotated(30), AXES, "millimeter")
    assert found.metadata["affine"] == rotated(30).tolist()
    assert [str(note)[:32] for note in found.notes] == ["left out: the axes x, y lie obli"]
    assert found.placement.orientations["x"].value == "left-to-right"
    expected = np.cos(np.radians(30)) * 1 + np.sin(np.radians(30)) * 2
    assert found.placement.translation["x"] == pytest.approx(expected, rel=1e-6)


def test_halfway_between_two_axes_no_orientation_is_written():
    """At 45 degrees there is no nearest one."""
    assert "x" not in place(rotated(45), AXES, None).placement.orientations


def test_two_axes_in_one_direction_have_none():
    """A sheared affine may have two axes near the same direction; RFC-4 does not allow both."""
    affine = rotated(30)
    affine[:3, 1] = affine[:3, 0] + [0, 0, 0.3]
    assert place(affine, AXES, None).placement.orientations == {}


def test_what_is_zero_or_not_finite_is_unknown():
    """A size of 0 is no size."""
    affine = np.eye(4)
    affine[:3, 1] = 0
    assert place(affine, AXES, None).placement.scale == {"x": 1, "z": 1}
    affine[0, 0] = np.nan
    assert place(affine, AXES, None).placement.scale == {}
