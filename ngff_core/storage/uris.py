"""URIs and paths: split, made absolute, and shown without credentials."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from ngff_core.errors import InvalidOptionError


def check_uri(uri: str) -> None:
    """Raise InvalidOptionError for a URI that contains credentials.

    Plans, logs and run pages show URIs. The message has the URI without the credentials.
    """
    if uri != public_uri(uri):
        raise InvalidOptionError(
            f"{public_uri(uri)}: the URI contains a user, a password or a query, and plans, "
            "reports and logs would show them; give credentials with storage options"
        )


def public_uri(uri: str) -> str:
    """A URI without user and password; without its query too if it is http or https.

    >>> public_uri("https://me:pw@images.org/a.npy?signature=5"), public_uri("s3://lab/what?.npy")
    ('https://images.org/a.npy', 's3://lab/what?.npy')
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return uri
    host, slash, path = rest.partition("/")
    if scheme in ("http", "https"):
        path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """The URI of the folder that contains ``uri``, and the name in it.

    A bucket is in no folder: its name is empty.

    >>> split_uri("gs://lab/brain.ome.zarr"), split_uri("gs://lab/")
    (('gs://lab', 'brain.ome.zarr'), ('gs://lab', ''))
    """
    text = os.fspath(uri).rstrip("/")
    if is_bucket(text):
        return text, ""
    if "://" in text and not text.startswith("file://"):
        head, _, name = text.rpartition("/")
        return head, name
    path = Path(text.removeprefix("file://")).expanduser().absolute()
    return str(path.parent), path.name


def absolute_uri(uri: str | os.PathLike[str]) -> str:
    """The URI, or the local path made absolute, as plans and reports show it.

    >>> absolute_uri("gs://lab/"), absolute_uri("gs://lab/brain.ome.zarr/")
    ('gs://lab', 'gs://lab/brain.ome.zarr')
    """
    head, name = split_uri(uri)
    return f"{head}/{name}".rstrip("/") if "://" in head else str(PurePosixPath(head) / name)


def is_bucket(uri: str) -> bool:
    """Whether a URI names a bucket, and no path in it.

    >>> is_bucket("gs://lab/"), is_bucket("gs://lab/in"), is_bucket("/data")
    (True, False, False)
    """
    scheme, separator, path = uri.partition("://")
    return bool(separator) and scheme != "file" and "/" not in path.rstrip("/")


def canonical_uri(uri: str) -> str:
    """One text for every spelling of a location: links, ``..`` and slashes resolved.

    >>> canonical_uri("gcs://lab//brain.ome.zarr/")
    'gs://lab/brain.ome.zarr'
    """
    scheme, separator, path = uri.partition("://")
    if separator and scheme != "file":
        parts = [part for part in path.split("/") if part]
        return f"{'gs' if scheme == 'gcs' else scheme}://{'/'.join(parts)}"
    return os.path.realpath(path if separator else uri)


def is_remote(uri: str) -> bool:
    """Whether reading and writing there uses a network.

    >>> is_remote("gs://images/brain.ome.zarr"), is_remote("/data/brain.ome.zarr")
    (True, False)
    """
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme not in ("file", "memory", "local")
