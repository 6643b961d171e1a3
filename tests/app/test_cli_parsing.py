"""How options are written on the command line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_flows.cli.parsing import parse_sizes
from tests.support.command import Command

lengths = st.integers(-(10**6), 10**6)
factors = st.lists(
    lengths | st.dictionaries(st.sampled_from("zyx"), lengths, min_size=1), min_size=1
)


@given(lengths)
def test_int_is_an_int(number: int) -> None:
    """One number is meant as one number."""
    assert parse_sizes("chunks", str(number)) == number
    assert parse_sizes("chunks", f" {number} ") == number


@given(st.lists(lengths, min_size=1))
def test_list_is_a_list(numbers: list[int]) -> None:
    """Numbers with commas are a list; a comma at the end makes a list of one."""
    text = ",".join(map(str, numbers))
    assert parse_sizes("chunks", f"{text},") == numbers
    if len(numbers) > 1:
        assert parse_sizes("chunks", text) == numbers
        assert parse_sizes("chunks", text.replace(",", ", ")) == numbers


@given(factors | st.dictionaries(st.sampled_from("tczyx"), lengths))
def test_json_is_json(value: Any) -> None:
    """Whatever a list or a mapping holds, JSON can spell it."""
    assert parse_sizes("scale-factors", json.dumps(value)) == value


@given(st.text())
def test_any_other_text_is_refused_with_the_options_name(text: str) -> None:
    """No text ends in a traceback: it is understood, or refused by the option's name."""
    with suppress(InvalidOptionError):
        assert isinstance(parse_sizes("shards", text), int | list | dict)
        return
    with pytest.raises(InvalidOptionError, match=r"^--shards "):
        parse_sizes("shards", text)


def test_option_that_was_not_given_stays_so() -> None:
    """No text means the default."""
    assert parse_sizes("chunks", None) is None


@pytest.mark.parametrize(
    ("option", "text", "key", "expected"),
    [
        ("--scale-factors", "2,4", "factor", [[1, 1], [2, 2], [4, 4]]),
        ("--scale-factors", '[{"y": 2}, 4]', "factor", [[1, 1], [2, 1], [4, 4]]),
        ("--chunks", "16,32", "chunks", [[16, 32]]),
        ("--chunks", '{"x": 8}', "chunks", [[64, 8]]),
        ("--chunks", "[[16, 16], [8]]", "chunks", [[16, 8]]),
        ("--shards", "64", "shards", [[64, 64]]),
    ],
)
def test_spelling_reaches_the_plan(
    run: Command, source: Path, target: Path, option: str, text: str, key: str, expected: Any
) -> None:
    """What one spells on the command line is what the plan says."""
    levels = run("plan", source, target, option, text, "--json").document["plan"]["levels"]
    assert [level[key] for level in levels[: len(expected)]] == expected
