"""Writes small NRRD files by hand."""

import numpy as np

ARRAY = np.arange(4 * 5 * 6, dtype="<i2").reshape(4, 5, 6) * 7 - 300


PLAIN = {"type": "short", "dimension": 3, "sizes": "6 5 4", "endian": "little", "encoding": "raw"}


LPS = {
    "space": "left-posterior-superior",
    "space directions": "(0.5,0,0) (0,0.5,0) (0,0,2)",
    "space origin": "(10,-20,30)",
    "kinds": "domain domain domain",
}


def header(**changes):
    """A header with the fields of PLAIN and these, blanks for underscores; None leaves one out."""
    fields = {**PLAIN, **{name.replace("_", " "): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join(["NRRD0004", "# a comment", *lines]).encode() + b"\n\n"


def write(path, data=None, **changes):
    path.write_bytes(header(**changes) + (ARRAY.tobytes() if data is None else data))
    return path
