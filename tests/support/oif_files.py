"""Writes small Olympus OIF files by hand: settings, and a folder of planes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile


def write_oif(
    folder: Path,
    axes: str,
    array: np.ndarray,
    *,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    skip: int = 0,
) -> Path:
    """An OIF of an array whose axes are given in its order, such as ``TZCYX``.

    ``settings`` are added to the sections; the last ``skip`` planes are not written.
    """
    path = folder / "a.oif"
    planes = folder / "a.oif.files"
    planes.mkdir(exist_ok=True)
    positions = list(np.ndindex(*array.shape[:-2]))
    for position in positions[: len(positions) - skip]:
        name = "".join(f"{a}{i + 1:03}" for a, i in zip(axes, position, strict=False))
        tifffile.imwrite(planes / f"s_{name}.tif", array[position])
    sections = _sections(axes, array.shape, array.itemsize)
    for section, values in (settings or {}).items():
        sections.setdefault(section, {}).update(values)
    for number, color in enumerate(((0, 255, 0, 0), (0, 0, 255, 0))):
        _write_table(planes / f"s_LUT{number + 1}.lut", color)
    text = "".join(
        f"[{name}]\r\n" + "".join(f"{k}={_quoted(v)}\r\n" for k, v in values.items())
        for name, values in sections.items()
    )
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    return path


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _write_table(path: Path, last: tuple[int, int, int, int]) -> None:
    """A lookup table from black to a color, blue first."""
    table = np.zeros((256, 4), "u1")
    table[-1] = last
    text = '[FileInformation]\r\nName="LUT"\r\n[ColorLUTData]\r\n'
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") + table.tobytes())


def _sections(axes: str, shape: tuple[int, ...], itemsize: int) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {
        "Axis Parameter Common": {"AxisCount": len(axes), "AxisOrder": axes[::-1]},
        "File Info": {"DataName": "cells.oif"},
        "ProfileSaveInfo": {
            "Name": "n",
            "Version": "2.0.0.0",
            "LutFileName0": "a.oif.files\\s_LUT1.lut",
            "LutFileName1": "a.oif.files\\s_LUT2.lut",
        },
        "Channel 1 Parameters": {"DyeName": "", "CH Name": "CH1"},
        "Channel 2 Parameters": {"DyeName": "Alexa", "CH Name": "CH2"},
        "Reference Image Parameter": {
            "ImageDepth": itemsize,
            "ValidBitCounts": 12 if itemsize == 2 else 8,
            "WidthConvertValue": 0.2,
            "WidthUnit": "um",
            "HeightConvertValue": 0.2,
            "HeightUnit": "um",
        },
    }
    lengths = dict(zip(axes, shape, strict=True))
    steps = {"Z": (0.0, 840, "nm"), "T": (0.0, 0, "ms")}
    for number, axis in enumerate("XYCZTALP"):
        start, interval, unit = steps.get(axis, (0.0, 0, "um"))
        length = lengths.get(axis, 0)
        found[f"Axis {number} Parameters Common"] = {
            "AxisCode": axis,
            "MaxSize": length,
            "StartPosition": start,
            "EndPosition": 500.0 * max(0, length - 1),
            "Interval": interval,
            "UnitName": unit,
        }
    return found
