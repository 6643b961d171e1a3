"""Which options of an upload rule build its pyramids again."""

from __future__ import annotations

from typing import Any

import pytest

from flows.options import PyramidOptions
from flows.upload_options import decisive

FIRST_RELEASE = {
    "method",
    "scale_factors",
    "chunks",
    "shards",
    "compressor",
    "ome_zarr_version",
}


def counted(**options: Any) -> dict[str, Any]:
    return decisive(PyramidOptions(**options).model_dump(mode="json"))


def test_defaults_of_later_options_count_for_nothing() -> None:
    """So that an update alone builds nothing again."""
    assert set(counted()) == FIRST_RELEASE


@pytest.mark.parametrize(
    "option",
    [
        {"level_paths": "named"},
        {"checksums": False},
        {"series": "2"},
        {"shards": "none"},
        {"channel_names": ["DAPI"]},
    ],
)
def test_another_value_counts(option: dict[str, Any]) -> None:
    assert counted(**option) != counted()


@pytest.mark.parametrize("option", [{"workers": 3}, {"cache": "never"}, {"overwrite": True}])
def test_what_decides_no_stored_byte_never_counts(option: dict[str, Any]) -> None:
    assert counted(**option) == counted()
