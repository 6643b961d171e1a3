"""Every error belongs to a family that says what to do, and is also a builtin exception."""

from __future__ import annotations

import inspect

import pytest

from ngff_core import errors

DOCUMENTED = [
    (errors.InvalidOptionError, errors.CallerError, ValueError),
    (errors.UnsupportedDtypeError, errors.CallerError, TypeError),
    (errors.MemoryLimitError, errors.CallerError, MemoryError),
    (errors.SourceNotFoundError, errors.CallerError, FileNotFoundError),
    (errors.SourceFormatError, errors.CallerError, ValueError),
    (errors.UnsafeNameError, errors.CallerError, ValueError),
    (errors.SourceChangedError, errors.CallerError, ValueError),
    (errors.TargetExistsError, errors.CallerError, FileExistsError),
    (errors.TargetNotFoundError, errors.CallerError, FileNotFoundError),
    (errors.ClusterUnfitError, errors.CallerError, ValueError),
    (errors.UnlistableError, errors.CallerError, PermissionError),
    (errors.StoredDataError, errors.NgffError, ValueError),
    (errors.TransientError, errors.NgffError, OSError),
    (errors.TargetBusyError, errors.TransientError, OSError),
    (errors.LeaseLostError, errors.TransientError, OSError),
    (errors.ClusterError, errors.TransientError, OSError),
]
FAMILIES = (errors.CallerError, errors.StoredDataError, errors.TransientError)


@pytest.mark.parametrize(("error", "family", "builtin"), DOCUMENTED)
def test_an_error_can_be_caught_without_knowing_this_package(
    error: type[Exception], family: type[Exception], builtin: type[Exception]
) -> None:
    """``except ValueError`` (or OSError ...) is enough, and keeps the message."""
    with pytest.raises(builtin, match="what to do next") as caught:
        raise error("what to do next")
    assert isinstance(caught.value, family)
    assert isinstance(caught.value, errors.NgffError)


def test_every_error_is_documented_here_and_belongs_to_one_family() -> None:
    """The family says whether running again can help."""
    every = {e for _, e in inspect.getmembers(errors, inspect.isclass) if e is not BaseException}
    assert every - {errors.NgffError, errors.CallerError} == {error for error, _, _ in DOCUMENTED}
    for error, _, _ in DOCUMENTED:
        assert sum(issubclass(error, family) for family in FAMILIES) == 1, error
