"""How options are spelled on a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ngff_core.errors import InvalidOptionError


def parse_sizes(option: str, text: str | None) -> Any:
    """An int, a list such as ``64,256,256``, or JSON.

    >>> parse_sizes("chunks", "64,256,256")
    [64, 256, 256]
    >>> parse_sizes("scale-factors", '[2, {"z": 1, "y": 4, "x": 4}]')
    [2, {'z': 1, 'y': 4, 'x': 4}]
    """
    if text is None:
        return None
    try:
        if text.lstrip()[:1] in ("[", "{"):
            return json.loads(text)
        # a comma at the end makes a list of one
        parts = [int(part) for part in text.rstrip().removesuffix(",").split(",")]
    except ValueError as error:
        raise InvalidOptionError(
            f"--{option} {text!r} is neither an int, a list such as 2,4,8, nor JSON"
        ) from error
    return parts if "," in text else parts[0]


def parse_storage_options(text: str | None) -> dict[str, Any] | None:
    """The JSON object that ``text`` is, or that the file after an ``@`` holds.

    No message repeats any of it: it may hold secrets.

    >>> parse_storage_options('{"anon": true}')
    {'anon': True}
    """
    if text is None:
        return None
    if text.startswith("@"):
        path = Path(text[1:]).expanduser()
        try:
            text = path.read_text("utf-8")
        except (OSError, ValueError):
            raise InvalidOptionError(f"storage-options: {path} cannot be read") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidOptionError(
            'storage-options: not a JSON object, such as {"endpoint_url": "https://…"}; '
            "write @FILE for one that lies in a file"
        )
    return found
