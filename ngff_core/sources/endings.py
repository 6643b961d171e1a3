"""What an image is called after the file or folder it is in."""

from __future__ import annotations

import re

_FIELD = re.compile(r"[_\-. ]?(?:ch|[A-Za-z])?\{[a-z]+\}")
"""A field of a pattern, with the letter and the mark before it."""

_IN_MEMORY = re.compile(r"memory://\d+")
"""A store of zarr's in memory, which is called by its address: another one in each process."""

_ENDINGS = (
    *(".ome.tiff", ".ome.tif", ".tiff", ".tif", ".npy", ".ome.zarr", ".zarr", ".zarr.zip", ".ozx"),
    *(".svs", ".ndpi", ".qptiff", ".scn", ".lsm", ".stk", ".czi", ".lif", ".xlef", ".lof", ".nd2"),
    *(".oib", ".oif", ".oir", ".nii.gz", ".nii", ".mgz", ".mgh", ".dcm", ".h5", ".hdf5", ".ims"),
    *(".mrc", ".map", ".nrrd", ".nhdr", ".mha", ".mhd"),
)


def without_ending(file: str) -> str:
    """A file's name without the ending of an image format.

    >>> without_ending("brain.ome.tif"), without_ending("v1.2")
    ('brain', 'v1.2')
    """
    for ending in _ENDINGS:
        if file.lower().endswith(ending) and len(file) > len(ending):
            return file[: -len(ending)]
    return file


def without_fields(path: str) -> str:
    """The name of the image that the files of a pattern make.

    >>> without_fields("run1/pA_z{z}_c{c}.tif")
    'run1/pA.tif'
    """
    parts = (_FIELD.sub("", part) for part in path.split("/"))
    return "/".join("image" + part if part.startswith(".") else part for part in parts if part)


def name_from_uri(uri: str) -> str | None:
    """What an image without a name is called: its file or folder, without the ending.

    >>> name_from_uri("gs://lab/run1/brain.ome.tif"), name_from_uri("/data/pA_z{z}.tif")
    ('brain', 'pA')
    """
    if _IN_MEMORY.fullmatch(uri):
        return None
    file = without_fields(uri.rstrip("/").rpartition("/")[2]).replace("*", "")
    return without_ending(file).strip("_-. ") or None
