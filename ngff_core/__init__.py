"""OME-Zarr multiscale pyramids, correct to the byte and resumable after anything."""
