"""URIs and paths: taken apart, made absolute, and shown without secrets."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from ngff_core.errors import InvalidOptionError


def check_uri(uri: str) -> None:
    """Raise InvalidOptionError for a URI that holds credentials.

    Plans, logs and run pages show URIs. The message has the URI without them.
    """
    if uri != public_uri(uri):
        raise InvalidOptionError(
            f"{public_uri(uri)}: a URI with a user, a password or a query would be shown in "
            "plans, reports and logs; give credentials by storage options"
        )


def public_uri(uri: str) -> str:
    """A URI without user and password, and one of the web without its query.

    >>> public_uri("https://me:pw@images.org/a.npy?signature=5"), public_uri("s3://lab/what?.npy")
    ('https://images.org/a.npy', 's3://lab/what?.npy')
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return uri
    place, slash, path = rest.partition("/")
    if scheme in ("http", "https"):
        path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """The URI of the folder that holds ``uri``, and the last part of its name.

    A bucket is in no folder.

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
    """The URI with a local path made absolute, as plans and reports name it.

    >>> absolute_uri("gs://lab/"), absolute_uri("gs://lab/brain.ome.zarr/")
    ('gs://lab', 'gs://lab/brain.ome.zarr')
    """
    head, name = split_uri(uri)
    return f"{head}/{name}".rstrip("/") if "://" in head else str(PurePosixPath(head) / name)


def is_bucket(uri: str) -> bool:
    """Whether a URI names a bucket and nothing in it.

    >>> is_bucket("gs://lab/"), is_bucket("gs://lab/in"), is_bucket("/data")
    (True, False, False)
    """
    scheme, separator, path = uri.partition("://")
    return bool(separator) and scheme != "file" and "/" not in path.rstrip("/")


def canonical_uri(uri: str) -> str:
    """The same text for every spelling of one place: links, ``..`` and slashes resolved."""
    scheme, separator, path = uri.partition("://")
    if separator and scheme != "file":
        parts = [part for part in path.split("/") if part]
        return f"{'gs' if scheme == 'gcs' else scheme}://{'/'.join(parts)}"
    return os.path.realpath(path if separator else uri)


def is_remote(uri: str) -> bool:
    """Whether bytes go over a network to what lies there.

    >>> is_remote("gs://images/brain.ome.zarr"), is_remote("/data/brain.ome.zarr")
    (True, False)
    """
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme not in ("file", "memory", "local")
