"""The images of an OME-TIFF, in one file or in many: each Image of its OME-XML that has planes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Note, Pins, Role
from ngff_core.sources.tiff.axes import SAMPLES
from ngff_core.sources.tiff.checks import check_decodable, check_extent, check_page_chain
from ngff_core.sources.tiff.files import StoredFile, TiffSource, companion_pins, look_beside
from ngff_core.sources.tiff.image import Details, OmeReference, Stored, TiffImage
from ngff_core.sources.tiff.ome_planes import (
    Names,
    OmeImage,
    image_elements,
    images_of,
    metadata_file,
    parse_document,
    place_planes,
    show_files,
)
from ngff_core.sources.tiff.tifffile_compat import open_tiff, series_of_files
from ngff_core.sources.tiff.views import Form
from ngff_core.storage import ObjectInfo

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

_MAX_DOCUMENT = 1 << 28
"""Largest OME-XML document in bytes that is read from a companion."""

_SLIDE_ROLES: dict[str, Role] = {"label image": "slide label", "macro image": "macro"}
"""Names that Bio-Formats gives to the images of a slide that are not its scan."""


@dataclass(frozen=True)
class FoundImages:
    """The images of a TIFF file.

    Attributes
    ----------
    images
        Those with samples.
    main
        Number of the one that is meant; None if the file does not say.
    pins
        What identifies the companions.
    """

    images: tuple[TiffImage, ...]
    main: int | None = None
    pins: Pins = ()


@dataclass(frozen=True)
class _Document:
    """An OME-XML document, and how it names files."""

    root: Any
    names: Names
    holder: str | None
    """The companion that the document is in."""
    elements: tuple[Any, ...] = ()
    """The Image elements."""


def find_images(source: TiffSource) -> FoundImages:
    """The images of an OME-TIFF. No companion is opened but the one with the OME-XML.

    Raises `SourceFormatError` for OME-XML that cannot be read, and where it describes no image
    with samples.
    """
    document = _document(source)
    document = replace(document, elements=image_elements(document.root))
    with as_format_error(f"{source.uri}: the OME-XML cannot be used"):
        described = images_of(document.root, document.names)
    planes = [image for image in described if image.runs]
    if not planes:
        raise SourceFormatError(
            f"{source.uri}: an OME-TIFF whose OME-XML describes {len(described)} images, none of "
            "which has samples in a file"
        )
    names = {name for image in planes for name in image.files}
    names |= {document.holder} if document.holder else set()
    infos = look_beside(source.store, frozenset(names))
    notes = _notes(described)
    images = [_image(source, document, image, infos, notes) for image in planes]
    here = [number for number, image in enumerate(planes) if image.here]
    return FoundImages(
        images=_with_roles(images),
        main=here[0] if len(here) == 1 else None,
        pins=companion_pins(infos),
    )


# --- the document ----------------------------------------------------------------------


def _document(source: TiffSource) -> _Document:
    with as_format_error(f"{source.uri}: an OME-TIFF whose OME-XML cannot be read"):
        root = parse_document(source.tif.pages.first.description)
    elsewhere = metadata_file(root)
    if elsewhere is None:
        return _Document(root, Names(source.name, root.get("UUID")), None)
    name, uuid = elsewhere
    if look_beside(source.store, frozenset((name,))).get(name) is None:
        raise SourceFormatError(
            f"{source.uri}: part of a set of OME-TIFF files that {name or 'a file without a name'} "
            "describes, which is not beside it"
        )
    whole = _document_in(source, name)
    is_tiff = whole[1]
    names = Names(source.name, uuid, name if is_tiff else None, whole[0].get("UUID"))
    return _Document(whole[0], names, name)


def _document_in(source: TiffSource, name: str) -> tuple[Any, bool]:
    """The OME-XML in a companion, and whether that is a TIFF file."""
    folder = source.store.parent()
    what = f"{folder.uri}/{name}: the OME-XML of {source.name} cannot be read"
    with as_format_error(what):
        start = folder.read_part(name, 0, 4) or b""
        if start[:2] in (b"II", b"MM"):
            with open_tiff(StoredFile(folder, name), name) as tif:
                return parse_document(tif.pages.first.description), True
        data = folder.read_part(name, 0, _MAX_DOCUMENT) or b""
        return parse_document(data.decode("utf-8-sig")), False


def _notes(described: tuple[OmeImage, ...]) -> tuple[Note, ...]:
    """That some images are described only."""
    empty = [image for image in described if not image.runs]
    if not empty:
        return ()
    names = show_files([repr(image.name or f"Image {image.number}") for image in empty])
    text = f"{len(empty)} images of the OME-XML that have no samples in any file: {names}"
    return (Note("left out", text),)


# --- descriptions ----------------------------------------------------------------------


def _image(
    source: TiffSource,
    document: _Document,
    image: OmeImage,
    infos: Mapping[str, ObjectInfo | None],
    notes: tuple[Note, ...],
) -> TiffImage:
    page = _page(source, image)
    samples = _samples(image, page)
    dtype = page.dtype if page is not None else image.pixels.dtype
    if dtype is None:
        raise SourceFormatError(
            f"{source.uri}: samples of OME's Image {image.number} are of a type that is not known"
        )
    axes, shape = image.pixels.outer(samples)
    tail = ((SAMPLES,), (samples,)) if samples > 1 else ((), ())
    lengths = (*shape, image.pixels.sizes["Y"], image.pixels.sizes["X"], *tail[1])
    if page is not None and image.pixels.dtype is not None and image.pixels.dtype != dtype:
        text = f"the type {image.pixels.dtype} that the OME-XML names: the samples are of {dtype}"
        notes = (*notes, Note("left out", text))
    if image.assumed:
        text = "the planes are all pages in their order: the OME-XML does not say where they are"
        notes = (*notes, Note("assumed", text))
    return TiffImage(
        form=Form((*axes, "y", "x", *tail[0]), lengths, np.dtype(dtype)),
        kind="ome",
        open_pages=lambda: _open(source, image, infos),
        page=page,
        details=Details(
            name=image.name,
            notes=notes,
            origins={"axes": "OME-XML"},
            ome=OmeReference(document.root, image.number, document.elements[image.number]),
        ),
    )


def _page(source: TiffSource, image: OmeImage) -> TiffPage | None:
    """A page of the image in the file that is read."""
    run = next((run for run in image.runs if run.file is None), None)
    if run is None:
        return None
    try:
        return source.tif.pages[run.page].aspage()
    except IndexError:
        return None


def _samples(image: OmeImage, page: TiffPage | None) -> int:
    """Samples of a pixel: by the OME-XML, or by the page where the OME-XML does not say."""
    if page is None or image.pixels.samples > 1 or image.pixels.sizes["C"] % page.samplesperpixel:
        return image.pixels.samples
    return int(page.samplesperpixel)


def _with_roles(images: list[TiffImage]) -> tuple[TiffImage, ...]:
    """Images that Bio-Formats names as those of a slide have their role, beside its scan."""
    roles = [_SLIDE_ROLES.get((image.details.name or "").lower(), "image") for image in images]
    if "image" not in roles:
        return tuple(images)
    return tuple(
        replace(image, details=replace(image.details, role=role))
        for image, role in zip(images, roles, strict=True)
    )


# --- pages -----------------------------------------------------------------------------


def _open(source: TiffSource, image: OmeImage, infos: Mapping[str, ObjectInfo | None]) -> Stored:
    """All planes of the image, in as many files as they lie in."""
    _check_companions(source, image, infos)
    files: dict[str | None, TiffFile] = {
        name: source.tif if name is None else source.open_beside(name)
        for name in dict.fromkeys(run.file for run in image.runs)
    }
    for name, file in files.items():
        check_page_chain(file, _size(source, infos, name), _uri(source, name))
    counts = {name: len(file.pages) for name, file in files.items()}
    first = next((p for p in map(_first_page(files), image.runs) if p is not None), None)
    samples = _samples(image, first)
    with as_format_error(source.uri):
        placed = place_planes(image, samples, counts)
    pages = _load(files, placed, source.uri)
    with as_format_error(f"{source.uri}: the planes of the OME-TIFF do not fit together"):
        keyframe = _check_alike(pages.values(), image, samples)
    axes, shape = image.pixels.outer(samples)
    letters = "".join("Q" if len(axis) > 1 else axis.upper() for axis in axes)
    series: TiffPageSeries = series_of_files(
        [pages[each] for each in placed if each is not None],
        (*shape, *keyframe.shape),
        letters + keyframe.axes,
        dtype=keyframe.dtype,
        parent=source.tif,
        name=image.name,
        kind="ome",
        multifile=len(files) > 1,
    )
    check_extent(series, source.info.size, source.uri)
    check_decodable(series, source.uri)
    for name, file in files.items():
        if name is not None:
            # tifffile opens it again when it reads, and keeps a few files open.
            file.filehandle.close()
    names = {"y": "y", "x": "x", "s": SAMPLES, "z": "z"}
    return Stored(series, (*axes, *(names[letter.lower()] for letter in keyframe.axes)))


def _first_page(files: Mapping[str | None, TiffFile]) -> Any:
    def page(run: Any) -> TiffPage | None:
        pages = files[run.file].pages
        return pages[run.page].aspage() if run.page < len(pages) else None

    return page


def _uri(source: TiffSource, name: str | None) -> str:
    return source.uri if name is None else f"{source.store.parent().uri}/{name}"


def _size(source: TiffSource, infos: Mapping[str, ObjectInfo | None], name: str | None) -> int:
    info = source.info if name is None else infos[name]
    return 0 if info is None else info.size


def _check_companions(
    source: TiffSource, image: OmeImage, infos: Mapping[str, ObjectInfo | None]
) -> None:
    missing = sorted(name for name in image.files if infos.get(name) is None)
    if missing:
        count = len(image.files) + image.here
        raise SourceFormatError(
            f"{source.uri}: an OME-TIFF of {count} files, {len(missing)} of which are missing "
            f"beside it: {show_files(missing)}"
        )


def _load(
    files: Mapping[str | None, TiffFile], placed: Iterable[tuple[str | None, int] | None], uri: str
) -> dict[tuple[str | None, int], TiffPage | TiffFrame]:
    """The pages that hold planes, each read once; those of a file share its first as keyframe."""
    wanted: dict[str | None, set[int]] = {}
    for each in placed:
        if each is not None:
            wanted.setdefault(each[0], set()).add(each[1])
    found: dict[tuple[str | None, int], TiffPage | TiffFrame] = {}
    for name, numbers in wanted.items():
        pages = files[name].pages
        pages.useframes = True
        first = min(numbers)
        with as_format_error(
            f"{uri}: page {first} of {name or 'it'} and those that follow are of different kinds"
        ):
            pages.set_keyframe(first)
            for number in sorted(numbers):
                found[name, number] = pages[number]
    return found


def _check_alike(pages: Iterable[TiffPage | TiffFrame], image: OmeImage, samples: int) -> TiffPage:
    """The keyframe of the planes. Raises ``ValueError`` where they are not one array."""
    found = {id(page.keyframe): page.keyframe for page in pages}
    keyframes = [page for page in found.values() if page is not None]
    first = keyframes[0]
    for other in keyframes:
        # Found now, as it may need the file, which is not always open later.
        other.decode  # noqa: B018
        if (other.shaped, other.dtype, other.chunks) != (first.shaped, first.dtype, first.chunks):
            raise ValueError(
                f"pages of {first.shape} {first.dtype} in pieces of {first.chunks}, and of "
                f"{other.shape} {other.dtype} in pieces of {other.chunks}"
            )
    plane = (image.pixels.sizes["Y"], image.pixels.sizes["X"])
    if (first.imagelength, first.imagewidth) != plane or first.samplesperpixel != samples:
        raise ValueError(
            f"pages of {first.imagelength} x {first.imagewidth} with {first.samplesperpixel} "
            f"samples, where the OME-XML says {plane[0]} x {plane[1]} with {samples}"
        )
    if math.prod(first.shape) != math.prod(plane) * samples:
        raise ValueError(f"pages of the shape {first.shape}")
    return first
