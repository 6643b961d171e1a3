"""The table of input formats: how each is recognised, and what reads it.

A file is recognised by its first bytes, and by its name only where the bytes say too little. A
format that nothing here reads is listed too, so that a refusal can name it and the way to go.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Samples, SourceImages
from ngff_core.storage import ObjectStore

HEAD = 1024
"""Bytes from the start of a file that `Format.matches` is given, or all of a shorter one."""


@dataclass(frozen=True)
class Format:
    """One format of files or folders.

    Attributes
    ----------
    name
        With its article, as a message names it: ``"a Nikon ND2 file"``.
    matches
        Whether a file is of this format, by its first `HEAD` bytes and its name in lower case.
    module
        Module whose ``open_images(store)`` reads it; None if nothing does.
    packages
        Packages that the module imports, beside those that are always there.
    extra
        The extra of ngff-flows that installs these packages.
    remedy
        What to do where nothing reads it.
    """

    name: str
    matches: Callable[[bytes, str], bool]
    module: str | None = None
    packages: tuple[str, ...] = ()
    extra: str | None = None
    remedy: str = "bioformats2raw or Bio-Formats' bfconvert can turn it into OME-Zarr or OME-TIFF"

    def open(self, store: ObjectStore) -> SourceImages:
        """Open the file or folder.

        Raises `SourceFormatError`, naming the format, where nothing reads it or a package lacks.
        """
        if self.module is None:
            raise SourceFormatError(f"{store.uri}: {self.name}, which is not read; {self.remedy}")
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise SourceFormatError(
                f"{store.uri}: {self.name}; reading it needs {' and '.join(missing)}: "
                f"pip install 'ngff-flows[{self.extra}]'"
            )
        what = f"{store.uri}: {self.name} that cannot be read"
        with as_format_error(what):
            opened: SourceImages = import_module(self.module).open_images(store)
        return replace(opened, open_image=_guarded(opened.open_image, what))


def _guarded(open_image: Callable[[int], Samples], what: str) -> Callable[[int], Samples]:
    """The same, whose errors are those of this package where a reader lets one pass."""

    def guarded(number: int) -> Samples:
        with as_format_error(what):
            return open_image(number)

    return guarded


def begins(*magics: bytes) -> Callable[[bytes, str], bool]:
    """Matches files that begin with one of ``magics``."""
    return lambda head, _: head.startswith(magics)


def named(*endings: str) -> Callable[[bytes, str], bool]:
    """Matches files by the end of their name."""
    return lambda _, name: name.endswith(endings)


def _dicom(head: bytes, _: str) -> bool:
    return head[128:132] == b"DICM"


def _nifti(head: bytes, _name: str) -> bool:
    start = _inflated(head)
    return start[344:347] in (b"n+1", b"ni1") or start[4:7] in (b"n+2", b"ni2")


def _analyze(head: bytes, name: str) -> bool:
    sizes = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
    return name.endswith((".hdr", ".hdr.gz")) and _inflated(head).startswith(sizes)


def _mgh(head: bytes, name: str) -> bool:
    version = _inflated(head).startswith(b"\0\0\0\1")
    return version and name.endswith((".mgh", ".mgz", ".mgh.gz"))


def _inflated(head: bytes) -> bytes:
    """The first bytes of a gzip file inflated; those of another file as they are."""
    if not head.startswith(b"\x1f\x8b"):
        return head
    with suppress(zlib.error):
        return zlib.decompressobj(31).decompress(head, HEAD)
    return b""


def _mrc(head: bytes, name: str) -> bool:
    """By the word in the header; files from before the year 2000 have it in their name only."""
    magic = _inflated(head)[208:212] in (b"MAP ", b"MAP\0")
    return magic or name.endswith((".mrc", ".mrcs", ".mrc.gz", ".mrcs.gz"))


def _metaimage(head: bytes, name: str) -> bool:
    return head.startswith(b"ObjectType = Image") or (
        name.endswith((".mha", ".mhd")) and b"NDims" in head
    )


def _hdf5(head: bytes, _name: str) -> bool:
    # A block of the user's own, such as MATLAB's, may stand before the signature.
    return _HDF5 in (head[:8], head[512:520])


def _bdv_xml(head: bytes, name: str) -> bool:
    return name.endswith(".xml") and b"<SpimData" in head


def _n5_folder(names: bytes, folder: str) -> bool:
    return b"attributes.json" in names.split(b"\n") or folder.endswith(".n5")


def _precomputed_folder(names: bytes, _folder: str) -> bool:
    return b"info" in names.split(b"\n")


def _dicom_folder(names: bytes, _folder: str) -> bool:
    """Some are named as DICOM files are, or all by a number or UID, as archives name them."""
    entries = [name for name in names.decode().lower().split("\n") if not name.startswith(".")]
    if any(n == "dicomdir" or n.endswith((".dcm", ".ima", ".dicom")) for n in entries):
        return True
    return bool(entries) and all(_NUMBERED.fullmatch(name) for name in entries)


_NUMBERED = re.compile(r"(im|img|image|i|ct|mr|slice)?[-_.]?\d+(\.\d+)*")


def both(*matches: Callable[[bytes, str], bool]) -> Callable[[bytes, str], bool]:
    """Matches files that all of ``matches`` match."""
    return lambda head, name: all(each(head, name) for each in matches)


def at(offset: int, *magics: bytes) -> Callable[[bytes, str], bool]:
    """Matches files that have one of ``magics`` at ``offset``."""
    return lambda head, _: head[offset:].startswith(magics)


_MICROSCOPY = "microscopy"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DM = (b"\0\0\0\3", b"\0\0\0\4")
_MICROGRAPHS = "RosettaSciIO or HyperSpy can turn it into TIFF or HDF5"
_PICTURE = "Pillow, libvips or ImageMagick can turn it into TIFF"
_DICOM = "ngff_core.sources.dicom.reader"
_NIFTI = "ngff_core.sources.nifti.reader"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_UNREAD: tuple[Format, ...] = (
    Format(
        "an Olympus POIR or MPOIR archive",
        both(begins(b"PK\x03\x04"), named(".poir", ".mpoir")),
        remedy="it is a ZIP file: unpack it, and give the .oir files in it",
    ),
    Format(
        "the image data of an Olympus VSI file (ETS)",
        begins(b"SIS\0"),
        remedy="bioformats2raw reads it, given the .vsi file that belongs to it",
    ),
    Format(
        "a Nikon ND2 file of the old kind (JPEG 2000)",
        both(begins(b"\0\0\0\x0cjP  "), named(".nd2")),
    ),
    Format("a Zeiss ZVI file", both(begins(_OLE2), named(".zvi"))),
    Format("an Image-Pro IPW file", both(begins(_OLE2), named(".ipw"))),
    Format("a compound document (OLE2), as some microscopes write", begins(_OLE2)),
    Format("a MIRAX slide (MRXS)", named(".mrxs")),
    Format("a DeltaVision file", at(96, b"\xa0\xc0", b"\xc0\xa0")),
    Format("an Imspector file (OBF, MSR)", begins(b"OMAS_BF")),
    Format("a Hamamatsu DCIMG file", begins(b"DCIMG")),
    Format("an ICS file", begins(b"\t\nics_version", b"\t\r\nics_version")),
    Format("a Princeton Instruments SPE file", named(".spe")),
    Format(
        "an OME companion file",
        named(".companion.ome"),
        remedy="give one of the OME-TIFF files that it describes",
    ),
    Format("a FITS file", begins(b"SIMPLE  =")),
    Format(
        "a JPEG 2000 picture",
        begins(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
        remedy=_PICTURE,
    ),
    Format("a PNG picture", begins(b"\x89PNG\r\n\x1a\n"), remedy=_PICTURE),
    Format("a JPEG picture", begins(b"\xff\xd8\xff"), remedy=_PICTURE),
    Format("a GIF picture", begins(b"GIF87a", b"GIF89a"), remedy=_PICTURE),
    Format(
        "a MATLAB file from before version 7.3",
        begins(b"MATLAB 5.0 MAT-file"),
        remedy="MATLAB's save -v7.3 writes it as HDF5, which is read",
    ),
    Format("a file compressed by gzip", begins(b"\x1f\x8b"), remedy="unpack it with gunzip"),
)
"""Formats that nothing reads, so that a refusal names them and the way to go."""

FILES: tuple[Format, ...] = (
    # A DICOM's preamble may be a TIFF header, so DICOM goes first.
    Format("a DICOM file", _dicom, _DICOM, ("pydicom", "imagecodecs"), "medical"),
    Format("a NIfTI file", _nifti, _NIFTI, ("nibabel",), "medical"),
    Format("an Analyze file", _analyze, _NIFTI, ("nibabel",), "medical"),
    Format("a FreeSurfer MGH file", _mgh, _NIFTI, ("nibabel",), "medical"),
    # Before other HDF5: its name is all that tells it.
    Format(
        "a MINC 2 file",
        lambda head, name: head.startswith(b"\x89HDF\r\n") and name.endswith(".mnc"),
        "ngff_core.sources.nifti.minc",
        ("h5py", "hdf5plugin"),
        "hdf5",
    ),
    Format(
        "a MINC 1 file",
        lambda head, name: head.startswith(b"CDF") and name.endswith(".mnc"),
        remedy="mincconvert -2 and then mnc2nii of the MINC tools turn it into NIfTI",
    ),
    # IMOD's tomograms end in .rec as well.
    Format("an MRC file", _mrc, "ngff_core.sources.volumes.mrc"),
    Format(
        "an MRC file compressed by bzip2",
        lambda head, name: head.startswith(b"BZh") and name.endswith((".mrc.bz2", ".map.bz2")),
        remedy="unpack it with bunzip2, or compress it with gzip",
    ),
    Format(
        "a Philips PAR/REC file",
        named(".par", ".rec"),
        remedy="nibabel's parrec2nii or dcm2niix can turn it into NIfTI",
    ),
    Format(
        "an AFNI file",
        named(".brik", ".brik.gz", ".head"),
        remedy="AFNI's 3dAFNItoNIFTI can turn it into NIfTI",
    ),
    Format(
        "an Olympus VSI file",
        named(".vsi"),
        remedy="bioformats2raw reads it with the .ets files beside it",
    ),
    Format("a TIFF file", begins(*_TIFF), "ngff_core.sources.tiff.reader"),
    Format("an NRRD file", begins(b"NRRD000"), "ngff_core.sources.volumes.nrrd"),
    Format("a MetaImage file", _metaimage, "ngff_core.sources.volumes.metaimage"),
    Format("an HDF5 file", _hdf5, "ngff_core.sources.hdf5.reader", ("h5py", "hdf5plugin"), "hdf5"),
    Format(
        "a BigDataViewer XML file",
        _bdv_xml,
        "ngff_core.sources.hdf5.bdv_source",
        ("h5py", "hdf5plugin", "tensorstore"),
        "hdf5,n5",
    ),
    Format(
        "a Digital Micrograph DM3 or DM4 file",
        lambda head, name: head[:4] in _DM and name.endswith((".dm3", ".dm4")),
        remedy=_MICROGRAPHS,
    ),
    Format("a TIA SER file", begins(b"II\x97\1"), remedy=_MICROGRAPHS),
    Format("a NanoMegas block file", begins(b"IMGBLO"), remedy=_MICROGRAPHS),
    Format("a NumPy file", begins(b"\x93NUMPY"), "ngff_core.sources.npy"),
    Format(
        "a Zeiss CZI file",
        begins(b"ZISRAWFILE"),
        "ngff_core.sources.microscopy.czi",
        ("czifile", "imagecodecs"),
        _MICROSCOPY,
    ),
    Format(
        "a Leica LIF or LOF file",
        both(begins(b"\x70\0\0\0"), at(8, b"\x2a")),
        "ngff_core.sources.microscopy.lif",
        ("liffile",),
        _MICROSCOPY,
    ),
    Format(
        "a Leica XML project (XLEF, XLCF, XLIF, XLLF)",
        named(".xlef", ".xlcf", ".xlif", ".xllf"),
        "ngff_core.sources.microscopy.lif",
        ("liffile",),
        _MICROSCOPY,
    ),
    Format(
        "a Nikon ND2 file",
        begins(b"\xda\xce\xbe\n"),
        "ngff_core.sources.microscopy.nd2_file",
        ("nd2",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIR file",
        begins(b"OLYMPUSRAWFORMAT"),
        "ngff_core.sources.microscopy.oir",
        ("oirfile",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIB file",
        both(begins(_OLE2), named(".oib")),
        "ngff_core.sources.microscopy.oif",
        ("oiffile",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIF file",
        named(".oif"),
        "ngff_core.sources.microscopy.oif",
        ("oiffile",),
        _MICROSCOPY,
    ),
    # A DICOM file without a preamble has nothing that tells it; neither has the .img of a pair.
    Format("a DICOM file", named(".dcm", ".ima"), _DICOM, ("pydicom", "imagecodecs"), "medical"),
    Format("an Analyze or NIfTI file", named(".img", ".img.gz"), _NIFTI, ("nibabel",), "medical"),
    *_UNREAD,
    # After all formats whose files are zip files with a name of their own.
    Format("a zip file", begins(b"PK\3\4", b"PK\5\6"), "ngff_core.sources.ome_zarr.zipped"),
)
"""In the order in which they are tried."""

FOLDERS: tuple[Format, ...] = (
    Format("an N5 folder", _n5_folder, "ngff_core.sources.volumes.n5", ("tensorstore",), "n5"),
    Format(
        "a Neuroglancer precomputed volume",
        _precomputed_folder,
        "ngff_core.sources.volumes.precomputed",
        ("tensorstore",),
        "n5",
    ),
    Format("a folder of DICOM files", _dicom_folder, _DICOM, ("pydicom", "imagecodecs"), "medical"),
)
"""``matches`` is given no bytes but the names of the folder's entries, joined by newlines."""
