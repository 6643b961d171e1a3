"""Writes small slides in TIFF as their scanners do."""

import numpy as np
import tifffile

RNG = np.random.default_rng(0)


SCAN = RNG.integers(0, 255, (256, 320, 3)).astype("u1")


SMALL = RNG.integers(0, 255, (50, 60, 3)).astype("u1")


DATA = RNG.integers(0, 60000, (70, 90)).astype("u2")


def write(path, *pages):
    """A TIFF of pages, each with its options."""
    with tifffile.TiffWriter(path) as file:
        for array, options in pages:
            file.write(array, **{"metadata": None, "contiguous": False, **options})


def tag(code, text="x"):
    return {"extratags": [(code, 2, 0, text, True)]}


TILES = {"photometric": "rgb", "tile": (64, 64)}


RGB = {"photometric": "rgb"}


def text(words, **options):
    return {"description": words, **options}


def scn(*sizes):
    """The XML of a Leica slide of 900 x 500: the images' views, an image for each page."""
    images = "".join(
        f'<image name="image_{i}"><pixels><dimension r="0" ifd="{i}"/></pixels>'
        f'<view sizeX="{x}" sizeY="{y}"/></image>'
        for i, (x, y) in enumerate(sizes)
    )
    return (
        '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection sizeX="900" sizeY="500">{images}</collection></scn>'
    )


VENTANA = {"software": "ScanOutputManager 1", "extratags": [(700, 2, 0, "<iScan/>", True)]}


SLIDES = {
    "svs": (
        "an Aperio SVS slide",
        ["image", "thumbnail", "slide label", "macro"],
        [
            (SCAN, text("Aperio Image Library\n320x256", **TILES)),
            (SMALL, text("Aperio Image Library\n320x256 -> 60x50", **RGB)),
            (SCAN[::4, ::4], text("Aperio Image Library\n80x64", **TILES)),
            (SMALL[:40], text("Aperio Image Library\nlabel 60x40", subfiletype=1, **RGB)),
            (SMALL[:30], text("Aperio Image Library\nmacro 60x30", subfiletype=9, **RGB)),
        ],
    ),
    "svs with macro before label": (
        "an Aperio SVS slide",
        ["image", "thumbnail", "macro", "slide label"],
        [
            (SCAN, text("Aperio Image Library\n320x256", **TILES)),
            (SMALL, text("Aperio Image Library\n320x256 -> 60x50", **RGB)),
            (SMALL[:30], text("Aperio Image Library\nmacro 60x30", subfiletype=1, **RGB)),
            (SMALL[:40], text("Aperio Image Library\nlabel 60x40", subfiletype=1, **RGB)),
        ],
    ),
    "bif": (
        "a Ventana BIF slide",
        ["image", "overview", "preview"],
        [
            (SMALL, text("Label_Image", **VENTANA, **RGB)),
            (SMALL[:40], text("Probability_Image", **RGB)),
            (SCAN, text("level=0 mag=40 quality=90", **TILES)),
            (SCAN[::2, ::2], text("level=1 mag=20 quality=90", **TILES)),
        ],
    ),
    "qpi": (
        "an Akoya QPTIFF file",
        ["image", "thumbnail"],
        [
            (DATA, {"software": "PerkinElmer-QPI", "photometric": "minisblack"}),
            (DATA + 1, {"photometric": "minisblack"}),
            (SMALL, RGB),
        ],
    ),
}  # fmt: skip


def write_qptiff(path, planes):
    """An Akoya QPTIFF of two channels, each with its name and color."""
    root = "PerkinElmer-QPI-ImageDescription"
    channels = (("DAPI", "0,0,255"), ("Opal 520", "255,255,255"))
    with tifffile.TiffWriter(path) as tif:
        for plane, (name, color) in zip(planes, channels, strict=True):
            tif.write(
                plane,
                tile=(32, 32),
                photometric="minisblack",
                metadata=None,
                software="PerkinElmer-QPI",
                resolution=(20_140, 20_140),
                resolutionunit="CENTIMETER",
                description=f"<{root}><ImageType>FullResolution</ImageType><Name>{name}</Name>"
                f"<Color>{color}</Color></{root}>",
            )
