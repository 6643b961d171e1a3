"""From the text of a command line to option values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ngff_core.errors import InvalidOptionError


def parse_sizes(option: str, text: str | None) -> Any:
    """Sizes or factors: an int, a list such as ``64,256,256``, or JSON; None for no text.

    Raises InvalidOptionError, with the option's name, for any other text.

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
        # A comma at the end makes a list of one number.
        parts = [int(part) for part in text.rstrip().removesuffix(",").split(",")]
    except ValueError as error:
        raise InvalidOptionError(
            f"--{option} {text!r} is not a number, a list such as 2,4,8, nor JSON"
        ) from error
    return parts if "," in text else parts[0]


def parse_pairs(option: str, text: str | None, kind: type[Any], *, alone: bool = False) -> Any:
    """Values by axis, such as ``z=2,y=0.5``; or, if ``alone``, one text for all axes.

    >>> parse_pairs("scale", "z=2,y=0.5", float)
    {'z': 2.0, 'y': 0.5}
    >>> parse_pairs("units", "micrometer", str, alone=True)
    'micrometer'
    """
    if text is None:
        return None
    if alone and "=" not in text:
        return text.strip()
    pairs: dict[str, Any] = {}
    for part in text.split(","):
        name, found, value = part.partition("=")
        try:
            if not found or name.strip() in pairs:
                raise ValueError(part)
            pairs[name.strip()] = kind(value.strip())
        except ValueError:
            raise InvalidOptionError(
                f"--{option} {text!r} is not a list of one value for each axis, such as "
                f"z={_EXAMPLES[kind]},y={_EXAMPLES[kind]}"
            ) from None
    return pairs


_EXAMPLES = {float: "0.5", int: "3", str: "micrometer"}


def parse_names(text: str | None) -> list[str] | None:
    """Names that commas separate.

    >>> parse_names("DAPI, GFP")
    ['DAPI', 'GFP']
    """
    return None if text is None else [part.strip() for part in text.split(",")]


SWITCHED_ON = "on"
_SWITCHES = {SWITCHED_ON: True, "off": False}


def parse_switch(option: str, text: str) -> bool:
    """Whether something is on.

    >>> parse_switch("checksums", "off")
    False
    """
    try:
        return _SWITCHES[text.strip().lower()]
    except KeyError:
        raise InvalidOptionError(f"--{option} {text!r} is neither on nor off") from None


def parse_storage_options(text: str | None) -> dict[str, Any] | None:
    """Storage options from a JSON object, or from the file named after an ``@``.

    Error messages never quote the text: it may hold secrets.

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
            raise InvalidOptionError(
                f"--storage-options: {path} cannot be read as a text file"
            ) from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidOptionError(
            '--storage-options: this is not a JSON object, such as {"endpoint_url": "https://…"}; '
            "write @FILE to read it from a file"
        )
    return found
