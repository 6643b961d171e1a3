"""How options are spelled on a command line."""

from __future__ import annotations

import json
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
