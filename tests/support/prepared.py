"""Imports what readers need, so that a process forked from here has it ready."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

for _name in (
    "numpy",
    "zarr",
    "tifffile",
    "imagecodecs",
    "h5py",
    "hdf5plugin",
    "czifile",
    "liffile",
    "nd2",
    "oiffile",
    "oirfile",
    "pydicom",
    "nibabel",
    "tensorstore",
    "defusedxml.ElementTree",
    "ngff_core.sources",
    "ngff_core.sources.inspection",
    "tests.support.mutations",
):
    with suppress(ImportError):
        import_module(_name)
