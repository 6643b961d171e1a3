"""The options of the command line, one annotated type each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from ngff_core import (
    BuildOptions,
)
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH, OME_ZARR_VERSIONS
from ngff_flows.cli.parsing import parse_sizes

Source = Annotated[
    str, typer.Argument(help="A zarr array, an OME-Zarr image, a TIFF or an .npy: path or URI.")
]


Target = Annotated[str, typer.Argument(help="The pyramid, by custom NAME.ome.zarr: path or URI.")]


Method = Annotated[
    str,
    typer.Option(
        help="itkwasm_gaussian for intensities, itkwasm_bin_shrink for fast exact means, "
        "itkwasm_label_image for labels, dask_image_mode for labels and large steps, "
        "dask_image_nearest for quick looks; docs/methods.md has all nine."
    ),
]


ScaleFactors = Annotated[
    str,
    typer.Option(
        help="An int: double the spatial axes while the image is large beside its chunks; the "
        "int is the minimum length. Or a list such as 2,4,8 relative to the full image, or JSON."
    ),
]


Chunks = Annotated[
    str | None,
    typer.Option(
        help="An int for the spatial axes, sizes z,y,x, or JSON. "
        "[default: 128 for volumes, 256 for planes]",
        show_default=False,
    ),
]


Shards = Annotated[
    str | None,
    typer.Option(
        help="Like --chunks, in whole multiples of them; not in OME-Zarr 0.4. "
        "[default: 32 to 64 MiB raw]",
        show_default=False,
    ),
]


Version = Annotated[str, typer.Option(help=f"One of {', '.join(OME_ZARR_VERSIONS)}.")]


Compressor = Annotated[
    str,
    typer.Option(help="blosc:zstd:1:bitshuffle, blosc:lz4:5:shuffle, zstd:3, gzip:5, none."),
]


Workers = Annotated[
    int | None,
    typer.Option(
        help="Regions worked on at once; with a cluster, by each worker process. "
        "[default: one per core, or per thread of the cluster]",
        show_default=False,
        min=1,
    ),
]


MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Memory the work may take, such as 2GiB; with a cluster, each worker process. "
        "[default: half of what is available]",
        show_default=False,
    ),
]


Cache = Annotated[
    str, typer.Option(help="Rewrite the source first to read it by region: auto, always, never.")
]


Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Remove another build, or anything else, at the target."),
]


DaskAddress = Annotated[
    str | None,
    typer.Option(
        help="Scheduler of a dask cluster that does the work, such as tcp://10.0.0.1:8786; "
        "its workers need ngff-flows, and must see source and target.",
        show_default=False,
    ),
]


DaskWorkers = Annotated[
    int | None,
    typer.Option(
        help="Start so many worker processes here, and have them do the work.",
        show_default=False,
        min=1,
    ),
]


Throughput = Annotated[
    float, typer.Option(help="MB/s of raw samples, read and written, that a worker gets through.")
]


Compression = Annotated[float, typer.Option(help="Raw over stored bytes, as expected.")]


Options = Annotated[
    str | None,
    typer.Option(
        "--storage-options",
        help="What fsspec is to be given for source and target: a JSON object, or @FILE that "
        'holds one; by protocol where they differ, as {"gs": {...}, "s3": {...}}. '
        "[default: the environment, and ~/.config/fsspec]",
        show_default=False,
        metavar="JSON",
    ),
]


Block = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-block",
        help="A saved Prefect block with the credentials, as KIND/NAME, such as gcs-bucket/lab; "
        "may be given for each kind of place.",
        show_default=False,
        metavar="KIND/NAME",
    ),
]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _chosen(
    method: Method = "itkwasm_gaussian",
    scale_factors: ScaleFactors = str(DEFAULT_MIN_LENGTH),
    chunks: Chunks = None,
    shards: Shards = None,
    ome_zarr_version: Version = "0.5",
    compressor: Compressor = DEFAULT_COMPRESSOR,
    workers: Workers = None,
    memory_limit: MemoryLimit = None,
    cache: Cache = "auto",
    overwrite: Overwrite = False,
    dask_address: DaskAddress = None,
    dask_workers: DaskWorkers = None,
) -> BuildOptions:
    """What decides a build, from how the command line spells it."""
    return BuildOptions(
        method=method,
        scale_factors=parse_sizes("scale-factors", scale_factors),
        chunks=parse_sizes("chunks", chunks),
        shards=parse_sizes("shards", shards),
        ome_zarr_version=ome_zarr_version,
        compressor=compressor,
        workers=workers,
        memory_limit=memory_limit,
        cache=cache,  # type: ignore[arg-type]  # any text: who uses the options checks it
        overwrite=overwrite,
        dask_address=dask_address,
        dask_workers=dask_workers,
    )


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the parameters of `_chosen` in the place of its ``options``.

    So that build and plan cannot come to differ in what they take.
    """
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_chosen, eval_str=True).parameters

    @wraps(command)
    def spelled(**given: Any) -> None:
        command(options=_chosen(**{name: given.pop(name) for name in shared}), **given)

    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += shared.values() if name == "options" else [parameter]
    # Typer reads both, and would find those of `command`.
    spelled.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    spelled.__annotations__ = {p.name: p.annotation for p in parameters}
    return spelled
