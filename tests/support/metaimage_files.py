"""Writes small MetaImage files, by SimpleITK and by hand."""

import numpy as np
import SimpleITK

ARRAY = np.arange(4 * 5 * 6, dtype="<i2").reshape(4, 5, 6) * 7 - 300


SWAPPED = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Columns are the directions of x, y, z: along the world's y, x, and against its z."""


def written(path, array=ARRAY, direction=None, **options):
    """A file by SimpleITK."""
    vector = array.ndim == 4 and array.shape[-1] in (2, 3)
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((0.5, 0.25, 2.0)[: image.GetDimension()])
    image.SetOrigin((10.0, -20.0, 30.0)[: image.GetDimension()])
    if direction is not None:
        image.SetDirection(direction)
    SimpleITK.WriteImage(image, path, **options)
    return path


def by_hand(path, data=None, **changes):
    """A file with a header as MetaIO's text has it; None leaves a field out."""
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "DimSize": "6 5 4",
        "ElementType": "MET_SHORT",
        "ElementSpacing": "1 1 1",
        **changes,
    }
    last = fields.pop("ElementDataFile", "LOCAL")
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    text = "\n".join([*lines, f"ElementDataFile = {last}", ""]).encode()
    path.write_bytes(text + (ARRAY.tobytes() if data is None else data))
    return path
