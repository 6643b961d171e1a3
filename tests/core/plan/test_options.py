"""Options: their defaults, and what is refused."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from ngff_core.config import available_cores, available_memory, config
from ngff_core.errors import InvalidOptionError
from ngff_core.plan.options import BuildOptions, resolve_memory_limit, resolve_workers


def test_defaults_need_no_thought() -> None:
    """The default Gaussian, OME-Zarr 0.5, doubling levels, chunks by rule."""
    options = BuildOptions()
    assert options.method == "itkwasm_gaussian"
    assert options.ome_zarr_version == "0.5"
    assert (options.scale_factors, options.chunks, options.shards) == (128, None, None)
    assert (options.cache, options.overwrite) == ("auto", False)


def test_by_default_there_is_one_worker_per_core() -> None:
    """As many as this process may run on."""
    assert resolve_workers(None) == available_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("workers", [1, 7, np.int64(3)])
def test_workers_may_be_any_positive_number(workers: Any) -> None:
    """Of numpy as well."""
    assert resolve_workers(workers) == int(workers)
    assert type(resolve_workers(workers)) is int


@pytest.mark.parametrize("workers", [0, -1, 1.5, 2.0, "2", True])
def test_workers_that_make_no_sense_are_refused(workers: Any) -> None:
    """The message quotes them."""
    with pytest.raises(InvalidOptionError, match=f"workers: {workers!r} is not a positive"):
        resolve_workers(workers)


@pytest.mark.parametrize(
    ("limit", "nbytes"),
    [
        (1, 1),
        (2**31, 2**31),
        ("2GiB", 2**31),
        ("2 GiB", 2**31),
        ("500MB", 500 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("4096", 4096),
        (np.int64(4096), 4096),
    ],
)
def test_a_memory_limit_is_bytes_or_a_size_as_people_write_it(limit: Any, nbytes: int) -> None:
    """2GiB is a power of two, 500MB a power of ten."""
    assert resolve_memory_limit(limit) == nbytes


@pytest.mark.parametrize("limit", [0, -1, "0GiB", "a lot", "", "2 potatoes", [], "-1GiB"])
def test_a_memory_limit_that_makes_no_sense_is_refused(limit: Any) -> None:
    """The message quotes it and shows the forms."""
    with pytest.raises(InvalidOptionError, match=r"memory_limit: .* is not a size; give bytes"):
        resolve_memory_limit(limit)


def test_without_a_limit_half_of_what_is_available_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``config.memory_target``, which a notebook may set."""
    assert 0 < config.memory_target <= available_memory()
    monkeypatch.setattr(config, "memory_target", 12345)
    assert resolve_memory_limit(None) == 12345
