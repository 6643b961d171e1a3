"""A URI of a cloud becomes a `Bucket`: the client is chosen, made and signed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ngff_core.errors import InvalidOptionError, TransientError
from ngff_core.storage.base import StorageOptions
from ngff_core.storage.bucket import Bucket
from ngff_core.storage.transient import is_transient


def open_bucket(scheme: str, uri: str, options: dict[str, Any]) -> Bucket:
    """The bucket at a URI.

    Raises InvalidOptionError for options the client does not accept, PermissionError if it
    cannot sign in, TransientError if signing in failed in a way that may pass. No message
    contains the values of ``options``.
    """
    try:
        fs, root = _filesystem(scheme, uri, options)
    except Exception as error:  # noqa: BLE001 - clients raise any type while signing in
        # Without the cause: its message may contain the credentials.
        message = f"{uri}: {_without_values(str(error), options)}"
        if isinstance(error, ValueError | ImportError | TypeError):
            raise InvalidOptionError(message) from None
        if is_transient(error):
            raise TransientError(message) from None
        raise PermissionError(message) from None
    return Bucket(fs, root, uri)


def _filesystem(scheme: str, uri: str, options: dict[str, Any]) -> tuple[Any, str]:
    """The fsspec filesystem for a URI, and the path in it."""
    if scheme in ("gs", "gcs"):
        from ngff_core.storage.gcs import open_google

        return open_google(uri, options)
    if scheme == "s3":
        from ngff_core.storage.s3 import open_amazon

        return open_amazon(uri, options)
    import fsspec

    fs, root = fsspec.core.url_to_fs(uri, **options)
    return fs, str(root)


def options_of(scheme: str, options: StorageOptions) -> dict[str, Any]:
    """The options for one protocol, where they are given by protocol; else all of them."""
    from fsspec.registry import known_implementations

    by_protocol = all(
        name in known_implementations and isinstance(value, Mapping)
        for name, value in options.items()
    )
    if not by_protocol:
        return dict(options)
    same = ("gs", "gcs") if scheme in ("gs", "gcs") else (scheme,)
    return {k: v for name in same for k, v in dict(options.get(name, {})).items()}


def _without_values(text: str, options: Any) -> str:
    """``text`` with every text value in ``options``, however deep, replaced by ``***``."""
    if isinstance(options, Mapping):
        for value in options.values():
            text = _without_values(text, value)
    elif isinstance(options, list | tuple):
        for value in options:
            text = _without_values(text, value)
    elif isinstance(options, str) and options:
        for spelled in (options, quote(options), quote(options, safe=""), repr(options)[1:-1]):
            text = text.replace(spelled, "***")
    return text
