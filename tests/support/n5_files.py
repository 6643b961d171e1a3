"""Writes small N5 folders."""

import json

import numpy as np
import tensorstore as ts

ARRAY = np.random.default_rng(0).integers(0, 60000, (6, 7, 9), dtype="u2")
"""z, y, x."""


def write(path, array=ARRAY, compression=None, **attributes):
    """A dataset by tensorstore, with attributes of its own."""
    metadata = {
        "dimensions": list(array.shape[::-1]),
        "blockSize": [4, 3, 2, 2][: array.ndim],
        "dataType": str(array.dtype),
        "compression": compression or {"type": "gzip"},
    }
    store = {"driver": "file", "path": f"{path}/"}
    spec = {"driver": "n5", "kvstore": store, "metadata": metadata}
    ts.open(spec, create=True).result().write(array.T).result()
    add(path, **attributes)
    return path


def add(path, **attributes):
    """Attributes beside those that are there."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / "attributes.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **attributes}))


VIEWS = np.random.default_rng(1).integers(0, 60000, (2, 3, 4, 5, 6), dtype="u2")


def bdv(root, skip=()):
    """Setups and times as BigDataViewer writes them."""
    add(root, n5="2.5.0")
    for setup, times in enumerate(VIEWS):
        add(root / f"setup{setup}", dataType="uint16", downsamplingFactors=[[1, 1, 1], [2, 2, 2]])
        for time, view in enumerate(times):
            if (setup, time) not in skip:
                write(root / f"setup{setup}/timepoint{time}/s0", view)
                write(root / f"setup{setup}/timepoint{time}/s1", view[::2, ::2, ::2])
    return root
