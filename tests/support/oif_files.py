"""Writes small Olympus OIF files by hand: settings, and a folder of planes."""

from __future__ import annotations

import struct
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


_END, _FREE, _NONE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFF


def oib_of(oif: Path) -> bytes:
    """The OIB, a compound document, with the settings and planes of an OIF."""
    planes = sorted(Path(f"{oif}.files").iterdir())
    names = [oif.name, *(f"Storage00001/{each.name}" for each in planes)]
    info = '[OibSaveInfo]\r\nName="n"\r\nVersion="2.0.0.0"\r\nMainFileName=Stream00000\r\n'
    info += "".join(f'Stream{i:05}="{name}"\r\n' for i, name in enumerate(names))
    streams = {"OibInfo.txt": b"\xff\xfe" + info.encode("utf-16-le")}
    streams |= {f"Stream{i:05}": p.read_bytes() for i, p in enumerate((oif, *planes))}
    return _compound(streams)


def _compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound document of version 3, without small streams, all in its root."""
    content, chains, entries = b"", [], [_entry("Root Entry", 5, _END, 0, _NONE, 1)]
    for number, (name, data) in enumerate(streams.items(), 2):
        start = len(content) // 512
        sectors = max(1, -(-len(data) // 512))
        chains += [*range(start + 1, start + sectors), _END]
        content += data.ljust(sectors * 512, b"\0")
        right = number if number <= len(streams) else _NONE
        entries.append(_entry(name, 2, start, len(data), right, _NONE))
    directory = b"".join(entries)
    directory += b"\0" * (-len(directory) % 512)
    first = len(content) // 512
    chains += [*range(first + 1, first + len(directory) // 512), _END]
    content += directory
    tables = -(-(len(chains) + len(chains) // 127 + 1) // 128)
    place = len(content) // 512
    chains += [0xFFFFFFFD] * tables
    table = np.full(tables * 128, _FREE, "<u4")
    table[: len(chains)] = chains
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + struct.pack(
        "<16sHHHHHHIIIIIIIIII",
        b"",
        0x3E,
        3,
        0xFFFE,
        9,
        6,
        0,
        0,
        0,
        tables,
        first,
        0,
        0,
        _END,
        0,
        _END,
        0,
    )
    places = [place + i if i < tables else _FREE for i in range(109)]
    return header + struct.pack("<109I", *places) + content + table.tobytes()


def _entry(name: str, kind: int, start: int, size: int, right: int, child: int) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16sIQQIQ",
        text,
        len(text),
        kind,
        1,
        _NONE,
        right,
        child,
        b"",
        0,
        0,
        0,
        start,
        size,
    )
