"""Writes small NIfTI files."""

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (7, 6, 5)


def volume(dtype="<i2", shape=SHAPE) -> np.ndarray:
    """Numbers that are all different, first index fastest, as nibabel gives them."""
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def write(path: Path, array: np.ndarray, affine=None, **fields) -> Path:
    """A NIfTI file with these fields of its header."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path
