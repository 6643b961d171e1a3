"""Options: their defaults, and what is refused."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest

from ngff_core import build_pyramid
from ngff_core.config import available_cores, available_memory, config
from ngff_core.errors import InvalidOptionError
from ngff_core.model.selection import Selection
from ngff_core.plan.options import (
    BuildOptions,
    describe_options,
    option_names,
    resolve_memory_limit,
    resolve_workers,
    stored_option_names,
)


def test_defaults_need_no_thought() -> None:
    """The method by what the source holds, OME-Zarr 0.5, doubling levels, chunks by rule."""
    options = BuildOptions()
    assert options.method is None
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


# --- one definition -----------------------------------------------------------------------


def test_build_pyramid_takes_the_options_as_they_are_defined() -> None:
    """Same names, types and defaults, in the same order: an IDE shows what `BuildOptions` says."""
    own = ("source", "target", "storage_options", "progress")
    signature = inspect.signature(build_pyramid)
    keywords = {name: each for name, each in signature.parameters.items() if name not in own}
    assert tuple(keywords) == option_names()
    assert {name: each.default for name, each in keywords.items()} == {
        each.name: each.default for each in fields(BuildOptions)
    }
    types = get_type_hints(BuildOptions)
    given = get_type_hints(build_pyramid)
    assert {name: given[name] for name in keywords} == types
    assert {each.kind for each in keywords.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_build_pyramid_passes_every_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is in the signature and goes nowhere would be ignored in silence."""
    given: list[BuildOptions] = []
    monkeypatch.setattr(
        "ngff_core.build.api.run_build",
        lambda _source, _target, options, **_: given.append(options),
    )
    values = {name: object() for name in option_names()}
    build_pyramid("in.npy", "out.ome.zarr", **values)  # type: ignore[arg-type]
    assert given == [BuildOptions(**values)]  # type: ignore[arg-type]


def test_every_option_is_documented_where_it_is_used() -> None:
    """Its help text and its default are in the docstring of `build_pyramid`."""
    text = " ".join((inspect.getdoc(build_pyramid) or "").split())
    for name, option in describe_options().items():
        assert f"{name} : " in text
        assert " ".join(option.help.split()) in text
        assert option.help.endswith(".")
        assert option.default_text is None or f"By default {option.default_text}." in text


def test_options_that_decide_stored_bytes_come_first() -> None:
    """A change of any other option builds nothing again."""
    first = option_names().index("workers")
    assert stored_option_names() == option_names()[:first]
    assert stored_option_names()[-3:] == ("ome_zarr_version", "level_paths", "checksums")


def test_options_of_the_source_become_a_selection() -> None:
    """Text as the command line and forms give it, or Python's own types."""
    by_text = BuildOptions(series="2", dims="t,c,y,x", units="micrometer", scale={"space": 0.5})
    found = by_text.selection
    assert (found.series, found.dims) == ("2", ("t", "c", "y", "x"))
    assert (found.units, found.scale) == ({"space": "micrometer"}, {"space": 0.5})
    by_types = BuildOptions(dims=["y", "x"], pick={"h": 3}, channel_names=("DAPI",))
    assert by_types.selection == Selection(dims=("y", "x"), pick={"h": 3}, channel_names=("DAPI",))
    colors = BuildOptions(channel_colors=["Cyan", " 00ff7f", "#FF8000"]).selection.channel_colors
    assert colors == ("00FFFF", "00FF7F", "FF8000")
    assert BuildOptions().selection == Selection()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": "yq"}, "unknown axis 'q'"),
        ({"dims": "yyx"}, "name one axis twice"),
        ({"scale": {"z": 0}}, "z=0 is not a positive size"),
        ({"units": {"w": "meter"}}, "units: unknown axis 'w'"),
        ({"channel_colors": ["pinkish"]}, "channel_colors: 'pinkish' is neither six hexadecimal"),
    ],
)
def test_a_selection_without_sense_is_refused(options: dict[str, Any], words: str) -> None:
    """By the name of the option."""
    with pytest.raises(InvalidOptionError, match=words):
        _ = BuildOptions(**options).selection
