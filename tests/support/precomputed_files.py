"""Writes small precomputed volumes."""

import numpy as np
import tensorstore as ts

ARRAY = np.random.default_rng(0).integers(0, 60000, (2, 6, 7, 9), dtype="u2")
"""c, z, y, x."""


def write(path, array=ARRAY, kind="image", offset=(0, 0, 0), **scale):
    """A volume by tensorstore; with ``offset``, voxels are counted from there."""
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {
            "type": kind,
            "data_type": str(array.dtype),
            "num_channels": array.shape[0],
        },
        "scale_metadata": {
            "key": "full",
            "size": list(array.shape[:0:-1]),
            "chunk_size": [4, 3, 2],
            "voxel_offset": list(offset),
            "resolution": [8, 8, 40],
            "encoding": "raw",
            **scale,
        },
    }
    opened = ts.open(spec, create=True).result()
    opened.write(array.T).result()
    return path


SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 1,
    "shard_bits": 1,
    "hash": "identity",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}
