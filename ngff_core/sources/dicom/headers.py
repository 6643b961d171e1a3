"""Headers of DICOM files, and where in them the samples lie. No sample is read.

Only the elements that the reader uses are parsed: names of patients and other personal data are
never taken from a file, so they cannot end up in notes, metadata or logs.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ngff_core.errors import SourceFormatError
from ngff_core.storage import ObjectInfo, ObjectStore, for_each

if TYPE_CHECKING:
    from pydicom import Dataset

_FIRST_READ = 64 << 10
"""Bytes read for a header; most are shorter. For a longer one more is read."""
_MORE = 16
_MOST_INFLATED = 1 << 31
_UNDEFINED = 0xFFFFFFFF
_PIXELS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_META = 144
"""Bytes up to the end of the first element of the meta information, which is its length."""
_META_SEARCHED = 1024

_KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "ImageType",
    "ConcatenationUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedAlphaPaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "DoseGridScaling",
    "DoseUnits",
    "WindowCenter",
    "WindowWidth",
    "FrameTime",
    "FrameTimeVector",
    "FrameIncrementPointer",
    "GridFrameOffsetVector",
    "TemporalPositionIdentifier",
    "TemporalResolution",
    "EchoNumbers",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SegmentationType",
    "SegmentSequence",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "DimensionOrganizationType",
    "TotalPixelMatrixFocalPlanes",
    "TotalPixelMatrixOriginSequence",
    "ImageOrientationSlide",
    "NumberOfOpticalPaths",
    "OpticalPathSequence",
    "RecommendedAbsentPixelCIELabValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DirectoryRecordSequence",
]
"""All that is parsed."""


@dataclass(frozen=True)
class Element:
    """Where the samples of a file lie.

    Attributes
    ----------
    keyword
        Of the element with the samples; None where the file has none.
    vr
        Its value representation: ``OB`` or ``OW`` and so on.
    offset, length
        Where its value begins, and its bytes; None as ``length`` where it is encapsulated. In a
        deflated file both count inflated bytes.
    """

    keyword: str | None = None
    vr: str = "OW"
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file.

    Attributes
    ----------
    store, info
        The file.
    header
        The elements above, and no others.
    syntax
        UID of the transfer syntax.
    element
        Where the samples lie.
    """

    store: ObjectStore
    info: ObjectInfo
    header: Dataset
    syntax: str
    element: Element = Element()

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return self.store.uri.rpartition("/")[2]

    @property
    def big_endian(self) -> bool:
        return self.syntax == _BIG_ENDIAN

    @property
    def deflated(self) -> bool:
        return self.syntax == _DEFLATED

    def get(self, keyword: str, default: Any = None) -> Any:
        """The element's value, or ``default`` where it is absent or empty."""
        value = self.header.get(keyword)
        return default if value is None or value == "" else value

    def count(self, keyword: str, default: int = 0) -> int:
        """A number that is not negative."""
        value = int(self.get(keyword, default))
        if value < 0:
            raise SourceFormatError(f"{self.store.uri}: {keyword} is {value}")
        return value

    @property
    def frames(self) -> int:
        return max(1, self.count("NumberOfFrames", 1))


def read_instances(
    stores: Sequence[ObjectStore], infos: Sequence[ObjectInfo], *, only_dicom: bool = False
) -> list[Instance]:
    """The headers of several files, each read once; several at once where there is latency.

    ``only_dicom`` leaves out files that do not begin as DICOM files do.
    """
    pairs = list(zip(stores, infos, strict=True))
    if not pairs:
        return []
    found = for_each(stores[0], lambda pair: _read(*pair, only_dicom=only_dicom), pairs)
    return [instance for instance in found if instance is not None]


def read_instance(store: ObjectStore, info: ObjectInfo) -> Instance:
    """The header of one file. Raises `SourceFormatError` for what is no DICOM, or cut short."""
    found = _read(store, info, only_dicom=False)
    assert found is not None
    return found


def _read(store: ObjectStore, info: ObjectInfo, *, only_dicom: bool) -> Instance | None:
    size = _FIRST_READ
    while True:
        data = store.read_part("", 0, min(size, info.size))
        if data is None:
            raise FileNotFoundError(store.uri)
        if only_dicom and not is_dicom(data):
            return None
        complete = len(data) >= info.size or size >= info.size
        try:
            found = _parse(store, info, data)
        except Exception as error:
            if complete:
                text = " ".join(str(error).split()) or type(error).__name__
                raise SourceFormatError(
                    f"{store.uri}: not a readable DICOM file, or truncated: {text}"
                ) from error
            found = None
        if found is not None and (complete or found.element.keyword is not None):
            return found
        size *= _MORE


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is DICOM by its preamble."""
    return head[128:132] == b"DICM"


def inflated_content(data: bytes, uri: str) -> bytes:
    """What lies behind the meta information of a deflated file, inflated."""
    # The length of the meta information stands in its first element.
    start = _META + int.from_bytes(data[_META - 4 : _META], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found = inflater.decompress(data[start:], _MOST_INFLATED)
    if not inflater.eof:
        raise SourceFormatError(f"{uri}: truncated: its deflated content has no end")
    return found


def _parse(store: ObjectStore, info: ObjectInfo, data: bytes) -> Instance | None:
    """The instance, as far as ``data`` goes; None if more is needed to begin with."""
    from pydicom import dcmread

    deflated = is_dicom(data) and _DEFLATED.encode() in data[:_META_SEARCHED]
    if deflated:
        if len(data) < info.size:
            return None
        # It has no meta information then; pydicom finds out that its VRs are explicit.
        data = inflated_content(data, store.uri)
    stream = io.BytesIO(data)
    header = dcmread(
        stream, stop_before_pixels=True, specific_tags=list(_KEYWORDS), force=not is_dicom(data)
    )
    at = stream.tell()
    implicit, little = header.original_encoding
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    if deflated:
        syntax = _DEFLATED
    elif not syntax:
        syntax = _IMPLICIT if implicit else _EXPLICIT if little else _BIG_ENDIAN
    element = _pixels(data, at, bool(implicit), not little)
    return Instance(store, info, header, syntax, element)


def _pixels(data: bytes, at: int, implicit: bool, big: bool) -> Element:
    """The element with the samples, if it is the one that begins at ``at``."""
    header = data[at : at + 12]
    order: Literal["big", "little"] = "big" if big else "little"
    group, number = (int.from_bytes(header[i : i + 2], order) for i in (0, 2))
    # In some files this element has no VR, though all others have one.
    implicit = implicit or not header[4:6].isalpha()
    start = 4 if implicit else 8
    if group != 0x7FE0 or number not in _PIXELS or len(header) < start + 4:
        return Element()
    vr = "OW" if implicit else header[4:6].decode("latin1")
    length = int.from_bytes(header[start : start + 4], order)
    value = at + start + 4
    return Element(_PIXELS[number], vr, value, None if length == _UNDEFINED else length)


def with_samples(instances: Iterable[Instance]) -> list[Instance]:
    """Those that hold an image."""
    return [i for i in instances if i.element.keyword and i.get("Rows") and i.get("Columns")]
