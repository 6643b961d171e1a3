"""Writing an ``NgffMultiscales`` as OME-Zarr, and reading one back."""

from ngff_core.ngff_zarr_io.reading import from_ngff_zarr
from ngff_core.ngff_zarr_io.writing import to_ngff_zarr

__all__ = ["from_ngff_zarr", "to_ngff_zarr"]
