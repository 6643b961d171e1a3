"""Killed from outside, at moments nobody chose."""

import random

import pytest

from tests.resume.harness import assert_resumes, assert_whole_or_no_image


@pytest.mark.parametrize("seed", range(5))
def test_resumes_after_a_kill_at_any_moment(builders, source, undisturbed, tmp_path, seed):
    """``kill -9`` at a random moment, two workers busy: the same command does the rest."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    # Whenever it comes, even after the end, what must hold is the same.
    delay = random.Random(seed).random() * whole.run.seconds
    builders.run(source, target, kill_after=delay, options={"workers": 2})
    assert_resumes(builders, source, target, whole)


def test_resumes_after_many_kills(builders, source, undisturbed, tmp_path):
    """Killed again and again, each time before it is through: the image comes out right."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    delays = random.Random(7)
    for _ in range(5):
        delay = delays.uniform(0.2, 0.6) * whole.run.seconds
        run = builders.run(source, target, kill_after=delay, options={"workers": 2})
        assert run.messages == [], "nobody is waited for"
        assert_whole_or_no_image(target, whole)
    assert_resumes(builders, source, target, whole)


def test_resumes_where_receipts_wait(builders, source, undisturbed, tmp_path):
    """The same with the default seconds between receipts."""
    whole, target = undisturbed(receipt_seconds=2.0), tmp_path / "image.ome.zarr"
    for share in (0.5, 0.8):
        builders.run(source, target, kill_after=share * whole.run.seconds, receipt_seconds=2.0)
        assert_whole_or_no_image(target, whole)
    assert_resumes(builders, source, target, whole)
