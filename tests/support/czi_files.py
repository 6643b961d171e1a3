"""Writes small Zeiss CZI files by hand, as far as czifile reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import imagecodecs
import numpy as np

PIXEL_TYPES = {("u1", 1): 0, ("u2", 1): 1, ("f4", 1): 2, ("u1", 3): 3, ("u2", 3): 4}
JPEG_XR = 4
ZSTD = 5


@dataclass(frozen=True)
class Block:
    """A subblock: its samples as (y, x) or (y, x, blue-green-red), and where it lies."""

    samples: np.ndarray
    start: Mapping[str, int]
    """By letter; X and Y in pixels, M the order, S the scene. Order: fastest axis first."""
    compression: int = 0
    pyramid: int = 1
    """How many pixels of the image each sample stands for, in y and x."""
    pyramid_type: int = 0
    claimed: tuple[int, int] | None = None
    """Rows and columns that the directory says, in place of those that are stored."""


@dataclass(frozen=True)
class Czi:
    """A file: its subblocks, and its metadata."""

    blocks: Sequence[Block]
    xml: str = ""
    attachments: Sequence[str] = field(default=())
    """Names of pictures."""


def xml(
    sizes: Mapping[str, str] | None = None,
    scenes: Sequence[tuple[str, str]] = (),
    channels: Sequence[tuple[str, str]] = (),
    times: str = "",
    extra: str = "",
) -> str:
    """Metadata: meters by axis, (name, well) of scenes, (name, color) of channels, offsets."""
    distances = "".join(
        f'<Distance Id="{axis}"><Value>{value}</Value></Distance>'
        for axis, value in (sizes or {}).items()
    )
    named = "".join(
        f'<Scene Index="{i}" Name="{name}"><Shape Name="{well}"/></Scene>'
        for i, (name, well) in enumerate(scenes)
    )
    colors = "".join(
        f'<Channel Id="Channel:{i}" Name="{name}"><Color>{color}</Color></Channel>'
        for i, (name, color) in enumerate(channels)
    )
    positions = f"<Positions><List><Offsets>{times}</Offsets></List></Positions>" if times else ""
    return (
        f"<ImageDocument><Metadata><Information><Image><Dimensions><Channels>{colors}</Channels>"
        f"<S><Scenes>{named}</Scenes></S><T>{positions}</T>{extra}</Dimensions></Image>"
        f"</Information><Scaling><Items>{distances}</Items></Scaling></Metadata></ImageDocument>"
    )


def czi_bytes(czi: Czi) -> bytes:
    """The file."""
    body, entries, offset = b"", [], 32 + 512
    for block in czi.blocks:
        segment, entry = _subblock(block, offset + len(body))
        entries.append(entry)
        body += segment
    directory = offset + len(body)
    data = struct.pack("<i124x", len(entries)) + b"".join(entries)
    body += _segment(b"ZISRAWDIRECTORY", data)
    metadata = offset + len(body)
    text = czi.xml.encode()
    body += _segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    attached = offset + len(body) if czi.attachments else 0
    if czi.attachments:
        found = b"".join(_attachment(name) for name in czi.attachments)
        body += _segment(b"ZISRAWATTDIR", struct.pack("<i252x", len(czi.attachments)) + found)
    header = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, b"", b"", 0, directory, metadata, 0, attached
    )
    return _segment(b"ZISRAWFILE", header.ljust(512, b"\0")) + body


def _segment(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<16sqq", kind, len(data), len(data)) + data


def _attachment(name: str) -> bytes:
    return struct.pack("<2s10sqi16s8s80s", b"A1", b"", 0, 0, b"", b"JPG", name.encode())


def _subblock(block: Block, offset: int) -> tuple[bytes, bytes]:
    samples = np.ascontiguousarray(block.samples)
    data = samples.tobytes()
    if block.compression == ZSTD:
        data = imagecodecs.zstd_encode(data)
    elif block.compression == JPEG_XR:
        data = imagecodecs.jpegxr_encode(samples, level=100)
    entry = _entry(block, samples, offset)
    padded = entry.ljust(240, b"\0")
    head = struct.pack("<iiq", 0, 0, len(data))
    return _segment(b"ZISRAWSUBBLOCK", head + padded + data), entry


def _entry(block: Block, samples: np.ndarray, offset: int) -> bytes:
    colors = samples.shape[2] if samples.ndim == 3 else 1
    kind = PIXEL_TYPES[samples.dtype.str[1:], colors]
    rows, columns = block.claimed or samples.shape[:2]
    lengths = {"X": columns, "Y": rows}
    dimensions = b""
    for name, start in block.start.items():
        stored = lengths.get(name, 1)
        size = stored * (block.pyramid if name in lengths else 1)
        dimensions += struct.pack("<4siifi", name.encode(), start, size, 0.0, stored)
    count = len(block.start)
    return (
        struct.pack(
            "<2siqiiBB4si",
            b"DV",
            kind,
            offset,
            0,
            block.compression,
            block.pyramid_type,
            0,
            b"",
            count,
        )
        + dimensions
    )


SIZE = {"X": "4E-07", "Y": "4E-07", "Z": "1E-06"}


def write(path, blocks, document="", attachments=()):
    path.write_bytes(czi_bytes(Czi(blocks, document, attachments)))
    return path


def tile(seed, shape=(6, 8), dtype="u2"):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def mosaic(compression=0):
    """Overlapping tiles, listed in another order than M, and their picture by plain numpy."""
    starts = [(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)]
    tiles = [tile(i) for i in range(5)]
    picture = np.zeros((10, 14), "u2")
    for (y, x), samples in zip(starts, tiles, strict=True):
        picture[y : y + 6, x : x + 8] = samples
    blocks = [
        Block(tiles[m], {"X": 100 + x, "Y": 50 + y, "C": 0, "S": 0, "M": m}, compression)
        for m, (y, x) in reversed(list(enumerate(starts)))
    ]
    return blocks, picture
