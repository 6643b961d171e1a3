"""Writes small MRC files."""

import mrcfile
import numpy as np


def write(path, array, voxel=(1.0, 2.0, 3.0), **fields):
    """An MRC file by mrcfile; ``fields`` of the header are set afterwards, without its checks."""
    with mrcfile.new(path, array, overwrite=True) as mrc:
        mrc.voxel_size = voxel
        for name, value in fields.items():
            mrc.header[name] = value
    return path


def volume(dtype="i2", shape=(4, 5, 6)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
