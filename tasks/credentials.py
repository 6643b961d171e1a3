"""Storage options of a run: from saved Prefect blocks, or from the process that runs it.

A run's parameters name a block. The values in the block are read where storage is opened, and
go to fsspec only: Prefect stores the parameters of a run, and shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.storage import StorageOptions

Blocks = str | Sequence[str] | None
"""Names of saved blocks, such as ``gcs-bucket/lab``."""


# Prefect runs each task in a copy of its flow's context, in whatever thread.
_of_run: ContextVar[StorageOptions | None] = ContextVar("storage options of a run", default=None)


@contextmanager
def credentials_of_run(options: StorageOptions | None) -> Iterator[None]:
    """Runs started within this context use ``options`` where they name no block."""
    token = _of_run.set(options)
    try:
        yield
    finally:
        _of_run.reset(token)


def storage_options(blocks: Blocks) -> StorageOptions | None:
    """Options for fsspec's filesystems, by protocol where the blocks name one.

    Without ``blocks``, those of `credentials_of_run`. Raises InvalidOptionError for a block
    that does not exist or has an unknown kind.
    """
    names = [blocks] if isinstance(blocks, str) else list(blocks or ())
    if not names:
        return _of_run.get()
    by_block = [_from_block(name) for name in names]
    if len(by_block) == 1 and not by_block[0][0]:
        return by_block[0][1]
    merged: dict[str, Any] = {}
    for name, (protocol, options) in zip(names, by_block, strict=True):
        more = {protocol: options} if protocol else dict(options)
        if not all(isinstance(value, Mapping) for value in more.values()):
            raise InvalidOptionError(
                f"storage_block: {name} does not name the protocol of its options; beside other "
                'blocks write them as {"s3": {…}}'
            )
        if merged.keys() & more.keys():
            raise InvalidOptionError(
                f"storage_block: {name} and another block have options for the same protocol; "
                "name one of them"
            )
        merged |= more
    return merged


def _from_block(name: str) -> tuple[str, StorageOptions]:
    """The protocol of a block's options, "" where it names none, and the options."""
    slug, slash, document = name.partition("/")
    if not (slug and slash and document):
        raise InvalidOptionError(
            f"storage_block: {name!r} is not the name of a block; write KIND/NAME, such as "
            "s3-bucket/lab"
        )
    if slug not in _KINDS:
        raise InvalidOptionError(
            f"storage_block: {slug!r} is not one of the kinds {', '.join(sorted(_KINDS))}"
        )
    return _KINDS[slug](name, _read(name, slug, document))


def _read(name: str, slug: str, document: str) -> Mapping[str, Any]:
    # The document, not the block: the block's class is in a package that may not be installed.
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(document, slug)
        except ObjectNotFound:
            raise InvalidOptionError(
                f"storage_block: there is no block {name}; save it first, or choose one from "
                "`prefect block ls`"
            ) from None
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
    """How botocore checks certificates, None for its default."""
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
    """A JSON object, given as a mapping or as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            # Without its cause, which quotes the text.
            raise InvalidOptionError(f"storage_block: {name} does not hold JSON") from None
    if value is not None and not isinstance(value, Mapping):
        raise InvalidOptionError(f"storage_block: {name} does not hold a JSON object")
    return value


def _present(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
