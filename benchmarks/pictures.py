"""Pictures of the methods on one real image, for docs/methods.md.

Run: ``.venv/bin/python benchmarks/pictures.py``. The green channel of scikit-image's
bundled retina around the optic disc, at a quarter of its size (one step of 4), each
sample drawn as a square; the label methods see the same picture in eight grey classes.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import ngff_core
from ngff_core import Methods
from ngff_core.blocks import Block

FOLDER = Path(__file__).parents[1] / "docs" / "methods"
CROP = (slice(560, 816), slice(60, 316))
LABEL_METHODS = (Methods.ITKWASM_LABEL_IMAGE, Methods.DASK_IMAGE_MODE)
OF_ANOTHER_PACKAGE = (Methods.ITK_GAUSSIAN, Methods.ITK_BIN_SHRINK)


def green() -> Block:
    """The green channel, in which vessels show best."""
    with Image.open(str(files("skimage") / "data" / "retina.jpg")) as picture:
        return np.asarray(picture)[..., 1]


def quarter(image: Block, method: Methods) -> Block:
    """The level above the full image."""
    small = ngff_core.to_multiscales(image, scale_factors=[4], method=method, cache=False)
    return np.asarray(small.images[1].data)


def draw(name: str, samples: Block, enlarge: int) -> None:
    """Write a square of 256 pixels, its samples enlarged."""
    drawn = np.kron(samples, np.ones((enlarge, enlarge), np.uint8))
    Image.fromarray(drawn).save(FOLDER / f"{name}.png", optimize=True)


def main() -> None:
    """Draw the full image, and what each method makes of it."""
    FOLDER.mkdir(exist_ok=True)
    image = np.ascontiguousarray(green())
    classes = image // 32 * 32
    draw("full", image[CROP], 1)
    draw("classes", classes[CROP], 1)
    corner = tuple(slice(s.start // 4, s.stop // 4) for s in CROP)
    for method in Methods:
        if method not in OF_ANOTHER_PACKAGE:
            seen = classes if method in LABEL_METHODS else image
            draw(method.value, quarter(seen, method)[corner], 4)


if __name__ == "__main__":
    main()
