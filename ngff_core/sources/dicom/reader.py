"""DICOM by pydicom and imagecodecs: a file with one or many frames, a folder of series, a slide.

pydicom reads the headers, each once; samples are read and decoded frame by frame, as they are
stored (see ``dicom_frames``). See also ``dicom_stack`` for the order and distance of slices and
``dicom_wsi`` for tiles. Names of patients and other personal data are not read from the files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import RGB, Channel
from ngff_core.sources.affine import Geometry
from ngff_core.sources.base import Reader, as_format_error, check_array, whole_unit
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Pins,
    Placement,
    Role,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.dicom.arrays import FrameArray, TileArray
from ngff_core.sources.dicom.frames import Frames
from ngff_core.sources.dicom.headers import (
    Instance,
    read_instance,
    read_instances,
    with_samples,
)
from ngff_core.sources.dicom.stack import (
    Slice,
    Stack,
    in_plane,
    plane_of,
    slices_of_frames,
    spacing_of,
    stack_slices,
)
from ngff_core.sources.dicom.wsi import describe_slide, is_slide
from ngff_core.storage import ObjectInfo, ObjectStore

_INDEX = "dicomdir"
_UNIT = "millimeter"
_TIME_UNIT = "millisecond"
_ENDINGS = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class _Image:
    """One image, and the array that its samples are.

    Attributes
    ----------
    refusal
        Why its samples are not read, if so.
    """

    description: ImageDescription
    array: FrameArray | TileArray
    refusal: str | None = None

    @property
    def frames(self) -> Sequence[Frames]:
        return self.array.frames if isinstance(self.array, FrameArray) else (self.array.frames,)


def open_images(store: ObjectStore) -> SourceImages:
    """The images of a DICOM file, or of the series in a folder.

    A folder's files are grouped by series, and within a series by the direction, size and kind
    of their frames, so a localizer never becomes a slice of the volume. Raises
    `SourceFormatError` for what is no image, is truncated, or is compressed as nothing reads it.
    """
    with as_format_error(f"{store.uri}: not readable as DICOM"):
        info = store.info("")
        if info is not None:
            instances, images = _of_file(store, info)
        else:
            instances, images = _of_folder(store)
    return SourceImages(
        identity=SourceIdentity(store.uri, _pins(instances, is_folder=info is None)),
        kind="dicom",
        format="a DICOM file" if info is not None else "a folder of DICOM files",
        images=tuple(image.description for image in images),
        open_image=lambda number: _open_image(images[number], store.uri),
        main=_main(images),
    )


def _open_image(image: _Image, uri: str) -> Samples:
    if image.refusal is not None:
        raise SourceFormatError(f"{uri}: {image.refusal}")
    with as_format_error(f"{uri}: cannot be read"):
        # The frames of many compressed files are looked for as they are read: a request for each.
        for frames in image.frames:
            if len(image.frames) == 1 or not frames.is_encapsulated:
                frames.check()
    reader = Reader(image.array, uri, image.array.shape, image.array.dtype)
    return Samples(reader, whole_unit(image.array.unit))


def _main(images: Sequence[_Image]) -> int | None:
    numbers = [i for i, each in enumerate(images) if each.description.role == "image"]
    return numbers[0] if len(numbers) == 1 else None


# --- files -----------------------------------------------------------------------------


def _of_file(store: ObjectStore, info: ObjectInfo) -> tuple[list[Instance], list[_Image]]:
    instance = read_instance(store, info)
    if instance.get("DirectoryRecordSequence"):
        raise SourceFormatError(f"{store.uri}: an index of DICOM files; give the folder it lies in")
    if not with_samples([instance]):
        kind = instance.get("SOPClassUID")
        name = getattr(kind, "name", "of an unknown kind")
        raise SourceFormatError(f"{store.uri}: a DICOM file without an image ({name})")
    return [instance], [_image_of([instance])]


def _of_folder(store: ObjectStore) -> tuple[list[Instance], list[_Image]]:
    files = _files_of(store)
    found = read_instances(files.stores, files.infos, only_dicom=files.unnamed)
    instances = with_samples(found)
    if not instances:
        raise SourceFormatError(f"{store.uri}: no file in this folder is a DICOM image")
    notes: list[Note] = []
    if len(instances) < len(found):
        known = set(map(id, instances))
        _check_no_images([each for each in found if id(each) not in known])
        text = f"{len(found) - len(instances)} DICOM files of the folder, which hold no image"
        notes.append(Note("left out", text))
    images = []
    refused: list[SourceFormatError] = []
    for group in _groups(instances):
        try:
            images.append(_image_of(group))
        except SourceFormatError as error:
            refused.append(error)
    if not images:
        raise refused[0]
    notes += [Note("left out", f"an image that is not read: {error}") for error in refused]
    return instances, [_with_notes(image, notes) for image in images]


def _check_no_images(others: Sequence[Instance]) -> None:
    """Refuse an image that ends before its samples: a volume would lack a slice in silence."""
    for each in others:
        kind = each.get("SOPClassUID")
        name = str(getattr(kind, "name", ""))
        if kind is None or name.endswith("Image Storage") or each.get("Rows"):
            raise SourceFormatError(
                f"{each.store.uri}: truncated: {each.info.size} bytes end before its samples; "
                "copy the file again, or remove it from the folder"
            )


def _with_notes(image: _Image, notes: Sequence[Note]) -> _Image:
    description = image.description
    return replace(image, description=replace(description, notes=(*description.notes, *notes)))


@dataclass(frozen=True)
class _Files:
    """Files of a folder that are DICOM, or may be: ``unnamed`` ones tell by their first bytes."""

    stores: list[ObjectStore]
    infos: list[ObjectInfo]
    unnamed: bool = False


def _files_of(store: ObjectStore) -> _Files:
    """Those that the folder's index names, else those named as DICOM files, else all."""
    entries = store.folder()
    index = next((name for name in entries if name.lower() == _INDEX), None)
    if index is not None:
        return _indexed(store, index)
    files = {n: e for n, e in entries.items() if not e.is_folder and not n.startswith(".")}
    named = {n: e for n, e in files.items() if n.lower().endswith(_ENDINGS)}
    chosen = named or files
    return _Files([store.child(n) for n in chosen], list(chosen.values()), unnamed=not named)


def _indexed(store: ObjectStore, index: str) -> _Files:
    child = store.child(index)
    info = child.info("")
    if info is None:
        raise FileNotFoundError(child.uri)
    header = read_instance(child, info).header
    # Names in an index are in upper case, and often those of the files are not.
    stored = {key.lower(): (key, found) for key, found in store.objects().items()}
    stores, infos, absent = [], [], []
    for record in header.get("DirectoryRecordSequence") or ():
        parts = record.get("ReferencedFileID")
        if not parts or str(record.get("DirectoryRecordType")) != "IMAGE":
            continue
        key = "/".join([parts] if isinstance(parts, str) else [str(part) for part in parts])
        found = stored.get(key.lower())
        if found is None:
            absent.append(key)
            continue
        stores.append(store.child(found[0]))
        infos.append(found[1])
    if absent:
        raise SourceFormatError(
            f"{store.uri}: {len(absent)} files that {index} names are not there: {absent[0]} …"
        )
    return _Files(stores, infos)


def _pins(instances: Sequence[Instance], is_folder: bool) -> Pins:
    decoders = ", ".join(f"{name} {version(name)}" for name in ("pydicom", "imagecodecs"))
    if not is_folder:
        info = instances[0].info
        return (("reader", decoders), ("size", str(info.size)), ("version", info.version))
    lines = sorted(f"{i.store.uri}\0{i.info.size}\0{i.info.version}\n" for i in instances)
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return (("files", f"{len(instances)} {digest}"), ("reader", decoders))


# --- groups of files that are one image ------------------------------------------------


def _groups(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Files that are one image each, or slices of one; in the order of the series' numbers."""
    found: dict[tuple[Any, ...], list[Instance]] = {}
    for number, instance in enumerate(instances):
        found.setdefault(_group(instance, number), []).append(instance)
    return sorted(found.values(), key=lambda group: group[0].count("SeriesNumber"))


def _group(instance: Instance, number: int) -> tuple[Any, ...]:
    """What slices of one volume have in common; for a file with many frames its own number."""
    if (
        is_slide(instance)
        or instance.frames > 1
        or instance.get("PerFrameFunctionalGroupsSequence")
    ):
        return (number,)
    plane = _plane(instance)
    direction = (
        None if plane is None else tuple(round(n, 3) + 0.0 for n in (*plane.rows, *plane.columns))
    )
    spacing = _spacing(instance)[0]
    return (
        str(instance.get("SeriesInstanceUID", "")),
        direction,
        None if spacing is None else tuple(float(f"{n:.4g}") for n in spacing),
        _is_localizer(instance),
        *(
            str(instance.get(keyword, ""))
            for keyword in (
                "Rows",
                "Columns",
                "SamplesPerPixel",
                "PhotometricInterpretation",
                "BitsAllocated",
                "PixelRepresentation",
            )
        ),
    )


def _image_of(group: Sequence[Instance]) -> _Image:
    if group[0].get("ConcatenationUID"):
        raise SourceFormatError(
            f"{group[0].store.uri}: one of several files that are parts of one image (a "
            "concatenation), which are not read together"
        )
    if is_slide(group[0]):
        slide = describe_slide(group[0])
        return _Image(slide.image, slide.array)
    # Where positions say nothing, the numbers are the order in which the images were made.
    group = sorted(group, key=lambda each: (each.count("InstanceNumber"), each.store.uri))
    frames = [Frames.of(instance) for instance in group]
    stack = _stack(group)
    array = FrameArray(frames, stack.table)
    check_array(array.shape, array.dtype, group[0].store.uri)
    first = group[0]
    values = _values(group, stack)
    color = len(frames[0].shape) == 3
    spacing = _spacing(first)
    refusal = f"{_named(first)}{stack.refusal}" if stack.refusal else None
    description = ImageDescription(
        name=_name(first),
        axes=(*stack.axes, "y", "x", *(("c",) if color else ())),
        shape=array.shape,
        dtype=array.dtype.str,
        placement=stack.geometry.placement,
        channels=RGB if color else _window(first, values),
        role=_role(first),
        labels=str(first.get("Modality", "")) == "SEG"
        and str(first.get("SegmentationType", "BINARY")) != "FRACTIONAL",
        origins=_origins(first, spacing[1]),
        notes=(*frames[0].notes, *stack.geometry.notes, *values.notes, *_size_notes(spacing[1])),
        metadata={**stack.geometry.metadata, **values.metadata},
    )
    return _Image(description, array, refusal)


# --- one image -------------------------------------------------------------------------


def _stack(group: Sequence[Instance]) -> Stack:
    first = group[0]
    if len(group) == 1 and first.get("PerFrameFunctionalGroupsSequence"):
        slices = list(slices_of_frames(first))
        sparse = str(first.get("Modality", "")) == "SEG"
        return _with_time(first, stack_slices(slices, sparse))
    if len(group) == 1 and first.frames > 1:
        return _plain_frames(first)
    slices = [
        Slice(number, 0, _plane(instance), _keys(instance)) for number, instance in enumerate(group)
    ]
    stack = stack_slices(slices)
    if not stack.geometry.placement.scale and stack.refusal is None:
        flat = in_plane(_spacing(first)[0])
        stack = replace(stack, geometry=replace(stack.geometry, placement=flat))
    return _with_time(first, stack)


def _plain_frames(instance: Instance) -> Stack:
    """Frames without functional groups: a movie, planes of a dose, or nothing is said of them."""
    table = np.array([(0, number) for number in range(instance.frames)])
    planes = _dose_planes(instance)
    if planes is not None:
        return stack_slices(planes)
    flat = in_plane(_spacing(instance)[0])
    step, unknown = _frame_time(instance)
    if step is None and not unknown:
        return Stack((UNNAMED,), table, Geometry(flat))
    scale = {**flat.scale, **({"t": step} if step else {})}
    units = {**flat.units, **({"t": _TIME_UNIT} if step else {})}
    return Stack(("t",), table, Geometry(Placement(scale, units), unknown))


def _frame_time(instance: Instance) -> tuple[float | None, tuple[Note, ...]]:
    """Milliseconds between two frames, and that they are uneven, if so."""
    step = _number(instance.get("FrameTime"))
    if step is not None and step > 0:
        return step, ()
    steps = [float(n) for n in _listed(instance.get("FrameTimeVector"))[1:]]
    if not steps:
        return None, ()
    if min(steps) > 0 and max(steps) - min(steps) <= 0.02 * max(steps):
        return float(f"{float(np.mean(steps)):.7g}"), ()
    text = f"the time between frames: it is from {min(steps):g} to {max(steps):g} ms"
    return None, (Note("unknown", text),)


def _dose_planes(instance: Instance) -> list[Slice] | None:
    """The planes of a dose, which lie at offsets from the first one along the normal."""
    plane = _plane(instance)
    offsets = [float(n) for n in _listed(instance.get("GridFrameOffsetVector"))]
    if plane is None or len(offsets) != instance.frames:
        return None
    # With the first one not 0 they are coordinates along the axis of the patient.
    offsets = [offset - offsets[0] for offset in offsets]
    positions = [np.array(plane.position) + plane.normal * offset for offset in offsets]
    return [
        Slice(0, number, replace(plane, position=tuple(float(n) for n in position)))
        for number, position in enumerate(positions)
    ]


def _with_time(instance: Instance, stack: Stack) -> Stack:
    step = _number(instance.get("TemporalResolution"))
    if "t" not in stack.axes or step is None or step <= 0:
        return stack
    placement = stack.geometry.placement
    placement = replace(
        placement,
        scale={**placement.scale, "t": step},
        units={**placement.units, "t": _TIME_UNIT},
    )
    return replace(stack, geometry=replace(stack.geometry, placement=placement))


def _plane(instance: Instance) -> Any:
    return plane_of(
        instance.get("ImagePositionPatient"),
        instance.get("ImageOrientationPatient"),
        _spacing(instance)[0],
    )


def _keys(instance: Instance) -> Mapping[str, int]:
    keys = {"t": "TemporalPositionIdentifier", "echo": "EchoNumbers"}
    found = {axis: _number(instance.get(keyword)) for axis, keyword in keys.items()}
    return {axis: round(value) for axis, value in found.items() if value is not None}


def _spacing(instance: Instance) -> tuple[tuple[float, float] | None, str]:
    """Distance of rows and of columns, and the element that says it."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = spacing_of(instance.get(keyword))
        if found is not None:
            return found, keyword
    return None, ""


def _size_notes(keyword: str) -> tuple[Note, ...]:
    if keyword != "ImagerPixelSpacing":
        return ()
    text = "sizes are those at the detector: the file does not say the magnification"
    return (Note("assumed", text),)


def _origins(instance: Instance, keyword: str) -> dict[str, str]:
    if instance.get("PerFrameFunctionalGroupsSequence"):
        return dict.fromkeys(("scale", "translation", "orientations"), "functional groups")
    found = {"scale": keyword} if keyword else {}
    if instance.get("ImagePositionPatient"):
        found["translation"] = "ImagePositionPatient"
        found["orientations"] = "ImageOrientationPatient"
    return found


# --- names and roles -------------------------------------------------------------------


def _name(instance: Instance) -> str | None:
    """The description of its series, else its number; never a name of a person."""
    text = str(instance.get("SeriesDescription", "")).strip()
    number = instance.get("SeriesNumber")
    return text or (f"series {number}" if number is not None else None)


def _named(instance: Instance) -> str:
    number = instance.get("SeriesNumber")
    return f"series {number}: " if number is not None else ""


def _is_localizer(instance: Instance) -> bool:
    return "LOCALIZER" in [str(value) for value in instance.get("ImageType") or ()]


def _role(instance: Instance) -> Role:
    return "overview" if _is_localizer(instance) else "image"


# --- meaning of samples ----------------------------------------------------------------


@dataclass(frozen=True)
class _Values:
    """How stored samples become the numbers that they stand for."""

    rescale: tuple[float, float] = (1.0, 0.0)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def _values(group: Sequence[Instance], stack: Stack) -> _Values:
    first = group[0]
    dose = _number(first.get("DoseGridScaling"))
    if dose is not None and dose > 0:
        units = str(first.get("DoseUnits", "")).lower() or "dose"
        text = (
            f"samples are as stored; the dose in {units} is {dose:g} * sample (dose_grid_scaling)"
        )
        return _Values((dose, 0.0), (Note("left out", text),), {"dose_grid_scaling": dose})
    if any(instance.get("ModalityLUTSequence") for instance in group):
        text = "samples are as stored; the table of the numbers they stand for (Modality LUT)"
        return _Values(notes=(Note("left out", text),), metadata={"modality_lut": True})
    pairs = _rescales(group, stack)
    if set(pairs) == {(1.0, 0.0)}:
        return _Values()
    if len(set(pairs)) == 1:
        slope, intercept = pairs[0]
        text = (
            f"samples are as stored; the numbers they stand for are {slope:g} * sample "
            f"{intercept:+g} (rescale in the metadata)"
        )
        metadata = {"rescale": {"slope": slope, "intercept": intercept}}
        return _Values((slope, intercept), (Note("left out", text),), metadata)
    text = (
        f"samples are as stored, and each of {len(pairs)} frames has a scale of its own, so they "
        "cannot be compared between frames (rescale in the metadata, in the order of frames)"
    )
    lists = {"slope": [s for s, _ in pairs], "intercept": [i for _, i in pairs]}
    return _Values(notes=(Note("left out", text),), metadata={"rescale": lists})


def _rescales(group: Sequence[Instance], stack: Stack) -> list[tuple[float, float]]:
    """Slope and intercept of each frame, in the order of the array."""
    places = stack.table.reshape(-1, 2)
    return [_rescale(group[int(file)], int(frame)) for file, frame in places if int(file) >= 0]


def _rescale(instance: Instance, frame: int) -> tuple[float, float]:
    groups = instance.get("PerFrameFunctionalGroupsSequence") or ()
    shared = instance.get("SharedFunctionalGroupsSequence") or ()
    for group in (*groups[frame : frame + 1], *shared[:1]):
        found = group.get("PixelValueTransformationSequence")
        if found:
            return _pair(found[0].get("RescaleSlope"), found[0].get("RescaleIntercept"))
    return _pair(instance.get("RescaleSlope"), instance.get("RescaleIntercept"))


def _pair(slope: Any, intercept: Any) -> tuple[float, float]:
    return _number(slope) or 1.0, _number(intercept) or 0.0


def _window(instance: Instance, values: _Values) -> tuple[Channel, ...]:
    """The first window of the file, in stored numbers; it has it in those they stand for."""
    center = _number(_one(instance.get("WindowCenter")))
    width = _number(_one(instance.get("WindowWidth")))
    slope, intercept = values.rescale
    if (
        center is None
        or width is None
        or width <= 0
        or slope == 0
        or {"dose_grid_scaling", "modality_lut"} & set(values.metadata)
    ):
        return ()
    low, high = sorted((center + sign * width / 2 - intercept) / slope for sign in (-1, 1))
    return (Channel(window=(low, high)),)


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _one(value: Any) -> Any:
    """The first of several values."""
    values = _listed(value)
    return values[0] if values else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | float | int) else list(value)
