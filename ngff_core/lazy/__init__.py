"""The lazy API: pyramids as dask arrays, and writing and reading them as OME-Zarr.

Nothing is imported here: dask costs nearly a second, and not every module needs it.
"""
