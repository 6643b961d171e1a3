"""Every real sample file: what is known of it, and its samples by a reader that is not ours.

The table says what an image is; an oracle beside each file gives its samples: SimpleITK, Pillow,
openreadout, pydicom's own decoders, or numpy by the text of the format. Each is built, too.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image, ImageOps, ImageSequence

from ngff_core.build.api import build_pyramid
from ngff_core.build.report import BuildReport
from ngff_core.errors import SourceFormatError
from ngff_core.plan.options import BuildOptions
from ngff_core.sources import open_images, open_source
from ngff_core.storage import open_store
from tests.support.samples import sample

for package in ("pydicom", "nibabel", "czifile", "liffile", "nd2", "tensorstore", "imagecodecs"):
    pytest.importorskip(package)

Array = np.ndarray[Any, Any]


# --- oracles: a path to samples, in the order of a pyramid ---------------------------------


def itk(path: Path) -> Array:
    """SimpleITK, without axes of length 1."""
    sitk = pytest.importorskip("SimpleITK")
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).squeeze()


def itk_colors(path: Path) -> Array:
    """SimpleITK, with its last axis, of colors, before y."""
    return np.moveaxis(itk(path), -1, -3)


def itk_hounsfield(path: Path) -> Array:
    """SimpleITK applies the intercept of -1024; we keep what is stored."""
    return itk(path) + 1024


def pydicom_frames(path: Path) -> Array:
    """pydicom's own: SimpleITK gives 255 for a single bit that is set."""
    import pydicom

    return np.asarray(pydicom.dcmread(path).pixel_array)


def pydicom_palette(path: Path) -> Array:
    """pydicom's own: SimpleITK cuts a palette of 16 bits down to 8."""
    import pydicom

    header = pydicom.dcmread(path)
    return np.moveaxis(pydicom.pixels.apply_color_lut(header.pixel_array, header), -1, 0)


def pydicom_tiles(path: Path) -> Array:
    """pydicom's own, side by side: SimpleITK gives the tiles of a slide one behind the other."""
    tiles = pydicom_frames(path)
    return np.asarray(
        tiles.reshape(5, 5, 10, 10, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(50, 50, 3)
        .transpose(2, 0, 1)
    )


def nifti(path: Path) -> Array:
    """By the text of the format: SimpleITK knows no NIfTI-2, and applies slopes."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    order = "<" if struct.unpack("<i", data[:4])[0] in (348, 540) else ">"
    if struct.unpack(order + "i", data[:4])[0] == 540:
        dim, kind, start = struct.unpack(order + "8q", data[16:80]), 12, 168
        offset = struct.unpack(order + "q", data[start : start + 8])[0]
    else:
        dim, kind, start = struct.unpack(order + "8h", data[40:56]), 70, 108
        offset = int(struct.unpack(order + "f", data[start : start + 4])[0])
    codes = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 512: "u2"}
    dtype = order + codes[struct.unpack(order + "h", data[kind : kind + 2])[0]]
    shape = dim[dim[0] : 0 : -1]
    return np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)


def mrc(path: Path) -> Array:
    """By the text of the format; columns are along z, rows along x, sections along y."""
    data = path.read_bytes()
    columns, rows, sections, mode = struct.unpack("<4i", data[:16])
    orders, extended = struct.unpack("<3i", data[64:76]), struct.unpack("<i", data[92:96])[0]
    assert (mode, orders) == (2, (3, 1, 2))
    stored = np.frombuffer(data, "<f4", columns * rows * sections, 1024 + extended)
    return stored.reshape(sections, rows, columns).transpose(2, 0, 1)


def ndtiff(path: Path) -> Array:
    """By the index of an NDTiff: where each frame of 64 x 64 lies, and its place."""
    index, samples = (path.parent / "NDTiff.index").read_bytes(), path.read_bytes()
    found: dict[tuple[int, str], Array] = {}
    at = 0
    while at < len(index):
        texts = []
        for _ in range(2):
            (length,) = struct.unpack("<I", index[at : at + 4])
            texts.append(index[at + 4 : at + 4 + length].decode())
            at += 4 + length
        offset, width, height = struct.unpack("<Iii", index[at : at + 12])
        at += 32
        axes = json.loads(texts[0])
        plane = np.frombuffer(samples, "<u2", width * height, offset).reshape(height, width)
        found[axes["time"], axes["channel"]] = plane
    return np.stack([[found[t, c] for c in ("DAPI", "FITC")] for t in range(len(found) // 2)])


def nothing(*shape: int) -> Callable[[Path], Array]:
    """No chunk is in the folder: by the format, all samples are 0."""

    def zeros(path: Path) -> Array:
        assert all(p.name in ("attributes.json", "info") for p in path.rglob("*") if p.is_file())
        return np.zeros(shape, "u2")

    return zeros


def pillow(*shape: int, dtype: str | None = None, first: int = 0) -> Callable[[Path], Array]:
    """Pillow's pages from ``first`` on, in this shape of pages."""

    def pages(path: Path) -> Array:
        with Image.open(path) as image:
            count = int(np.prod(shape[:-2]))
            every = [np.array(page) for page in ImageSequence.Iterator(image)]
        found = np.stack(every[first : first + count]).reshape(shape)
        return found if dtype is None else found.view(dtype)

    return pages


def pillow_hyperstack(path: Path) -> Array:
    """ImageJ's pages are in the order z, c; a pyramid's axes are c, z."""
    return pillow(25, 2, 50, 50)(path).swapaxes(0, 1)


def pillow_turned(path: Path) -> Array:
    """Pillow, which applies the Orientation tag where it is asked to."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def pillow_colors(path: Path) -> Array:
    """Pillow's first page: libtiff and libjpeg."""
    with Image.open(path) as image:
        return np.moveaxis(np.asarray(image), -1, 0)


def openreadout(*shape: int, number: int = 0) -> Callable[[Path], Array]:
    """openreadout's samples of an image, in the order t, c, z, y, x, in this shape."""

    def read(path: Path) -> Array:
        reader = pytest.importorskip("openreadout")
        with reader.open(str(path)) as opened:
            return np.asarray(opened.read_image(number)).reshape(shape)

    return read


# --- the table -----------------------------------------------------------------------------

MM, UM, NM = "millimeter", "micrometer", "nanometer"
RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


@dataclass(frozen=True)
class Sample:
    """A file, or an image in it, as it is known to be.

    Attributes
    ----------
    name
        Path among the samples.
    dims, shape, dtype
        Of the source as a pyramid has it.
    oracle
        Its samples in that order.
    scale, units, translation
        What the file says, by axis; an absent axis is unknown. One unit is that of all.
    channels
        Names and colors.
    options
        What must be chosen, as a message of ``refused`` says.
    refused
        A part of the message where nothing is chosen.
    labels
        Whether its samples are numbers of objects.
    """

    name: str
    dims: str
    shape: tuple[int, ...]
    dtype: str
    oracle: Callable[[Path], Array]
    scale: Mapping[str, float] = field(default_factory=dict)
    units: str | Mapping[str, str] | None = None
    translation: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[tuple[str | None, str | None], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    labels: bool = False

    @property
    def id(self) -> str:
        chosen = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name} {chosen}".strip()

    @property
    def all_units(self) -> Mapping[str, str]:
        if isinstance(self.units, str):
            return dict.fromkeys(self.scale, self.units)
        return self.units or {}


def flat(size: float) -> Mapping[str, float]:
    """A size of y and x."""
    return {"y": size, "x": size}


def cube(size: float) -> Mapping[str, float]:
    """A size of z, y and x."""
    return {"z": size, **flat(size)}


def dicom(name: str, *rest: Any, **more: Any) -> Sample:
    return Sample(f"dicom/{name}.dcm", *rest, **more)


def orientation(number: int, shape: tuple[int, int]) -> Sample:
    return Sample(f"tiff/test_orient{number}.tif", "yx", shape, "|u1", pillow_turned)


MR: Mapping[str, Any] = {
    "scale": flat(0.3125),
    "units": MM,
    "translation": {"x": -83.9063, "y": -91.2},
    "channels": ((None, None),),
}
OBLIQUE: Mapping[str, Any] = {
    "scale": {"t": 2000, "z": 2.199999, "y": 2, "x": 2},
    "units": {"t": "second", "z": MM, "y": MM, "x": MM},
    "translation": {"t": 0, "z": -1.380555, "y": -36.424818, "x": -117.855103},
    "channels": ((None, None),),
}
BALL: Mapping[str, Any] = {"scale": cube(1), "units": MM, "translation": cube(0)}
WELL: Mapping[str, Any] = {"scale": flat(0.1), "units": UM, "channels": (("AF488", "00FF33"),)}
WAVES = flat(0.104814428571429)
GREEN = ((None, "00FF00"),)
SCAN: Mapping[str, Any] = {
    "scale": flat(0.6499999761581421),
    "units": UM,
    "channels": tuple((f"{n} nm", None) for n in (431, 525, 590, 690)),
}
LIGHT_SHEET = (("LatticeLightsheet 1-T1", "FF00FF"), ("LatticeLightsheet 2-T2", "00FFFF"))
DYES = (("5-FAM/pH 9.0", "78E90F"), ("FM 4-64/2% CHAPS", "FE0100"))

SAMPLES = (
    dicom(
        "CT_small", "yx", (128, 128), "<i2", itk_hounsfield, flat(0.661468), MM,
        {"x": -158.135803, "y": -179.035797},
    ),
    dicom("ExplVR_BigEnd", "cyx", (3, 60, 80), "|u1", itk_colors, channels=RGB),
    dicom("JPEG-lossy", "yx", (1024, 256), "<u2", itk, flat(2.26), MM),
    dicom("MR_small", "yx", (64, 64), "<i2", itk, **MR),
    dicom("MR_small_jp2klossless", "yx", (64, 64), "<i2", itk, **MR),
    # Frames that nothing is said of: z is assumed, another name may be given.
    dicom("emri_small", "zyx", (10, 64, 64), "<u2", itk),
    dicom("emri_small", "tyx", (10, 64, 64), "<u2", itk, options={"dims": "tyx"}),
    dicom("examples_palette", "cyx", (3, 350, 800), "<u2", pydicom_palette, channels=RGB),
    dicom(
        "examples_ybr_color", "tcyx", (30, 3, 240, 320), "|u1", itk_colors, {"t": 33.333},
        "millisecond", channels=RGB,
    ),
    dicom(
        "liver_1frame", "yx", (512, 512), "|u1", pydicom_frames, flat(0.810547), MM,
        {"x": -235.2, "y": -226.8}, labels=True,
    ),
    # Rows lead against the slide's y, columns against its x.
    dicom(
        "sm_image", "cyx", (3, 50, 50), "|u1", pydicom_tiles, flat(0.000499), MM,
        {"x": -25.691574, "y": -23.449873}, RGB,
    ),
    Sample(
        "em/EMD-3001.map", "zyx", (73, 25, 43), "<f4", mrc,
        {"z": 33.03 / 72, "y": 4.71 / 12, "x": 17.93 / 40}, "angstrom",
        {"x": -21 * 17.93 / 40, "y": -12 * 4.71 / 12},
    ),
    Sample(
        "gpl/LLS7_small.czi", "tczyx", (2, 2, 3, 64, 64), "<u2", openreadout(2, 2, 3, 64, 64),
        {"t": 90.038, **cube(0.144992)}, {"t": "second", "z": UM, "y": UM, "x": UM},
        channels=LIGHT_SHEET,
    ),
    Sample(
        "gpl/WellD6-7_S2.czi", "cyx", (1, 440, 544), "<u2", openreadout(1, 440, 544),
        options={"series": "D6"}, refused="holds 2 images; choose one with series", **WELL,
    ),
    Sample(
        "gpl/WellD6-7_S2.czi", "cyx", (1, 440, 544), "<u2", openreadout(1, 440, 544, number=1),
        translation={"x": 9000}, options={"series": 1},
        refused="1 'D7'", **WELL,
    ),
    Sample(
        "gpl/wavelength-sweep.lif", "cyx", (20, 64, 64), "|u1", openreadout(20, 64, 64), WAVES, UM,
        options={"series": "x_y_lambdaEmi", "dims": "cyx"}, refused="axis 'lambda' of length 20",
    ),
    Sample(
        "gpl/wavelength-sweep.lif", "yx", (64, 64), "|u1",
        lambda path: openreadout(20, 64, 64)(path)[3], WAVES, UM, channels=GREEN,
        options={"series": 0, "pick": {"lambda": 3}}, refused="--pick lambda=0",
    ),
    # openreadout makes an image of each wavelength of excitation: the fifth is its number 5.
    Sample(
        "gpl/wavelength-sweep.lif", "yx", (64, 64), "|u1", openreadout(64, 64, number=5), WAVES, UM,
        channels=GREEN, options={"series": 1, "pick": {"lambda_excitation": 4}},
        refused="--pick lambda_excitation=0",
    ),
    Sample(
        "gpl/wavelength-sweep.lif", "tczyx", (2, 10, 11, 64, 64), "|u1",
        openreadout(2, 10, 11, 64, 64, number=16),
        {"t": 80.91, "z": 0.5002027, **WAVES}, {"t": "second", "z": UM, "y": UM, "x": UM},
        {"z": -2.5}, options={"series": 2, "dims": "tczyx"}, refused="--dims t,c,z,y,x",
    ),
    # The time between its frames is not in the file.
    Sample(
        "lm/cluster.nd2", "tczyx", (3, 2, 10, 31, 38), "<u2", openreadout(3, 2, 10, 31, 38),
        {"z": 0.5, **flat(0.16780898323268245)}, UM, channels=DYES,
    ),
    # 1 micrometer is what Micro-Manager writes where it knows none; it is noted.
    Sample(
        "ndtiff/12_bit_pycromanager_mda/12_bit_pycromanager_mda_NDTiffStack.tif", "tcyx",
        (4, 2, 64, 64), "<u2", ndtiff, flat(1), UM, channels=(("DAPI", None), ("FITC", None)),
    ),
    Sample(
        "nifti/anatomical.nii", "zyx", (25, 41, 33), ">i2", nifti, cube(2), MM,
        {"z": -16, "y": -40, "x": -32},
    ),
    Sample("nifti/example4d.nii.gz", "tzyx", (2, 24, 96, 128), "<i2", nifti, **OBLIQUE),
    Sample("nifti/example_nifti2.nii.gz", "tzyx", (2, 12, 20, 32), "<i2", nifti, **OBLIQUE),
    Sample(
        "nifti/functional.nii", "tzyx", (20, 3, 21, 17), "<i2", nifti,
        {"t": 2, "z": 8, **flat(4)}, {"t": "second", "z": MM, "y": MM, "x": MM},
        {"t": 0, "z": 0, "y": -40, "x": -32}, ((None, None),),
    ),
    Sample(
        "nifti/reoriented_anat_moved.nii", "zyx", (22, 26, 21), ">f4", nifti, cube(4), MM,
        {"z": -27.599409, "y": -47.977585, "x": -35.297897},
    ),
    Sample(
        "nifti/standard.nii.gz", "zyx", (7, 5, 4), "|u1", nifti, {"z": 2, "y": 3, "x": 1}, None,
        cube(0),
    ),
    Sample("nrrd/BallBinary30x30x30.nrrd", "zyx", (30, 30, 30), "<i2", itk, **BALL),
    Sample("nrrd/BallBinary30x30x30_gz.nrrd", "zyx", (30, 30, 30), "<i2", itk, **BALL),
    Sample("tiff/input1_zyx.tiff", "zyx", (5, 198, 356), "<u2", pillow(5, 198, 356)),
    Sample(
        "tiff/multi-channel-z-series.ome.tif", "czyx", (3, 5, 167, 439), "|i1",
        pillow(3, 5, 167, 439, dtype="i1"),
    ),
    *(
        Sample(
            "tiff/multiseries.ome.tiff", "cyx", (4, 5, 5), "<u2", pillow(4, 5, 5, first=4 * number),
            options={"series": number}, refused="holds 6 images", **SCAN,
        )
        for number in range(6)
    ),
    Sample("tiff/sdt_ij.tif", "zyx", (2, 8, 8), "|u1", pillow(2, 8, 8)),
    *(orientation(number, (180, 120)) for number in (0, 1, 2, 4)),
    *(orientation(number, (120, 180)) for number in (6, 8)),
    Sample(
        "tiff/zcyx.tiff", "czyx", (2, 25, 50, 50), "|u1", pillow_hyperstack,
        {"z": 0.05445500181716341, **flat(0.43564006198286803)}, UM,
        channels=((None, None), (None, None)),
    ),
    Sample(
        "wsi/CMU-1-Small-Region.svs", "cyx", (3, 2967, 2220), "|u1", pillow_colors, flat(0.499),
        UM, channels=RGB,
    ),
    # No chunks are there; a second is no length.
    *(
        Sample(
            f"n5/n5_viewer_multiscale_{kind}", "yx", (20, 10), "<u2", nothing(20, 10),
            {"y": 20, "x": 10}, {"x": NM},
        )
        for kind in ("modern", "deprecated")
    ),
    Sample(
        "precomputed/one_channel", "zyx", (30, 20, 10), "<u2", nothing(30, 20, 10),
        {"z": 5, "y": 4, "x": 3}, NM,
    ),
    Sample(
        "precomputed/two_channels", "czyx", (2, 30, 20, 10), "<u2", nothing(2, 30, 20, 10),
        {"z": 5, "y": 4, "x": 3}, NM,
    ),
)  # fmt: skip

UNREAD = {"other/test_000_.SPE": "a Princeton Instruments SPE file, which is not read"}

FILES = pytest.mark.parametrize("known", SAMPLES, ids=[known.id for known in SAMPLES])


def chosen(known: Sample) -> Any:
    return BuildOptions(**known.options).selection


def test_every_file_is_in_the_table():
    """A new sample needs a row."""
    root = sample("README.md").parent
    companions = {"README.md", "ndtiff/12_bit_pycromanager_mda/NDTiff.index"}
    rows = {known.name for known in SAMPLES} | set(UNREAD) | companions
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    missing = {f for f in files if not any(f == row or f.startswith(f"{row}/") for row in rows)}
    assert not missing


@FILES
def test_what_is_known_of_a_file(known: Sample):
    """Axes, sizes, units, position, channels."""
    with open_source(sample(known.name), selection=chosen(known)) as source:
        image, about = source.image, source.about
        assert (image.dims, image.data.shape) == (tuple(known.dims), known.shape)
        assert np.dtype(about.described.dtype).str == known.dtype
        assert image.data.dtype == np.dtype(known.dtype)
        # An unknown size is written as 1, an unknown position as 0.
        assert image.scale == pytest.approx(
            {dim: known.scale.get(dim, 1) for dim in known.dims}, rel=1e-6
        )
        assert image.translation == pytest.approx(
            {dim: known.translation.get(dim, 0) for dim in known.dims}, rel=1e-6
        )
        said = about.described.placement
        axes = set(about.described.axes)
        assert set(said.scale) & axes == set(known.scale)
        assert set(said.translation) & axes == set(known.translation)
        assert dict(image.axes_units or {}) == known.all_units
        assert tuple((c.name, c.color) for c in about.channels) == known.channels
        assert about.labels == known.labels
        unknown = [n.text for n in about.notes if n.text.startswith("the size of a sample along")]
        assert bool(unknown) == bool({d for d in known.dims if d != "c"} - set(known.scale))


@FILES
def test_a_build_has_the_samples_of_another_reader(known: Sample, memory: str):
    """Level 0 of a verified pyramid, and what is written about it."""
    path, target = sample(known.name), f"{memory}/a.ome.zarr"
    method = {"method": "dask_image_nearest"} if known.name.endswith(".svs") else {}
    expected = known.oracle(path)
    report = build_pyramid(path, target, **known.options, **method, workers=2)
    assert report.verified
    np.testing.assert_array_equal(level_0(target, report), expected)
    with open_source(target) as built:
        assert built.image.dims == tuple(known.dims)
        assert dict(built.image.axes_units or {}) == known.all_units
        assert built.image.scale == pytest.approx(
            {dim: known.scale.get(dim, 1) for dim in known.dims}, rel=1e-6
        )
        assert built.image.translation == pytest.approx(
            {dim: known.translation.get(dim, 0) for dim in known.dims}, rel=1e-6
        )


def level_0(target: str, report: BuildReport) -> Array:
    """The finest level, as zarr reads it."""
    return np.asarray(zarr.open_array(open_store(target).zarr(), path=report.levels[0].path)[:])


@pytest.mark.parametrize(
    "known", [known for known in SAMPLES if known.refused], ids=lambda known: known.id
)
def test_what_must_be_chosen_is_refused_until_it_is(known: Sample):
    """The message names the option that the row of the table gives."""
    series = {name: value for name, value in known.options.items() if name == "series"}
    ambiguous = "dims" in known.options or "pick" in known.options
    with pytest.raises(SourceFormatError) as error:
        open_source(
            sample(known.name), selection=BuildOptions(**series if ambiguous else {}).selection
        )
    assert known.refused in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_of_several_images_is_refused_before_its_axes_are():
    """Three images, each with an axis of wavelengths."""
    with pytest.raises(SourceFormatError, match=r"holds 3 images; choose one with series"):
        open_source(sample("gpl/wavelength-sweep.lif"))


@pytest.mark.parametrize(("name", "words"), UNREAD.items())
def test_what_nothing_reads_is_refused_by_its_name(name: str, words: str, memory: str):
    """With a way to go."""
    with pytest.raises(SourceFormatError, match=f"{words}; bioformats2raw"):
        build_pyramid(sample(name), f"{memory}/a.ome.zarr")


def test_axes_without_names_are_refused_until_they_are_named(tmp_path: Path, memory: str):
    """Four axes of a file that says nothing, made of a real movie."""
    movie, target = nifti(sample("nifti/functional.nii")), f"{memory}/a.ome.zarr"
    np.save(tmp_path / "a.npy", movie)
    with pytest.raises(SourceFormatError, match="--dims czyx"):
        build_pyramid(tmp_path / "a.npy", target)
    report = build_pyramid(tmp_path / "a.npy", target, dims="tzyx")
    assert report.verified
    np.testing.assert_array_equal(level_0(target, report), movie)


@pytest.mark.parametrize(
    "name",
    ["n5/n5_viewer_multiscale_modern", "precomputed/one_channel", "precomputed/two_channels"],
)
def test_a_folder_without_its_chunks_says_how_many_are_absent(name: str, memory: str):
    """They read as 0, as the formats have it, and the report counts them."""
    report = build_pyramid(sample(name), f"{memory}/a.ome.zarr")
    assert report.absent_chunks == report.source_chunks == 1


# --- geometry of bodies, by ITK ------------------------------------------------------------

TOWARD = (
    ("right-to-left", "left-to-right"),
    ("anterior-to-posterior", "posterior-to-anterior"),
    ("inferior-to-superior", "superior-to-inferior"),
)
"""Where an axis of ITK's world leads, and against it."""

BODIES = [
    "dicom/CT_small.dcm",
    "dicom/MR_small.dcm",
    "dicom/MR_small_jp2klossless.dcm",
    "dicom/liver_1frame.dcm",
    "nifti/anatomical.nii",
    "nifti/functional.nii",
    "nifti/reoriented_anat_moved.nii",
    "nifti/standard.nii.gz",
    "nifti/example4d.nii.gz",
    "nrrd/BallBinary30x30x30.nrrd",
    "nrrd/BallBinary30x30x30_gz.nrrd",
]


@pytest.mark.parametrize("name", BODIES)
def test_samples_lie_where_itk_has_them(name: str):
    """Sizes, positions and directions: those of the affine in LPS, projected on each axis."""
    sitk = pytest.importorskip("SimpleITK")
    oracle = sitk.ReadImage(str(sample(name)))
    size = oracle.GetDimension()
    direction = np.reshape(oracle.GetDirection(), (size, size))[:3, :3]
    origin = np.array(oracle.GetOrigin()[:3])
    with open_source(sample(name)) as source:
        image = source.image
    for number, dim in enumerate("xyz"[: 2 + ("z" in image.dims)]):
        assert image.scale[dim] == pytest.approx(oracle.GetSpacing()[number], rel=1e-6)
        column = direction[:, number]
        world = int(np.abs(column).argmax())
        against = int(column[world] < 0)
        assert image.axes_orientations[dim].value == TOWARD[world][against]
        shift = origin[world] * (-1 if against else 1)
        if np.abs(column).max() > 1 - 1e-6:
            assert image.translation[dim] == pytest.approx(shift, rel=1e-6, abs=1e-9)


def test_images_of_one_source_have_names_of_their_own():
    """So each can be chosen by its name."""
    for name in ("gpl/WellD6-7_S2.czi", "gpl/wavelength-sweep.lif", "tiff/multiseries.ome.tiff"):
        with open_images(sample(name)) as source:
            names = [image.name for image in source.images]
            assert len(set(names)) == len(names)
        for number, each in enumerate(names):
            selection = BuildOptions(series=each, pick=_other_axes(source.images[number])).selection
            with open_source(sample(name), selection=selection) as chosen_source:
                assert chosen_source.about.series == (number, len(names))


def _other_axes(image: Any) -> dict[str, int]:
    return {axis: 0 for axis in image.axes if axis not in "tczyx"}
