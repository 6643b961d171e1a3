"""Credentials of a run: those of a saved Prefect block, or of whoever started it here.

What a block holds is read where storage is opened, and handed on to fsspec. It is no
parameter of a run: Prefect keeps those, and shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.storage import StorageOptions

Blocks = str | Sequence[str] | None
"""Names of saved blocks, such as ``gcs-bucket/lab``."""


@dataclass
class _Terminal:
    """Options that the command line was given for the runs of this process."""

    options: StorageOptions | None = None


_terminal = _Terminal()


@contextmanager
def given(options: StorageOptions | None) -> Iterator[None]:
    """Runs in this process use ``options`` where they name no block."""
    _terminal.options = options
    try:
        yield
    finally:
        _terminal.options = None


def storage_options(blocks: Blocks) -> StorageOptions | None:
    """What fsspec's filesystems are to be given, by protocol where the blocks say of which.

    Raises InvalidOptionError for a block that is not saved, or not of a kind known here.
    """
    names = [blocks] if isinstance(blocks, str) else list(blocks or ())
    if not names:
        return _terminal.options
    found = [_of_block(name) for name in names]
    if len(found) == 1 and not found[0][0]:
        return found[0][1]
    merged: dict[str, Any] = {}
    for name, (protocol, options) in zip(names, found, strict=True):
        more = {protocol: options} if protocol else dict(options)
        if not all(isinstance(value, Mapping) for value in more.values()):
            raise InvalidOptionError(
                f"storage_block: {name} does not say of which protocol its options are; beside "
                'other blocks write them as {"s3": {…}}'
            )
        if merged.keys() & more.keys():
            raise InvalidOptionError(f"storage_block: {name} and another are of one protocol")
        merged |= more
    return merged


def _of_block(name: str) -> tuple[str, StorageOptions]:
    """The protocol that a block's options are for, if it says so, and the options."""
    slug, slash, document = name.partition("/")
    if not (slug and slash and document):
        raise InvalidOptionError(
            f"storage_block: {name!r} is no name of a block; write KIND/NAME, such as s3-bucket/lab"
        )
    if slug not in _KINDS:
        raise InvalidOptionError(
            f"storage_block: {slug} is none of the kinds {', '.join(sorted(_KINDS))}"
        )
    return _KINDS[slug](name, _read(name, slug, document))


def _read(name: str, slug: str, document: str) -> Mapping[str, Any]:
    # The document and not the block itself: its class is in a package that need not be here.
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(document, slug)
        except ObjectNotFound:
            raise InvalidOptionError(f"storage_block: no block {name} is saved") from None
    data: Mapping[str, Any] = found.data
    return data


def _google(name: str, data: Mapping[str, Any]) -> tuple[str, StorageOptions]:
    data = data.get("gcp_credentials") or data
    key = _mapping(name, data.get("service_account_info")) or data.get("service_account_file")
    return "gs", _present({"token": key, "project": data.get("project")})


def _amazon(_name: str, data: Mapping[str, Any]) -> tuple[str, StorageOptions]:
    data = data.get("credentials") or data
    client = data.get("aws_client_parameters") or {}
    region = _present({"region_name": data.get("region_name"), "verify": _verify(client)})
    return "s3", _present(
        {
            "key": data.get("aws_access_key_id") or data.get("minio_root_user"),
            "secret": data.get("aws_secret_access_key") or data.get("minio_root_password"),
            "token": data.get("aws_session_token"),
            "profile": data.get("profile_name"),
            "endpoint_url": client.get("endpoint_url"),
            "use_ssl": None if client.get("use_ssl") in (None, True) else False,
            "client_kwargs": region or None,
        }
    )


def _verify(client: Mapping[str, Any]) -> Any:
    """What botocore is told about certificates, where that is not its default."""
    if client.get("verify") is False:
        return False
    path = client.get("verify_cert_path")
    return str(path) if path else None


def _remote(_name: str, data: Mapping[str, Any]) -> tuple[str, StorageOptions]:
    protocol = str(data.get("basepath", "")).partition("://")[0]
    return protocol, dict(data.get("settings") or {})


def _secret(name: str, data: Mapping[str, Any]) -> tuple[str, StorageOptions]:
    return "", _mapping(name, data.get("value")) or {}


_KINDS = {
    "aws-credentials": _amazon,
    "gcp-credentials": _google,
    "gcs-bucket": _google,
    "minio-credentials": _amazon,
    "remote-file-system": _remote,
    "s3-bucket": _amazon,
    "secret": _secret,
}


def _mapping(name: str, value: Any) -> Mapping[str, Any] | None:
    """A JSON object, as such or as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            # Without its cause: that holds the text.
            raise InvalidOptionError(f"storage_block: {name} does not hold JSON") from None
    if value is not None and not isinstance(value, Mapping):
        raise InvalidOptionError(f"storage_block: {name} does not hold a JSON object")
    return value


def _present(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
