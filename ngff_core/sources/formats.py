"""The table of input formats: how each is recognised, and what reads it.

A file is recognised by its first bytes, and by its name only where the bytes say too little. A
format that nothing here reads is listed too, so that a refusal can name it and the way to go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from ngff_core.errors import SourceFormatError
from ngff_core.sources.contract import SourceImages
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
        opened: SourceImages = import_module(self.module).open_images(store)
        return opened


def begins(*magics: bytes) -> Callable[[bytes, str], bool]:
    """Matches files that begin with one of ``magics``."""
    return lambda head, name: head.startswith(magics)


def named(*endings: str) -> Callable[[bytes, str], bool]:
    """Matches files by the end of their name."""
    return lambda head, name: name.endswith(endings)


def both(*matches: Callable[[bytes, str], bool]) -> Callable[[bytes, str], bool]:
    """Matches files that all of ``matches`` match."""
    return lambda head, name: all(each(head, name) for each in matches)


def at(offset: int, *magics: bytes) -> Callable[[bytes, str], bool]:
    """Matches files that have one of ``magics`` at ``offset``."""
    return lambda head, _name: head[offset:].startswith(magics)


def _dicom(head: bytes, name: str) -> bool:
    return head[128:132] == b"DICM"


_MICROSCOPY = "microscopy"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
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
    Format("a TIA SER file", begins(b"II\x97\x01")),
    Format("a Digital Micrograph DM3 file", both(begins(b"\0\0\0\x03"), named(".dm3"))),
    Format("a Digital Micrograph DM4 file", both(begins(b"\0\0\0\x04"), named(".dm4"))),
    Format("a Princeton Instruments SPE file", named(".spe")),
    Format("a FITS file", begins(b"SIMPLE  =")),
)
"""Formats that nothing reads, so that a refusal names them and the way to go."""

FILES: tuple[Format, ...] = (
    # A DICOM's preamble may be a TIFF header, so DICOM goes first.
    Format("a DICOM file", _dicom),
    Format("an Olympus VSI file", named(".vsi"), remedy="bioformats2raw reads it with the .ets files beside it"),
    Format("a TIFF file", begins(*_TIFF), "ngff_core.sources.tiff"),
    Format("a NumPy file", begins(b"\x93NUMPY"), "ngff_core.sources.npy"),
    Format(
        "a Zeiss CZI file",
        begins(b"ZISRAWFILE"),
        "ngff_core.sources.czi",
        ("czifile", "imagecodecs"),
        _MICROSCOPY,
    ),
    Format(
        "a Leica LIF or LOF file",
        both(begins(b"\x70\0\0\0"), at(8, b"\x2a")),
        "ngff_core.sources.lif",
        ("liffile",),
        _MICROSCOPY,
    ),
    Format(
        "a Leica XML project (XLEF, XLCF, XLIF, XLLF)",
        named(".xlef", ".xlcf", ".xlif", ".xllf"),
        "ngff_core.sources.lif",
        ("liffile",),
        _MICROSCOPY,
    ),
    Format(
        "a Nikon ND2 file",
        begins(b"\xda\xce\xbe\n"),
        "ngff_core.sources.nd2_file",
        ("nd2",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIR file",
        begins(b"OLYMPUSRAWFORMAT"),
        "ngff_core.sources.oir",
        ("oirfile",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIB file",
        both(begins(_OLE2), named(".oib")),
        "ngff_core.sources.oif",
        ("oiffile",),
        _MICROSCOPY,
    ),
    Format(
        "an Olympus OIF file", named(".oif"), "ngff_core.sources.oif", ("oiffile",), _MICROSCOPY
    ),
    *_UNREAD,
)
"""In the order in which they are tried."""

FOLDERS: tuple[Format, ...] = ()
"""``matches`` is given no bytes but the names of the folder's entries, joined by newlines."""
