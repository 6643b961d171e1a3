"""One small file of each format and variant, with what it is known to hold.

The rows of docs/formats.md are made from these, after each was opened and compared: see
`tests.support.formats_page`.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel as nib
import numpy as np
import tifffile

from ngff_core.build.api import build_pyramid
from ngff_core.model.image import NgffImage
from tests.support import (
    czi_files,
    dicom,
    hdf5_files,
    lif_files,
    metaimage_files,
    micromanager_frames,
    minc_files,
    mrc_files,
    n5_files,
    nifti_files,
    nrrd_files,
    oif_files,
    oir_files,
    precomputed_files,
    slides,
    tiffs,
)

Array = np.ndarray[Any, Any]
Made = tuple[Path, Array]
"""What is opened, and its samples in the order t, c, z, y, x."""

UM, MM = "micrometer", "millimeter"
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Meaning:
    """What a file says of its image.

    Attributes
    ----------
    axes
        Names of its own axes, in its order, separated by blanks.
    scale, units
        By axis; one unit is that of all.
    channels
        Names; None for one without.
    translation, orientations
        Axes that have a position, and one letter for the direction of x, y, z: where it leads.
    """

    axes: str
    scale: Mapping[str, float] = field(default_factory=dict)
    units: str | Mapping[str, str] | None = None
    channels: tuple[str | None, ...] = ()
    translation: Mapping[str, float] = field(default_factory=dict)
    orientations: str = ""

    @property
    def all_units(self) -> Mapping[str, str]:
        if isinstance(self.units, str):
            return dict.fromkeys(self.scale, self.units)
        return self.units or {}


@dataclass(frozen=True)
class Choice:
    """What must be chosen.

    Attributes
    ----------
    refused
        A part of the message where nothing is chosen; None where a build asks nothing.
    options
        What is chosen then, as options of a build.
    local
        A part of the message for a file that is not on a local disk; None where any store will do.
    """

    refused: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    local: str | None = None


@dataclass(frozen=True)
class Case:
    """A file of a format.

    Attributes
    ----------
    row
        Name of the row of ``formats.FILES`` or ``FOLDERS`` that recognises it, or of what is
        none of them: see `OTHERS`.
    variant
        What distinguishes it from others of the format, for people.
    make
        Writes it into an empty folder.
    meaning, choice
        What it says, and what must be chosen.
    notes
        The kind and a part of the text of each note, in their order.
    """

    row: str
    variant: str
    make: Callable[[Path], Made]
    meaning: Meaning
    choice: Choice = Choice()
    notes: tuple[str, ...] = ()


OTHERS = ("a zarr array", "an OME-Zarr image", "a series of files")
"""Sources that no row of the table recognises: zarr by its documents, files by a pattern."""

_RNG = np.random.default_rng(0)
STACK = _RNG.integers(0, 60000, (2, 3, 16, 24)).astype("u2")
PLANE = STACK[0, 0]
COLORS = _RNG.integers(0, 255, (32, 48, 3)).astype("u1")
LIGHT = np.arange(2 * 3 * 2 * 8 * 9, dtype="<u2").reshape(2, 3, 2, 8, 9)
"""t, z, c, y, x."""


# --- TIFF ----------------------------------------------------------------------------------


def _pages(folder: Path) -> Made:
    tifffile.imwrite(folder / "a.tif", STACK[0], metadata=None, photometric="minisblack")
    return folder / "a.tif", STACK[0]


def _imagej(folder: Path) -> Made:
    tifffile.imwrite(
        folder / "a.tif",
        STACK,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "TZYX", "spacing": 1.5, "unit": "um", "finterval": 0.1},
    )
    return folder / "a.tif", STACK


def _colors(folder: Path) -> Made:
    tifffile.imwrite(folder / "a.tif", COLORS, photometric="rgb", tile=(16, 16))
    return folder / "a.tif", np.moveaxis(COLORS, -1, 0)


def _palette(folder: Path) -> Made:
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype("u2") * 257
    tifffile.imwrite(folder / "a.tif", COLORS[..., 0], photometric="palette", colormap=table)
    return folder / "a.tif", (table[:, COLORS[..., 0]] // 257).astype("u1")


def _turned(folder: Path) -> Made:
    tag = (274, "H", 1, 6, True)
    tifffile.imwrite(folder / "a.tif", PLANE, metadata=None, extratags=[tag])
    return folder / "a.tif", np.rot90(PLANE, -1)


def _several(folder: Path) -> Made:
    with tifffile.TiffWriter(folder / "a.tif") as file:
        file.write(PLANE, photometric="minisblack")
        file.write(COLORS, photometric="rgb")
    return folder / "a.tif", PLANE


def _ome(folder: Path) -> Made:
    tifffile.imwrite(
        folder / "a.ome.tif",
        STACK,
        metadata={
            "axes": "CZYX",
            "Name": "cells",
            "PhysicalSizeX": 0.325,
            "PhysicalSizeY": 0.325,
            "PhysicalSizeZ": 2.0,
            "Channel": {"Name": ["DAPI", "GFP"]},
        },
    )
    return folder / "a.ome.tif", STACK


def _ome_set(folder: Path) -> Made:
    names = tiffs.write_set(folder)
    return folder / names[1], tiffs.SET


def _ndtiff(folder: Path) -> Made:
    frames = micromanager_frames.frames(labels=True)
    files = {"a_NDTiffStack.tif": frames[:10], "a_NDTiffStack_1.tif": frames[10:]}
    tiffs.write_ndtiff(folder, files)
    return folder / "a_NDTiffStack.tif", micromanager_frames.DATA


def _mmstack(folder: Path) -> Made:
    frames = [frame for p in (0, 1) for frame in micromanager_frames.stack_frames(p)]
    path = folder / "x_MMStack.ome.tif"
    tiffs.write_micromanager_stack(path, frames, micromanager_frames.SUMMARY)
    return path, micromanager_frames.DATA + 1


def _slide(kind: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        slides.write(folder / "a.tif", *slides.SLIDES[kind][2])
        return folder / "a.tif", np.moveaxis(slides.SCAN, -1, 0)

    return make


def _qptiff(folder: Path) -> Made:
    slides.write_qptiff(folder / "a.qptiff", [slides.DATA, slides.DATA + 1])
    return folder / "a.qptiff", np.stack([slides.DATA, slides.DATA + 1])


TIFF = "a TIFF file"
TIFF_CASES = (
    Case(
        TIFF,
        "plain pages",
        _pages,
        Meaning("? y x"),
        notes=("assumed: the file does not name all axes",),
    ),
    Case(TIFF, "colors, in tiles", _colors, Meaning("y x c", channels=RGB)),
    Case(
        TIFF,
        "a palette",
        _palette,
        Meaning("y x c", channels=RGB),
        notes=("converted: the samples are indices into a palette",),
    ),
    Case(
        TIFF,
        "an Orientation tag",
        _turned,
        Meaning("y x"),
        notes=("converted: the Orientation tag, 6, is applied",),
    ),
    Case(
        TIFF,
        "several images",
        _several,
        Meaning("y x"),
        Choice("holds 2 images", {"series": 0}),
        notes=("left out: the other image of the source",),
    ),
    Case(
        TIFF,
        "ImageJ hyperstack",
        _imagej,
        Meaning(
            "t z y x",
            {"t": 0.1, "z": 1.5, "y": 0.5, "x": 0.25},
            {"t": "second", **dict.fromkeys("zyx", UM)},
        ),
    ),
    Case(
        TIFF,
        "OME-TIFF",
        _ome,
        Meaning("c z y x", {"z": 2.0, "y": 0.325, "x": 0.325}, UM, ("DAPI", "GFP")),
    ),
    Case(TIFF, "OME-TIFF in a set of files", _ome_set, Meaning("t c y x")),
    Case(
        TIFF,
        "Micro-Manager NDTiff",
        _ndtiff,
        Meaning("t c z y x", {"y": 1.0, "x": 1.0}, UM, ("DAPI", "FITC", "Cy5")),
        notes=("assumed: the size of a sample is exactly 1 micrometer",),
    ),
    Case(
        TIFF,
        "Micro-Manager image stack with positions",
        _mmstack,
        Meaning("t c z y x", channels=("a", "b", "c")),
        Choice("holds 2 images", {"series": 1}),
        ("left out: the other image of the source",),
    ),
    Case(
        TIFF,
        "Aperio SVS slide",
        _slide("svs"),
        Meaning("y x c", channels=RGB),
        notes=("left out: the other 3 images of the source",),
    ),
    Case(
        TIFF,
        "Ventana BIF slide",
        _slide("bif"),
        Meaning("y x c", channels=RGB),
        notes=(
            "left out: the other 2 images of the source",
            "left out: the positions of the tiles: they overlap on the slide",
        ),
    ),
    Case(
        TIFF,
        "Akoya QPTIFF",
        _qptiff,
        Meaning("c y x", {"y": 0.496524, "x": 0.496524}, UM, ("DAPI", "Opal 520")),
    ),
)


# --- bodies --------------------------------------------------------------------------------

SLICES = _RNG.integers(0, 200, (4, 9, 7)).astype("<i2")
AXIAL = [(-10.0, -20.0, 30.0 + 2.5 * number) for number in range(4)]


def _dicom(folder: Path) -> Made:
    found = dicom.dataset(
        SLICES[0],
        PixelSpacing=[0.7, 0.5],
        ImagePositionPatient=[-10.0, -20.0, 30.0],
        ImageOrientationPatient=list(dicom.AXIAL),
        RescaleSlope=1,
        RescaleIntercept=-1024,
    )
    return dicom.save(found, folder / "a.dcm"), SLICES[0]


def _dicom_frames(folder: Path) -> Made:
    groups = [dicom.at_position(-10, -20, 2.0 * number) for number in range(4)]
    return dicom.save(dicom.enhanced(SLICES, groups), folder / "a.dcm"), SLICES


def _dicom_jpeg(folder: Path) -> Made:
    frame = imagecodecs.jpeg2k_encode(PLANE, level=0, codecformat="j2k")
    found = dicom.dataset(PLANE)
    path = folder / "a.dcm"
    return dicom.save_compressed(found, [frame], path, "1.2.840.10008.1.2.4.90"), PLANE


def _dicom_slide(folder: Path) -> Made:
    tiles = np.random.default_rng(2).integers(0, 255, (6, 4, 5, 3)).astype("u1")
    whole = tiles.reshape(2, 3, 4, 5, 3).transpose(4, 0, 2, 1, 3).reshape(3, 8, 15)
    return dicom.save(dicom.slide(tiles, 8, 15), folder / "a.dcm"), whole


def _dicom_without_a_name(folder: Path) -> Made:
    """Its ending tells what it is: it has no preamble."""
    path, array = _dicom(folder)
    data = path.read_bytes()
    path.write_bytes(data[132:])
    return path, array


def _dicom_series(folder: Path) -> Made:
    return dicom.save_series(folder / "series", SLICES, AXIAL), SLICES


VOLUME = nifti_files.volume().T
AFFINE = np.array([[-2, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1.0]])


def _nifti(name: str, opened: str | None = None) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        if opened is None:
            return nifti_files.write(folder / name, nifti_files.volume(), AFFINE), VOLUME
        pair = nib.Nifti1Pair(nifti_files.volume(), AFFINE)
        pair.header.set_xyzt_units("mm", "sec")
        pair.to_filename(folder / name)
        return folder / opened, VOLUME

    return make


def _nifti_movie(folder: Path) -> Made:
    array = nifti_files.volume(shape=(5, 4, 3, 2))
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(folder / "a.nii")
    return folder / "a.nii", array.T


def _analyze(folder: Path) -> Made:
    nib.AnalyzeImage(nifti_files.volume(), np.diag([-2.0, 3, 4, 1])).to_filename(folder / "a.hdr")
    return folder / "a.hdr", VOLUME


def _mgh(folder: Path) -> Made:
    nib.MGHImage(nifti_files.volume(">i4"), AFFINE).to_filename(folder / "a.mgz")
    return folder / "a.mgz", VOLUME.astype(">i4")


def _minc(folder: Path) -> Made:
    return folder / "a.mnc", minc_files.write(folder / "a.mnc", xspace=-1.0)


def _nrrd(**changes: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        data = nrrd_files.ARRAY.tobytes()
        data = gzip.compress(data) if changes.get("encoding") == "gzip" else data
        fields = {**{k.replace(" ", "_"): v for k, v in nrrd_files.LPS.items()}, **changes}
        if "data_file" not in changes:
            return nrrd_files.write(folder / "a.nrrd", data, **fields), nrrd_files.ARRAY
        (folder / changes["data_file"]).write_bytes(data)
        return nrrd_files.write(folder / "a.nhdr", b"", **fields), nrrd_files.ARRAY

    return make


def _metaimage(name: str, **options: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        return metaimage_files.written(folder / name, **options), metaimage_files.ARRAY

    return make


DICOM, NIFTI, NRRD = "a DICOM file", "a NIfTI file", "an NRRD file"
PATIENT = {"x": -10.0, "y": -20.0}
SPATIAL = {"z": 4.0, "y": 3.0, "x": 2.0}
LAS = Meaning("z y x", SPATIAL, MM, (), {"z": 30.0, "y": -20.0, "x": -10.0}, "LAS")
ITK = Meaning(
    "z y x", {"z": 2.0, "y": 0.5, "x": 0.5}, MM, (), {"z": 30.0, "y": -20.0, "x": 10.0}, "LPS"
)
META = Meaning(
    "z y x", {"z": 2.0, "y": 0.25, "x": 0.5}, MM, (), {"z": 30.0, "y": -20.0, "x": 10.0}, "LPS"
)
MILLIMETERS = ("assumed: sizes are in millimeters",)
BODY_CASES = (
    Case(
        DICOM,
        "one slice, with a rescale",
        _dicom,
        Meaning("y x", {"y": 0.7, "x": 0.5}, MM, (), PATIENT, "LP"),
        notes=("left out: samples are as stored",),
    ),
    Case(DICOM, "JPEG 2000 (also JPEG, JPEG-LS, RLE)", _dicom_jpeg, Meaning("y x")),
    Case(
        DICOM,
        "frames with functional groups",
        _dicom_frames,
        Meaning("z y x", {"z": 2.0, "y": 0.7, "x": 0.5}, MM, (), {**PATIENT, "z": 0.0}, "LPS"),
    ),
    Case(
        DICOM,
        "whole slide (WSI)",
        _dicom_slide,
        Meaning("y x c", {"y": 0.0005, "x": 0.0004}, MM, RGB),
    ),
    Case(
        DICOM,
        "without a preamble, by its ending",
        _dicom_without_a_name,
        Meaning("y x", {"y": 0.7, "x": 0.5}, MM, (), PATIENT, "LP"),
        notes=("left out: samples are as stored",),
    ),
    Case(
        "a folder of DICOM files",
        "a series of slices",
        _dicom_series,
        Meaning("z y x", {"z": 2.5, "y": 0.7, "x": 0.5}, MM, (), {**PATIENT, "z": 30.0}, "LPS"),
    ),
    Case(NIFTI, "NIfTI-1", _nifti("a.nii"), LAS),
    Case(NIFTI, "gzipped", _nifti("a.nii.gz"), LAS),
    Case(
        NIFTI,
        "four axes, with a rescale",
        _nifti_movie,
        Meaning(
            "t z y x",
            {"t": 2.5, **SPATIAL},
            {"t": "second", **dict.fromkeys("zyx", MM)},
            (),
            {"t": 0.0, **LAS.translation},
            "LAS",
        ),
        notes=("left out: samples are as stored",),
    ),
    Case(NIFTI, "a pair, by its .hdr", _nifti("a.hdr", "a.hdr"), LAS),
    Case("an Analyze or NIfTI file", "a pair, by its .img", _nifti("a.hdr", "a.img"), LAS),
    Case(
        "an Analyze file",
        "Analyze 7.5",
        _analyze,
        Meaning("z y x", SPATIAL, MM),
        notes=(
            "unknown: positions and directions in the body",
            "assumed: the unit of the sizes is millimeter",
        ),
    ),
    Case("a FreeSurfer MGH file", "gzipped (.mgz)", _mgh, LAS),
    Case(
        "a MINC 2 file",
        "three axes",
        _minc,
        Meaning("z y x", {"z": 3, "y": 2, "x": 1}, MM, (), {"z": 30, "y": 20, "x": -10}, "LAS"),
        notes=("left out: samples are as stored",),
    ),
    Case(NRRD, "raw", _nrrd(), ITK, notes=MILLIMETERS),
    Case(NRRD, "gzipped", _nrrd(encoding="gzip"), ITK, notes=MILLIMETERS),
    Case(
        NRRD, "header and samples apart (.nhdr)", _nrrd(data_file="a.raw"), ITK, notes=MILLIMETERS
    ),
    Case("a MetaImage file", "one file (.mha)", _metaimage("a.mha"), META, notes=MILLIMETERS),
    Case(
        "a MetaImage file",
        "deflated, in two files (.mhd)",
        _metaimage("a.mhd", useCompression=True),
        META,
        notes=MILLIMETERS,
    ),
)


# --- microscopes ---------------------------------------------------------------------------


def _czi(folder: Path) -> Made:
    blocks, picture = czi_files.mosaic(czi_files.ZSTD)
    text = czi_files.xml(czi_files.SIZE, channels=[("EGFP", "#FF00FF5B")])
    return czi_files.write(folder / "a.czi", blocks, text), picture[None]


def _czi_scenes(folder: Path) -> Made:
    blocks = [
        czi_files.Block(czi_files.tile(n), {"X": 90_000 * n, "Y": 0, "S": n, "M": 0})
        for n in (0, 1)
    ]
    text = czi_files.xml(czi_files.SIZE, scenes=[("P1", "B2"), ("P1", "B3")])
    return czi_files.write(folder / "a.czi", blocks, text), czi_files.tile(1)


def _czi_phases(folder: Path) -> Made:
    blocks = [czi_files.Block(czi_files.tile(h), {"X": 0, "Y": 0, "H": h}) for h in range(3)]
    return czi_files.write(folder / "a.czi", blocks), czi_files.tile(2)


SIZES = {"x": 1e-7, "y": 2e-7, "z": 1e-6, "t": 2.5}
LIF = np.arange(2 * 3 * 4 * 5, dtype="<u2").reshape(2, 3, 4, 5)
PICTURE = lif_files.plain("a", "tzyx", LIF, SIZES)


def _lif(folder: Path) -> Made:
    return lif_files.write(folder / "a.lif", PICTURE), LIF


def _lif_colors(folder: Path) -> Made:
    picture, samples = lif_files.colors(3)
    return lif_files.write(folder / "a.lif", picture), samples.transpose(3, 0, 1, 2)


def _lif_waves(folder: Path) -> Made:
    dimensions = [
        lif_files.LifDimension("x", 5, 1),
        lif_files.LifDimension("y", 4, 5),
        lif_files.LifDimension("lambda", 3, 20),
    ]
    samples = np.arange(60, dtype="u1").reshape(3, 4, 5)
    picture = lif_files.LifPicture("waves", dimensions, samples.tobytes())
    return lif_files.write(folder / "a.lif", picture), samples


def _lof(folder: Path) -> Made:
    (folder / "a.lof").write_bytes(lif_files.lof_bytes(PICTURE))
    return folder / "a.lof", LIF


def _xlef(folder: Path) -> Made:
    return lif_files.write_project(folder, PICTURE), LIF


def _oir(folder: Path) -> Made:
    (folder / "a.oir").write_bytes(oir_files.oir_bytes(LIGHT, parts=3))
    return folder / "a.oir", LIGHT.swapaxes(1, 2)


def _oif(folder: Path) -> Made:
    return oif_files.write_oif(folder, "TZCYX", LIGHT), LIGHT.swapaxes(1, 2)


def _oib(folder: Path) -> Made:
    (folder / "parts").mkdir()
    data = oif_files.oib_of(oif_files.write_oif(folder / "parts", "TZCYX", LIGHT))
    shutil.rmtree(folder / "parts")
    (folder / "a.oib").write_bytes(data)
    return folder / "a.oib", LIGHT.swapaxes(1, 2)


CZI, LEICA = "a Zeiss CZI file", "a Leica LIF or LOF file"
LEICA_STACK = Meaning(
    "t z y x",
    {"t": 2.5, "z": 1.0, "y": 0.2, "x": 0.1},
    {"t": "second", **dict.fromkeys("zyx", UM)},
    (None,),
)
OLYMPUS = Meaning(
    "t z c y x",
    {"t": 0.5, "z": 0.84, "y": 0.2, "x": 0.2},
    {"t": "second", **dict.fromkeys("zyx", UM)},
    ("CH1", "Alexa"),
)
LIGHT_CASES = (
    Case(
        CZI,
        "a mosaic, in zstd (also JPEG XR)",
        _czi,
        Meaning("c y x", {"y": 0.4, "x": 0.4}, UM, ("EGFP",), {"y": 20.0, "x": 40.0}),
    ),
    Case(
        CZI,
        "scenes",
        _czi_scenes,
        Meaning("y x", {"y": 0.4, "x": 0.4}, UM, (None,), {"x": 36000.0}),
        Choice("holds 2 images", {"series": "B3-P1"}),
        ("left out: the other image of the source",),
    ),
    Case(
        CZI,
        "phases of illumination (also detectors, angles)",
        _czi_phases,
        Meaning("h y x", channels=(None,)),
        Choice("axis 'h' of length 3", {"pick": {"h": 2}}),
        ("left out: all positions on the axis h but 2, of 3",),
    ),
    Case(LEICA, "LIF", _lif, LEICA_STACK),
    Case(LEICA, "LIF, colors", _lif_colors, Meaning("z y x c", channels=RGB)),
    Case(
        LEICA,
        "LIF, wavelengths",
        _lif_waves,
        Meaning("lambda y x", channels=(None,)),
        Choice("axis 'lambda' of length 3", {"dims": "cyx"}),
        ("overruled: the axis lambda of 3 is read as c",),
    ),
    Case(LEICA, "LOF", _lof, LEICA_STACK),
    Case(
        "a Leica XML project (XLEF, XLCF, XLIF, XLLF)",
        "XLEF with XLIF and LOF",
        _xlef,
        LEICA_STACK,
        Choice(local="from a local disk only"),
    ),
    Case(
        "an Olympus OIR file",
        "a stack",
        _oir,
        Meaning(
            "t z c y x",
            {"t": 2.5, "z": 1.5, "y": 0.5, "x": 0.5},
            {"t": "second", **dict.fromkeys("zyx", UM)},
            ("CH1", "CH2"),
        ),
    ),
    Case("an Olympus OIF file", "a stack", _oif, OLYMPUS, Choice(local="from a local disk only")),
    Case("an Olympus OIB file", "a stack", _oib, OLYMPUS, Choice(local="from a local disk only")),
)


# --- HDF5, chunks, electron microscopes ----------------------------------------------------


def _hdf5(folder: Path) -> Made:
    path = hdf5_files.write(folder / "a.h5", **{"exported/data": STACK[0], "raw": STACK[1]})
    return path, STACK[0]


def _ilastik(folder: Path) -> Made:
    sizes = (("t", 0), ("z", 2.5), ("y", 0.5), ("x", 0.5), ("c", 0))
    array = np.arange(5 * 3 * 4 * 2 * 2).reshape(2, 5, 3, 4, 2).astype("u2")
    path = hdf5_files.write(folder / "a.h5", data=array)
    with h5py.File(path, "r+") as file:
        axes = [{"key": key, "typeFlags": 2, "resolution": size} for key, size in sizes]
        file["data"].attrs["axistags"] = json.dumps({"axes": axes})
    return path, np.moveaxis(array, -1, 1)


def _bdv(opened: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        hdf5_files.bdv(folder / "a.h5")
        hdf5_files.xml(folder / "a.xml")
        return folder / opened, hdf5_files.VIEWS[1]

    return make


def _imaris(folder: Path) -> Made:
    return hdf5_files.imaris(folder / "a.ims"), hdf5_files.FLUOR


def _mrc(name: str, space_group: int) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        array = mrc_files.volume()
        return mrc_files.write(folder / name, array, ispg=space_group), array

    return make


def _n5(folder: Path) -> Made:
    known = {"axes": ["x", "y", "z"], "resolution": [4, 4, 40], "units": ["nm"] * 3}
    return n5_files.write(folder / "a.n5", **known), n5_files.ARRAY


def _n5_bdv(folder: Path) -> Made:
    return n5_files.bdv(folder / "a.n5"), n5_files.VIEWS[0]


def _precomputed(**scale: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        return precomputed_files.write(folder / "a", **scale), precomputed_files.ARRAY

    return make


def _npy(array: Array) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        np.save(folder / "a.npy", array)
        return folder / "a.npy", array

    return make


def _zarr(version: int) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        import zarr

        names = {"dimension_names": ("z", "y", "x")} if version == 3 else {}
        zarr.create_array(
            folder / "a.zarr", data=STACK[0], chunks=(1, 8, 8), zarr_format=version, **names
        )
        return folder / "a.zarr", STACK[0]

    return make


def _ome_zarr(version: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        image = NgffImage(
            data=STACK,
            dims=("c", "z", "y", "x"),
            scale={"c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5},
            translation={"c": 0.0, "z": 0.0, "y": 10.0, "x": 20.0},
            name="cells",
            axes_units=dict.fromkeys("zyx", UM),
        )
        target = folder / "a.ome.zarr"
        build_pyramid(image, target, ome_zarr_version=version, channel_names=["DAPI", "GFP"])
        return target, STACK

    return make


def _joined(pattern: str | None) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        (folder / "in").mkdir()
        for c, z in np.ndindex(2, 3):
            tifffile.imwrite(folder / "in" / f"p_c{c}_z{z:02}.tif", STACK[c, z])
        return folder / "in" / (pattern or ""), STACK

    return make


def _zip(folder: Path) -> Made:
    import zarr

    with zarr.storage.ZipStore(folder / "a.ozx", mode="w") as store:
        zarr.create_array(store, data=STACK[0], chunks=(1, 8, 8), dimension_names=("z", "y", "x"))
    return folder / "a.ozx", STACK[0]


MRC, HDF5, ZARR = "an MRC file", "an HDF5 file", "a zarr array"
BDV = Meaning(
    "t z y x", {"z": 2.0, "y": 0.25, "x": 0.5}, UM, (), {"z": 30.0, "y": -20.0, "x": 10.0}
)
BDV_NOTES = (
    "left out: the other image of the source",
    "converted: samples typed int16 are read as uint16",
)
VOXELS = Meaning("c z y x", {"z": 40.0, "y": 8.0, "x": 8.0}, "nanometer")
CUBE = {"z": 3.0, "y": 2.0, "x": 1.0}
OME = Meaning(
    "c z y x",
    {"c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5},
    dict.fromkeys("zyx", UM),
    ("DAPI", "GFP"),
    {"c": 0.0, "z": 0.0, "y": 10.0, "x": 20.0},
)
JOINED_NOTES = ("converted: axes c, z are joined from 6 files",)
CHUNK_CASES = (
    Case(
        MRC,
        "a volume",
        _mrc("a.mrc", 1),
        Meaning("z y x", CUBE, "angstrom"),
        notes=("assumed: the 4 sections are z",),
    ),
    Case(
        MRC,
        "a stack of images",
        _mrc("a.mrcs", 0),
        Meaning("? y x", {"y": 2.0, "x": 1.0}, "angstrom"),
        notes=("assumed: the file does not name all axes",),
    ),
    Case(
        HDF5,
        "datasets",
        _hdf5,
        Meaning("? ? ?"),
        Choice("holds 2 images", {"series": "/exported/data"}),
        ("left out: the other image of the source", "assumed: the file does not name all axes"),
    ),
    Case(
        HDF5,
        "ilastik (also labels of dimensions, element_size_um)",
        _ilastik,
        Meaning("t z y x c", {"z": 2.5, "y": 0.5, "x": 0.5}),
    ),
    Case(
        HDF5,
        "BigDataViewer, its XML beside it",
        _bdv("a.h5"),
        BDV,
        Choice("holds 2 images", {"series": "right"}),
        BDV_NOTES,
    ),
    Case(
        "a BigDataViewer XML file",
        "of HDF5 (also of N5)",
        _bdv("a.xml"),
        BDV,
        Choice("holds 2 images", {"series": "right"}),
        BDV_NOTES,
    ),
    Case(
        HDF5,
        "Imaris (.ims)",
        _imaris,
        Meaning(
            "t c z y x",
            {"t": 30.0, "z": 2.0, "y": 0.5, "x": 0.5},
            {"t": "second", **dict.fromkeys("zyx", UM)},
            ("DAPI", "GFP", None),
            {"z": 1.0, "y": -2.75, "x": 1.25},
        ),
    ),
    Case(
        "an N5 folder",
        "a dataset (also n5-viewer's multiscale)",
        _n5,
        Meaning("z y x", {"z": 40.0, "y": 4.0, "x": 4.0}, "nanometer"),
    ),
    Case(
        "an N5 folder",
        "BigDataViewer",
        _n5_bdv,
        Meaning("t z y x"),
        Choice("holds 2 images", {"series": 0}),
        (
            "left out: the other image of the source",
            "unknown: sizes, names and transformations: a.xml, which has them, is not there",
        ),
    ),
    Case("a Neuroglancer precomputed volume", "raw (also JPEG, …)", _precomputed(), VOXELS),
    Case(
        "a Neuroglancer precomputed volume",
        "in shards",
        _precomputed(sharding=precomputed_files.SHARDING),
        VOXELS,
        Choice(local="sharded .* from a local disk only"),
    ),
    Case(
        "a NumPy file",
        "up to three axes",
        _npy(STACK[0]),
        Meaning("? ? ?"),
        notes=("assumed: the file does not name all axes",),
    ),
    Case(
        "a NumPy file",
        "four axes and more",
        _npy(STACK),
        Meaning("? ? ? ?"),
        Choice("does not name its axes", {"dims": "czyx"}),
    ),
    Case(ZARR, "zarr 3, with names of dimensions", _zarr(3), Meaning("z y x")),
    Case(
        ZARR,
        "zarr 2",
        _zarr(2),
        Meaning("? ? ?"),
        notes=("assumed: the file does not name all axes",),
    ),
    Case("a zip file", "zarr in a zip file (.ozx, .zarr.zip)", _zip, Meaning("z y x")),
    Case("an OME-Zarr image", "0.4", _ome_zarr("0.4"), OME),
    Case("an OME-Zarr image", "0.5", _ome_zarr("0.5"), OME),
    Case(
        "a series of files",
        "a pattern, p_c{c}_z{z}.tif",
        _joined("p_c{c}_z{z}.tif"),
        Meaning("c z y x"),
        notes=JOINED_NOTES,
    ),
    Case(
        "a series of files",
        "a folder whose names tell the axes",
        _joined(None),
        Meaning("c z y x"),
        notes=JOINED_NOTES,
    ),
)

CASES = (*TIFF_CASES, *LIGHT_CASES, *BODY_CASES, *CHUNK_CASES)
