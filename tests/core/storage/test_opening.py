"""URIs of clouds are opened with the options for them, and errors show none of their values."""

from __future__ import annotations

from typing import Any

import pytest

from ngff_core.errors import InvalidOptionError, TransientError
from ngff_core.storage import Bucket, open_store, opening
from ngff_core.storage.opening import open_bucket, options_of


@pytest.mark.parametrize(
    ("scheme", "options", "expected"),
    [
        ("s3", {}, {}),
        ("s3", {"key": "k"}, {"key": "k"}),
        ("s3", {"s3": {"key": "k"}, "gs": {"token": "t"}}, {"key": "k"}),
        ("memory", {"s3": {"key": "k"}}, {}),
        ("gs", {"gs": {"token": "t"}}, {"token": "t"}),
        ("gcs", {"gs": {"token": "t"}}, {"token": "t"}),
        ("gs", {"gcs": {"token": "t"}, "gs": {"project": "p"}}, {"token": "t", "project": "p"}),
        # options of one protocol, though their names are protocols or their values mappings
        ("s3", {"s3": "x"}, {"s3": "x"}),
        ("s3", {"client_kwargs": {}}, {"client_kwargs": {}}),
    ],
)
def test_options_may_be_given_by_protocol(
    scheme: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert options_of(scheme, options) == expected


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError, InvalidOptionError),
        (TypeError, InvalidOptionError),
        (ImportError, InvalidOptionError),
        (TimeoutError, TransientError),
        (ConnectionError, TransientError),
        (RuntimeError, PermissionError),
    ],
)
def test_a_client_that_cannot_be_made_shows_no_credentials(
    raised: type[Exception], expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the URI; no value is in it or in a cause, however it is written."""
    options = {"a": "top secret", "b": {"c": ["x/ÿ'z", ("deep",)]}, "d": "", "e": 3}

    def fail(*_: Any) -> Any:
        raise raised("top secret top%20secret x/%C3%BF%27z x%2F%C3%BF%27z deep 3 plain")

    monkeypatch.setattr(opening, "_filesystem", fail)
    with pytest.raises(expected) as caught:
        open_bucket("s3", "s3://lab/a", options)
    assert str(caught.value) == "s3://lab/a: *** *** *** *** *** 3 plain"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_unknown_scheme_is_refused() -> None:
    """With the URI, as the caller's mistake."""
    with pytest.raises(InvalidOptionError, match="nosuch://bucket/x"):
        open_store("nosuch://bucket/x")


@pytest.mark.parametrize("scheme", ["gs", "gcs", "s3"])
def test_buckets_of_clouds_get_our_clients(scheme: str) -> None:
    """Those with our retries; nothing is asked over the network."""
    options = {"token": "anon"} if scheme != "s3" else {"key": "k", "secret": "s"}
    store = open_store(f"{scheme}://lab/a/b.zarr/", options)
    assert isinstance(store, Bucket)
    assert (store.root, store.uri) == ("lab/a/b.zarr", f"{scheme}://lab/a/b.zarr")
    assert type(store._fs).__module__.startswith("ngff_core.storage.")
