"""Sizes and channels of slide scanners' TIFF files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ngff_core.model.channels import Channel
from ngff_core.sources.tiff.meaning import (
    Meaning,
    TaggedImage,
    hex_color,
    parse_xml,
    sized,
    text_or_none,
    with_channels,
)
from ngff_core.sources.tiff.resolution import true_resolution
from ngff_core.sources.units import Quantity, convert, finite, length, positive

_XMP = 700
_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)")
_HURON = re.compile(r"^\s*Resolution\s*=\s*([0-9.eE+-]+)\s*(\S+)", re.MULTILINE)
_NUMBER = re.compile(r'"([^"]+)"')


def svs(image: TaggedImage) -> Meaning:
    """Aperio: ``MPP``, micrometers per pixel of the slide, in the description.

    Descriptions of thumbnails repeat it, so it counts for the first image only.
    """
    found = _MPP.search(image.page.description)
    if found is None or image.page.index != image.tif.pages.first.index:
        return Meaning()
    size = length(found[1], "um")
    return sized({"y": size, "x": size}, "Aperio's MPP")


def ndpi(image: TaggedImage) -> Meaning:
    """Hamamatsu: the resolution tags are the scanner's."""
    return true_resolution(image.page, "XResolution tag (NDPI)")


def huron(image: TaggedImage) -> Meaning:
    """Huron: ``Resolution = 0.4 um`` in the description, of the slide's first image."""
    found = _HURON.search(image.page.description)
    if found is None or image.page.index != image.tif.pages.first.index:
        return Meaning()
    size = length(found[1], found[2])
    return sized({"y": size, "x": size}, "Huron's Resolution")


def qptiff(image: TaggedImage) -> Meaning:
    """PerkinElmer: the resolution tags are the scanner's; each page has XML of its channel."""
    meaning = true_resolution(image.page, "XResolution tag (QPTIFF)")
    if "C" not in image.series.axes:
        return meaning
    pages = [page.aspage() for page in image.series if page is not None]
    channels = [_qptiff_channel(page.description) for page in pages]
    return with_channels(meaning, channels, image.channels, "QPTIFF's XML")


def _qptiff_channel(document: str) -> Channel:
    root = parse_xml(document)
    name = text_or_none(root.findtext("Name"))
    numbers = [int(n) for n in (root.findtext("Color") or "").split(",") if n.strip().isdecimal()]
    color = hex_color(*numbers) if len(numbers) == 3 and max(numbers) < 256 else None
    return Channel(name, color)


def scn(image: TaggedImage) -> Meaning:
    """Leica: the size of the view in nanometers, over that of its largest image in pixels."""
    for element in _all(parse_xml(image.tif.pages.first.description), "image"):
        view = next(_all(element, "view"), None)
        shown = [d for d in _all(element, "dimension") if finite(d.get("ifd")) == image.page.index]
        if view is None or not shown:
            continue
        sizes = {
            axis: _over(view.get(f"size{axis.upper()}"), shown[0].get(f"size{axis.upper()}"))
            for axis in "yx"
        }
        sizes["z"] = length(view.get("spacingZ"), "nm")
        meaning = sized(sizes, "Leica's XML")
        names = [text_or_none(channel.get("name")) for channel in _all(element, "channel")]
        return with_channels(meaning, [Channel(n) for n in names], image.channels, "Leica's XML")
    return Meaning()


def _over(nanometers: str | None, pixels: str | None) -> Quantity | None:
    whole, count = positive(nanometers), positive(pixels)
    return length(whole / count, "nm") if whole is not None and count is not None else None


def bif(image: TaggedImage) -> Meaning:
    """Ventana: ``ScanRes``, micrometers per pixel of the scan, in the iScan element of the XMP."""
    if image.series.name != "Baseline" and image.series is not image.tif.series[0]:
        return Meaning()
    pages = (image.page, image.tif.pages.first)
    documents = [each.tags.valueof(_XMP) for each in pages]
    for document in documents:
        text = document.decode() if isinstance(document, bytes) else document
        if not isinstance(text, str) or "<iScan" not in text:
            continue
        root = parse_xml(text)
        scan = root if _tag(root) == "iScan" else next(_all(root, "iScan"))
        size = length(scan.get("ScanRes"), "um")
        return sized({"y": size, "x": size}, "Ventana's ScanRes")
    return Meaning()


def philips(image: TaggedImage) -> Meaning:
    """Philips: DICOM_PIXEL_SPACING, millimeters between rows and between columns.

    The description has one for each level; the smallest is that of the scan.
    """
    if image.page.index != image.tif.pages.first.index:
        return Meaning()
    root = parse_xml(image.tif.pages.first.description)
    found = [
        [finite(number) or 0.0 for number in _NUMBER.findall(element.text or "")]
        for element in _all(root, "Attribute")
        if element.get("Name") == "DICOM_PIXEL_SPACING"
    ]
    pairs = [pair for pair in found if len(pair) == 2 and min(pair) > 0]
    if not pairs:
        return Meaning()
    y, x = (convert(size, "millimeter", "micrometer") for size in min(pairs))
    micrometers = {"y": Quantity(y, "micrometer"), "x": Quantity(x, "micrometer")}
    return sized(micrometers, "DICOM_PIXEL_SPACING")


def _all(element: Any, tag: str) -> Iterator[Any]:
    return (each for each in element.iter() if _tag(each) == tag)


def _tag(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
