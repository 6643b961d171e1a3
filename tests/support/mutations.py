"""Damages small files in many ways, each found again by the number that it was drawn with."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.support.seed_files import Seed

_HEAD = 512
"""Bytes at both ends of a file that are damaged more often: headers and directories."""

_INTEGERS = (0, 1, -1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 10**9, 2**40, 2**63 - 1)
_NUMBERS = (b"0", b"-1", b"1e308", b"nan", b"999999999", b"99999999999999999999", b"0.5", b"")
_WORDS = (b"null", b"[]", b"{}", b'"', b"<", b">", b"&", b"\xff", b"\n", b"[" * 40, b"/..", b"\0")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WIDE_NUMBER = re.compile(rb"(?:\d\0)+")


@dataclass(frozen=True)
class Mutant:
    """A damaged source.

    Attributes
    ----------
    seed
        With the damaged files.
    how
        What was done to which file.
    cut
        Whether bytes are missing at the end of a file, or a file is missing.
    """

    seed: Seed
    how: str
    cut: bool


def mutate(seed: Seed, number: int) -> Mutant:
    """The mutant of that number."""
    rng = random.Random(f"{seed.name} {number}")
    names = sorted(seed.files)
    name = rng.choice(names)
    data = seed.files[name]
    if len(names) > 1 and rng.random() < 0.03:
        files = {other: data for other, data in seed.files.items() if other != name}
        return Mutant(replace(seed, files=files), f"{name}: removed", True)
    if not data:
        data = b"\0"
    kind = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
    changed = _KINDS[kind][1](rng, data)
    files = {**seed.files, name: changed}
    return Mutant(replace(seed, files=files), f"{name}: {kind}", kind == "cut")


def _place(rng: random.Random, size: int) -> int:
    """A position in a file; two of three times near one of its ends."""
    near = min(size, _HEAD)
    which = rng.randrange(3)
    if which == 0:
        return rng.randrange(near)
    return size - 1 - rng.randrange(near) if which == 1 else rng.randrange(size)


def _flip(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        found[_place(rng, len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, len(data))]


def _range(rng: random.Random, size: int) -> slice:
    start = _place(rng, size)
    return slice(start, min(size, start + rng.choice((1, 2, 4, 8, 64, 512))))


def _zero(rng: random.Random, data: bytes) -> bytes:
    part = _range(rng, len(data))
    return data[: part.start] + bytes(part.stop - part.start) + data[part.stop :]


def _double(rng: random.Random, data: bytes) -> bytes:
    part = _range(rng, len(data))
    return data[: part.stop] + data[part.start :]


def _remove(rng: random.Random, data: bytes) -> bytes:
    part = _range(rng, len(data))
    return data[: part.start] + data[part.stop :]


def _swap(rng: random.Random, data: bytes) -> bytes:
    one, other = _range(rng, len(data)), _range(rng, len(data))
    found = bytearray(data)
    size = min(one.stop - one.start, other.stop - other.start)
    a, b = slice(one.start, one.start + size), slice(other.start, other.start + size)
    found[a], found[b] = data[b], data[a]
    return bytes(found)


def _integer(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((2, 4, 4, 8))
    value = rng.choice(_INTEGERS) & (2 ** (8 * size) - 1)
    packed = struct.pack(rng.choice("<>") + {2: "H", 4: "I", 8: "Q"}[size], value)
    at = _place(rng, len(data))
    at -= at % rng.choice((1, 2, 4))
    return (data[:at] + packed + data[at + size :])[: max(len(data), 1)]


def _number(rng: random.Random, data: bytes) -> bytes:
    """Another number in a text, of single bytes or of UTF-16."""
    wide = list(_WIDE_NUMBER.finditer(data))
    found = wide if len(wide) > 8 and rng.random() < 0.7 else list(_NUMBER.finditer(data))
    if not found:
        return _integer(rng, data)
    match = rng.choice(found)
    text = rng.choice(_NUMBERS)
    if found is wide:
        text = text.decode().encode("utf-16-le")
    # The length is kept every other time, so that what is found by its position stays there.
    if rng.random() < 0.5:
        length = match.end() - match.start()
        filling = b"9\0" if found is wide else b"9"
        text = (text + filling * length)[:length]
    return data[: match.start()] + text + data[match.end() :]


def _word(rng: random.Random, data: bytes) -> bytes:
    part = _range(rng, len(data))
    return data[: part.start] + rng.choice(_WORDS) + data[part.stop :]


_KINDS: dict[str, tuple[int, Callable[[random.Random, bytes], bytes]]] = {
    "bits flipped": (4, _flip),
    "cut": (2, _cut),
    "range zeroed": (2, _zero),
    "range doubled": (1, _double),
    "range removed": (1, _remove),
    "ranges swapped": (1, _swap),
    "integer written": (4, _integer),
    "number in a text": (3, _number),
    "word in a text": (1, _word),
}
