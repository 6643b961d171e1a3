"""Frames of Micro-Manager's files."""

from tests.support.tiffs import pages_of

DATA = pages_of((2, 3, 4, 10, 12))
"""Times, channels, slices."""


def frames(labels=False):
    """All frames, in an order of acquisition that is none of the axes'."""
    names = ["DAPI", "FITC", "Cy5"]
    return [
        ({"z": z - 1, "time": t, "channel": names[c] if labels else c}, DATA[t, c, z])
        for z in range(4)
        for t in range(2)
        for c in range(3)
    ]


SUMMARY = {"Frames": 2, "Slices": 4, "Channels": 3, "Positions": 2, "ChNames": ["a", "b", "c"]}


def stack_frames(position):
    return [
        ((c, z, t, position), DATA[t, c, z] + position)
        for t in range(2)
        for z in range(4)
        for c in range(3)
    ]
