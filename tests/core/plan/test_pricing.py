"""The estimate of a build's requests, bytes and worker hours, computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ngff_core.errors import InvalidOptionError
from ngff_core.plan.pricing import Price, price
from ngff_core.plan.projection import project
from tests.support.plans import plan_of

MIB = 2**20


def priced(stream: bool = True, cached: bool = False, **options: float) -> Price:
    """Two levels of 2-byte samples, 6 and 2 shards; the source is in strips of one row."""
    plan = plan_of(
        "yx", (4096, 6144), chunks=512, shards=2048, scale_factors=[2], method="dask_image_nearest"
    )
    limits: dict[str, Any] = {"workers": 2, "memory_limit": 2**40, "stream": stream}
    return price(plan, project(plan, (1, 6144), cached=cached, **limits), **options)


def test_requests_of_a_streamed_build() -> None:
    """Each object once; rows of the source as often as regions need them."""
    found = priced()
    # Two documents for each of two levels, two for the image.
    assert found.objects == found.puts == 6 + 2 + 6
    # Three regions side by side read each of the 4096 rows. Level 1 reads nothing.
    assert found.gets == 3 * 4096
    # One page of a listing before publishing, one for verifying.
    assert found.lists == 2


def test_bytes_of_a_streamed_build() -> None:
    """Level 0 has 48 MiB, level 1 has 12."""
    found = priced()
    assert found.bytes_read == 3 * 48 * MIB
    assert found.bytes_written == 60 * MIB
    assert found.bytes_stored == round(60 * MIB / 1.7)
    # 213 909 504 bytes at 200 MB/s are 1.0695 s.
    assert found.worker_hours == pytest.approx(213_909_504 / 200e6 / 3600)
    assert (found.throughput, found.compression) == (200, 1.7)


def test_a_level_that_is_read_back_costs_requests_and_bytes() -> None:
    """Its two regions read four and two shards, each with an index and chunks."""
    streamed, stored = priced(), priced(stream=False)
    assert stored.gets - streamed.gets == 2 * 6
    assert stored.bytes_read - streamed.bytes_read == 48 * MIB
    assert stored.puts == streamed.puts


def test_a_cache_is_written_and_read_but_does_not_stay() -> None:
    """Its chunks are 512 samples a side: 8 rows of 12."""
    found, without = priced(cached=True), priced()
    assert found.puts - without.puts == 8 * 12
    assert found.objects == without.objects
    # The pass reads each row once, and level 0 each chunk once.
    assert found.gets == 4096 + 8 * 12
    assert found.bytes_read == 2 * 48 * MIB
    assert found.bytes_written == 108 * MIB


def test_throughput_and_compression_can_be_given() -> None:
    """For other storage and other images."""
    found = priced(throughput=100, compression=4)
    assert found.bytes_stored == 15 * MIB
    assert found.worker_hours == pytest.approx(2 * priced().worker_hours)


def test_a_price_is_one_flat_document() -> None:
    """Scripts read ``plan --json``: names and their order stay, however the price is grouped."""
    found = priced()
    values = found.to_dict()
    assert list(values) == [
        *("objects", "puts", "gets", "lists", "bytes_read", "bytes_written", "bytes_stored"),
        *("worker_hours", "throughput", "compression"),
    ]
    assert values == {name: getattr(found, name) for name in values}


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["throughput", "compression"])
def test_a_number_that_makes_no_estimate_is_refused(name: str, value: float) -> None:
    """The error names the option."""
    with pytest.raises(InvalidOptionError, match=f"{name}: .* is not a positive number"):
        priced(**{name: value})
