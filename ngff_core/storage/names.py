"""Names that come from outside: uploads, members of archives, levels, wells, labels.

Anyone who may upload can choose such a name. It is checked here before it becomes part of a path or
URI that is read or written.
"""

from __future__ import annotations

from ngff_core.errors import UnsafeNameError

_LONGEST = 255
"""Bytes of one part of a path, as file systems limit it."""


def why_unsafe(path: str) -> str | None:
    """Why a relative path must not be used; None if it stays below any folder it is put in.

    >>> why_unsafe("mouse/brain.tif") is None
    True
    >>> why_unsafe("mouse/../../brain.tif")
    "its part '..' leads out of its folder"
    """
    for part in path.split("/"):
        if part in (".", ".."):
            return f"its part {part!r} leads out of its folder"
        if not part:
            return "it begins or ends with a slash, or has two in a row"
        if not part.isprintable():
            return "it has characters that cannot be printed"
        if len(part.encode(errors="surrogatepass")) > _LONGEST:
            return f"a part of it is longer than {_LONGEST} bytes"
    return None


def check_name(path: str, what: str) -> str:
    """``path`` if it stays below any folder it is put in.

    Raises `UnsafeNameError`, whose message begins with ``what``, otherwise.
    """
    reason = why_unsafe(path)
    if reason is not None:
        raise UnsafeNameError(f"{what}: the name {path!r} is refused: {reason}")
    return path
