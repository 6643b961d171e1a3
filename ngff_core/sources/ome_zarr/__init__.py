"""Zarr arrays, OME-Zarr images of every version, and collections of them."""
