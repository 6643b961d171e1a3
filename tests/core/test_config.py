"""Settings: from the environment, by assignment, and in the documentation."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ngff_core
from ngff_core.config import Config, settings, variable
from ngff_core.errors import InvalidOptionError

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


@pytest.fixture
def log_levels() -> Iterator[None]:
    """Loggers have their levels again afterwards."""
    yield
    for name in ("ngff_core", "tasks", "flows", "ngff_flows"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("log_levels")
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("memory_target", "2GiB", 2**31),
        ("memory_target", "500000000", 500_000_000),
        ("task_target", "10", 10),
        ("cache_store", "s3://scratch/cache", "s3://scratch/cache"),
        ("kernel_backend", "itkwasm", "itkwasm"),
        ("lease_seconds", "120", 120.0),
        ("receipt_seconds", "0", 0.0),
        ("region_retries", "5", 5),
        ("region_seconds", "inf", float("inf")),
        ("log_level", "debug", "DEBUG"),
    ],
)
def test_environment_variables_set_settings(
    name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting has a variable; sizes are written as people write them."""
    monkeypatch.setenv(variable(name), text)
    found = getattr(Config(), name)
    assert found == value
    assert type(found) is type(value)


def test_every_setting_has_a_test_of_its_variable() -> None:
    """So that a new setting cannot be forgotten above."""
    (mark,) = (
        mark
        for mark in test_environment_variables_set_settings.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert {case[0] for case in mark.args[1]} == set(settings())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory_target", "a lot"),
        ("memory_target", "0"),
        ("task_target", "0"),
        ("kernel_backend", "cuda"),
        ("lease_seconds", "0"),
        ("receipt_seconds", "-1"),
        ("region_retries", "1.5"),
        ("region_seconds", ""),
        ("log_level", "loud"),
    ],
)
def test_wrong_value_is_one_line_with_the_variable(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable, quotes the value and says what is accepted; the other settings, and
    the import, are not affected."""
    monkeypatch.setenv(variable(name), text)
    other = "task_target" if name == "region_retries" else "region_retries"
    monkeypatch.setenv(variable(other), "7")
    config = Config()
    message = f"{variable(name)}: {text!r} is not accepted; use {settings()[name].expected}"
    for use in (config.check, lambda: getattr(config, name)):
        with pytest.raises(InvalidOptionError) as caught:
            use()
        assert str(caught.value) == message
        assert "\n" not in message
    assert getattr(config, other) == 7
    setattr(config, name, settings()[name].default())
    config.check()


def test_wrong_variable_stops_a_build_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than in the middle, where the setting is first used."""
    import numpy as np

    monkeypatch.setenv("NGFF_REGION_RETRIES", "many")
    monkeypatch.setattr("ngff_core.build.planning.config", Config())
    with pytest.raises(InvalidOptionError, match=r"^NGFF_REGION_RETRIES: 'many'"):
        ngff_core.build_pyramid(np.zeros((8, 8), "u1"), tmp_path / "out.ome.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("memory_target", "plenty"), ("lease_seconds", -1), ("log_level", 3)]
)
def test_wrong_assignment_keeps_the_value(name: str, value: Any) -> None:
    """And is an error that names the setting."""
    config = Config()
    before = getattr(config, name)
    with pytest.raises(InvalidOptionError, match=f"^{name}: .* is not accepted; use "):
        setattr(config, name, value)
    assert getattr(config, name) == before


def test_assignment_takes_sizes_too() -> None:
    config = Config()
    config.memory_target = "1.5GiB"  # type: ignore[assignment]
    assert config.memory_target == 3 * 2**29


def test_unknown_setting_is_refused() -> None:
    """A misspelt attribute would change nothing."""
    with pytest.raises(AttributeError, match="no setting 'memory_limit'; it has memory_target, "):
        Config().memory_limit = 1


def test_misspelt_variable_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the name that was probably meant; variables of others and of the receiver are not."""
    monkeypatch.setenv("NGFF_MEMORY_TARGT", "2GiB")
    monkeypatch.setenv("NGFF_ZARR_SOMETHING", "1")
    monkeypatch.setenv("NGFF_RECEIVER_SECRET", "x")
    Config()
    assert [record.getMessage() for record in caplog.records] == [
        "NGFF_MEMORY_TARGT is no setting and is ignored; did you mean NGFF_MEMORY_TARGET?"
    ]


@pytest.mark.usefixtures("log_levels")
def test_log_level_is_that_of_our_loggers() -> None:
    """Those of other libraries keep theirs."""
    Config().log_level = "ERROR"
    assert logging.getLogger("ngff_core").level == logging.ERROR
    assert logging.getLogger("ngff_flows").level == logging.ERROR
    assert logging.getLogger("zarr").level == logging.NOTSET
    Config().log_level = None
    assert logging.getLogger("ngff_core").level == logging.NOTSET


def test_documentation_lists_every_setting_with_its_default() -> None:
    """One row for each, in the order of the class."""
    rows = re.findall(
        r"^\| `(NGFF_[A-Z_]+)` \| `config\.(\w+)` \| ([^|]+) \|",
        DOCUMENTATION.read_text("utf-8"),
        re.MULTILINE,
    )
    assert rows == [
        (variable(name), name, setting.default_text) for name, setting in settings().items()
    ]


def test_documentation_lists_the_receivers_settings() -> None:
    """They are read by `ngff_flows.receiver`, and nowhere else."""
    code = (DOCUMENTATION.parents[1] / "ngff_flows" / "receiver.py").read_text("utf-8")
    read = re.findall(r'(?:text|listed)\("(\w+)"', code)
    assert read
    text = DOCUMENTATION.read_text("utf-8")
    assert [name for name in read if f"`NGFF_RECEIVER_{name}`" not in text] == []
