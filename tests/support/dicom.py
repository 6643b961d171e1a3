"""DICOM files for tests, written with pydicom: slices, frames with functional groups, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SERIES = "1.2.826.0.1.3680043.8.498.1"
"""UID of the series where a test names no other."""

AXIAL = (1, 0, 0, 0, 1, 0)
PATIENT = "Secret^Person"


def dataset(array: np.ndarray[Any, Any], frames: int | None = None, **elements: Any) -> Dataset:
    """An image of gray or RGB samples, with these elements beside the necessary ones."""
    color = array.shape[-1] == 3 and array.ndim > 2
    rows, columns = array.shape[-3:-1] if color else array.shape[-2:]
    found = Dataset()
    found.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    found.SOPInstanceUID = generate_uid()
    found.SeriesInstanceUID = SERIES
    found.PatientName, found.PatientID = PATIENT, PATIENT
    found.Modality, found.SeriesNumber = "OT", 1
    found.Rows, found.Columns = rows, columns
    found.SamplesPerPixel = 3 if color else 1
    found.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        found.PlanarConfiguration = 0
    bits = array.dtype.itemsize * 8
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, bits, bits - 1
    found.PixelRepresentation = int(array.dtype.kind == "i")
    if frames is not None:
        found.NumberOfFrames = frames
    data = array.tobytes()
    found.PixelData = data + bytes(len(data) % 2)
    found["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def save(found: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a complete file."""
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.save_as(path, enforce_file_format=True)
    return path


def save_compressed(
    found: Dataset, frames: Sequence[bytes], path: Path, syntax: str, **how: Any
) -> Path:
    """Write a complete file with these encoded frames."""
    found.PixelData = encapsulate(list(frames), **how)
    found["PixelData"].VR = "OB"
    return save(found, path, syntax)


def save_series(
    folder: Path,
    volume: np.ndarray[Any, Any],
    positions: Sequence[tuple[float, float, float]],
    orientation: Sequence[float] = AXIAL,
    **elements: Any,
) -> Path:
    """One file for each slice, named so that the order of names is not that of positions."""
    folder.mkdir(exist_ok=True)
    count = len(positions)
    for number, (image, position) in enumerate(zip(volume, positions, strict=True)):
        elements.setdefault("PixelSpacing", [0.7, 0.5])
        found = dataset(
            image,
            ImagePositionPatient=list(position),
            ImageOrientationPatient=list(orientation),
            InstanceNumber=count - number,
            **elements,
        )
        uid = elements.get("SeriesInstanceUID", SERIES)
        save(found, folder / f"{uid[-1]}-{number * 7 % count:04}-{number}.dcm")
    return folder


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    found = Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def enhanced(
    array: np.ndarray[Any, Any],
    groups: Sequence[Dataset],
    orientation: Sequence[float] = AXIAL,
    **elements: Any,
) -> Dataset:
    """Frames with a functional group each, of one direction and size."""
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.5], SliceThickness=9)],
    )
    return dataset(
        array,
        len(array),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=list(groups),
        **elements,
    )


def at_position(*position: float, **content: Any) -> Dataset:
    """The functional group of a frame there; ``content`` is of its Frame Content."""
    return item(
        PlanePositionSequence=[item(ImagePositionPatient=list(position))],
        FrameContentSequence=[item(**content)],
    )


def slide(
    tiles: np.ndarray[Any, Any], rows: int, columns: int, flavor: str = "VOLUME", **elements: Any
) -> Dataset:
    """Tiles of a slide."""
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[0.0005, 0.0004], SliceThickness=0.01)])
    return dataset(
        tiles,
        len(tiles),
        **{
            "Modality": "SM",
            "ImageType": ["ORIGINAL", "PRIMARY", flavor, "NONE"],
            "TotalPixelMatrixRows": rows,
            "TotalPixelMatrixColumns": columns,
            "DimensionOrganizationType": "TILED_FULL",
            "SharedFunctionalGroupsSequence": [shared],
            **elements,
        },
    )
