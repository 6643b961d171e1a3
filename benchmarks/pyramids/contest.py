"""The contestants and the comparisons: tables, and nothing else.

A comparison divides the median of one side by the median of the other. Where a side has
several contestants, the fastest of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.pyramids.images import Image
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.layout import default_chunks, default_shards

THREADS = 2
REPEATS = 5


@dataclass(frozen=True)
class Contestant:
    """One thing to measure: a module of `benchmarks.contestants` and its options."""

    name: str
    image: Image
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    package: str = ""
    """The package that must be installed."""
    repeats: int | None = None
    """Fewer runs than the others, where one run takes minutes."""
    checkout: Path | None = None
    """Another checkout of this project whose code runs; None for this one."""

    @property
    def key(self) -> str:
        return f"{self.image.name} {self.name}"


@dataclass(frozen=True)
class Comparison:
    """A row of the table."""

    image: str
    what: str
    one: tuple[str, ...]
    other: tuple[str, ...]
    at_most: float | None = None
    at_least: float | None = None
    kind: Literal["ratio", "seconds more", "bytes"] = "ratio"


BIN, GAUSSIAN, LABEL = "itkwasm_bin_shrink", "itkwasm_gaussian", "itkwasm_label_image"
# The compressor that ome_zarr_pyramid uses where the source has none that it can keep.
OZP = "blosc:lz4:5:shuffle"


def our_layout(image: Image) -> dict[str, Any]:
    """Our default chunks, shards and compressor for an image, spelled out."""
    sizes = default_chunks(image.dims, image.shape, image.chunks)
    chunks = tuple(sizes[d] for d in image.dims)
    shards = default_shards(image.dims, image.shape, chunks, 2)
    return {"chunks": chunks, "shards": shards, "compressor": DEFAULT_COMPRESSOR}


def contestants(images: dict[str, Image]) -> list[Contestant]:
    """All contestants, in the order of their turns."""
    return [
        found
        for image in images.values()
        for found in (_on_labels(image) if image.labels else _on_intensities(image))
    ]


def _on_intensities(image: Image) -> list[Contestant]:
    ours = our_layout(image)
    zarr, tensorstore = ({"method": who, **ours} for who in ("zarr", "tensorstore"))
    theirs = {"compressor": OZP}
    table: list[tuple[Any, ...]] = [
        ("copy, zarr-python", "copying", zarr),
        ("copy, tensorstore", "copying", tensorstore, "tensorstore"),
        ("ours, bin shrink", "ours", {"method": BIN}),
        ("ours, Gaussian", "ours", {"method": GAUSSIAN}),
        ("ours, Gaussian, one worker", "ours", {"method": GAUSSIAN, "workers": 1}),
        ("our flow, Gaussian", "our_flow", {"method": GAUSSIAN}),
        ("tensorstore, mean", "tensorstore_downsample", ours, "tensorstore"),
        ("ome_zarr_pyramid, mean", "ome_zarr_pyramid", theirs, "ome-zarr-pyramid"),
        ("ours, bin shrink, as ome_zarr_pyramid", "ours", {"method": BIN, **theirs}),
        ("ngff-zarr, Gaussian", "ngff_zarr", {}, "ngff-zarr", 3),
        ("ngff-zarr, bin shrink", "ngff_zarr", {"method": BIN}, "ngff-zarr"),
        ("ngff-zarr, Gaussian, as ours", "ngff_zarr", ours, "ngff-zarr", 3),
        ("ngff-zarr, bin shrink, as ours", "ngff_zarr", {"method": BIN, **ours}, "ngff-zarr"),
        ("ome-zarr-py", "ome_zarr_py", {}, "ome-zarr", 3),
    ]
    return [Contestant(name, image, *rest) for name, *rest in table]


def duel(images: dict[str, Image], baseline: Path) -> list[Contestant]:
    """Our own contestants, of this checkout and of an earlier one, taking turns."""
    table: list[tuple[str, str, dict[str, Any]]] = [
        ("bin shrink", "ours", {"method": BIN}),
        ("Gaussian", "ours", {"method": GAUSSIAN}),
        ("Gaussian, one worker", "ours", {"method": GAUSSIAN, "workers": 1}),
        ("Gaussian, flow", "our_flow", {"method": GAUSSIAN}),
    ]
    return [
        Contestant(f"{name}, {whose}", image, module, options, checkout=checkout)
        for image in images.values()
        if not image.labels
        for name, module, options in table
        for whose, checkout in (("now", None), ("baseline", baseline))
    ]


def duel_rows() -> list[Comparison]:
    """This checkout's times divided by the baseline's."""
    names = ("bin shrink", "Gaussian", "Gaussian, one worker", "Gaussian, flow")
    return [
        Comparison(
            image,
            f"{name}, now / baseline",
            (f"{image} {name}, now",),
            (f"{image} {name}, baseline",),
            at_most=1.03,
        )
        for image in ("3-D", "2-D")
        for name in names
    ]


def _on_labels(image: Image) -> list[Contestant]:
    method = {"method": LABEL}
    same = {**method, **our_layout(image)}
    return [
        Contestant("ours, label", image, "ours", method),
        Contestant("ngff-zarr, label", image, "ngff_zarr", method, "ngff-zarr", 1),
        Contestant("ngff-zarr, label, as ours", image, "ngff_zarr", same, "ngff-zarr", 1),
    ]


def comparisons() -> list[Comparison]:
    """The table, row by row."""
    return [*_rows("3-D", 1.35, 1.6), *_rows("2-D", 1.6, 1.85)]


def _rows(image: str, shrink: float, gaussian: float) -> list[Comparison]:
    def key(*names: str) -> tuple[str, ...]:
        return tuple(f"{image} {name}" for name in names)

    copy = key("copy, zarr-python", "copy, tensorstore")
    our_shrink, our_gaussian = key("ours, bin shrink"), key("ours, Gaussian")
    same_as_ozp, ozp = key("ours, bin shrink, as ome_zarr_pyramid"), key("ome_zarr_pyramid, mean")
    label = f"{image} labels"

    def row(what: str, *rest: Any, **more: Any) -> Comparison:
        return Comparison(image, what, *rest, **more)

    return [
        row("our bin shrink / a plain copy", our_shrink, copy, at_most=shrink),
        row("our Gaussian / a plain copy", our_gaussian, copy, at_most=gaussian),
        row("our bin shrink / ome_zarr_pyramid", same_as_ozp, ozp, at_most=0.8),
        row("tensorstore / our bin shrink", key("tensorstore, mean"), our_shrink, at_least=2),
        row(
            "ngff-zarr / ours, Gaussian",
            key("ngff-zarr, Gaussian"),
            our_gaussian,
            at_least=20,
        ),
        row(
            "ngff-zarr / ours, Gaussian, same layout",
            key("ngff-zarr, Gaussian, as ours"),
            our_gaussian,
            at_least=8,
        ),
        row(
            "ngff-zarr / ours, bin shrink",
            key("ngff-zarr, bin shrink"),
            our_shrink,
            at_least=6,
        ),
        row(
            "ngff-zarr / ours, bin shrink, same layout",
            key("ngff-zarr, bin shrink, as ours"),
            our_shrink,
            at_least=2.5,
        ),
        row(
            "ngff-zarr / ours, label, on a crop",
            (f"{label} ngff-zarr, label",),
            (f"{label} ours, label",),
            at_least=100,
        ),
        row(
            "ngff-zarr / ours, label, same layout",
            (f"{label} ngff-zarr, label, as ours",),
            (f"{label} ours, label",),
            at_least=100,
        ),
        row("ome-zarr-py / our Gaussian", key("ome-zarr-py"), our_gaussian, at_least=5),
        row(
            "one worker / two, our Gaussian",
            key("ours, Gaussian, one worker"),
            our_gaussian,
            at_least=1.7,
        ),
        row(
            "our flow, seconds above the core",
            key("our flow, Gaussian"),
            our_gaussian,
            at_most=3,
            kind="seconds more",
        ),
        *(
            row(f"bytes stored, ours / {name}", our_gaussian, key(name), kind="bytes")
            for name in ("ngff-zarr, Gaussian", "ome_zarr_pyramid, mean", "ome-zarr-py")
        ),
    ]
