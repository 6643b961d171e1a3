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
    return lambda head, _: head.startswith(magics)


def named(*endings: str) -> Callable[[bytes, str], bool]:
    """Matches files by the end of their name."""
    return lambda _, name: name.endswith(endings)


def _dicom(head: bytes, _: str) -> bool:
    return head[128:132] == b"DICM"


_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

FILES: tuple[Format, ...] = (
    # A DICOM's preamble may be a TIFF header, so DICOM goes first.
    Format("a DICOM file", _dicom),
    Format(
        "an Olympus VSI file",
        named(".vsi"),
        remedy="bioformats2raw reads it with the .ets files beside it",
    ),
    Format("a TIFF file", begins(*_TIFF), "ngff_core.sources.tiff"),
    Format("a NumPy file", begins(b"\x93NUMPY"), "ngff_core.sources.npy"),
    Format("a Zeiss CZI file", begins(b"ZISRAWFILE")),
    Format("a Nikon ND2 file", begins(b"\xda\xce\xbe\n")),
    # After all formats whose files are zip files with a name of their own.
    Format("a zip file", begins(b"PK\3\4", b"PK\5\6"), "ngff_core.sources.zip_zarr"),
)
"""In the order in which they are tried."""

FOLDERS: tuple[Format, ...] = ()
"""``matches`` is given no bytes but the names of the folder's entries, joined by newlines."""
