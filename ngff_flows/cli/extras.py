"""Parts of the installation that some commands need and others do not."""

from __future__ import annotations

from importlib.util import find_spec

from ngff_core.errors import CallerError


class MissingExtraError(CallerError, ImportError):
    """An extra of this package is not installed; the message names it and a way without it."""


def require_prefect(instead: str) -> None:
    """Raise MissingExtraError where Prefect is not installed; ``instead`` says what to do then."""
    if find_spec("prefect") is None:
        raise MissingExtraError(
            f"Prefect is not installed: install it by pip install 'ngff-flows[flows]', or {instead}"
        )
