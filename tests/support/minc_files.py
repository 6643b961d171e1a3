"""Writes small MINC 2 files."""

from pathlib import Path

import h5py
import numpy as np


def write(path: Path, order: str = "zspace,yspace,xspace", **steps: float) -> np.ndarray:
    """A MINC file of 4 x 3 x 2 samples, or 2 x 4 x 3 x 2 with time."""
    lengths = {"zspace": 4, "yspace": 3, "xspace": 2, "time": 2}
    shape = tuple(lengths[name] for name in order.split(","))
    array = np.arange(np.prod(shape), dtype="i2").reshape(shape)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("minc-2.0/image/0/image", data=array, chunks=shape)
        data.attrs["dimorder"] = np.bytes_(order)
        data.attrs["valid_range"] = [0.0, 100.0]
        file["minc-2.0/image/0/image-min"], file["minc-2.0/image/0/image-max"] = 0.0, 10.0
        for number, name in enumerate(("xspace", "yspace", "zspace")):
            about = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0).attrs
            about["step"], about["start"] = steps.get(name, number + 1.0), 10.0 * (number + 1)
            about["direction_cosines"] = np.eye(3)[number]
            about["units"], about["length"] = np.bytes_("mm"), lengths[name]
            about["spacing"] = np.bytes_("regular__")
        if "time" in order:
            about = file.create_dataset("minc-2.0/dimensions/time", data=0).attrs
            about["step"], about["units"] = 1.5, np.bytes_("s")
    return array
