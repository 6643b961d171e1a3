"""The options of a build, defined once.

`BuildOptions` is the only definition: the form of the Prefect flow, the options of the command
line and the documentation of `build_pyramid` are made from its fields. A new option is a new
field here, and a keyword in the signature of `build_pyramid`, which a test compares with it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from numbers import Integral
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ngff_core.config import available_cores, config, parse_size
from ngff_core.errors import InvalidOptionError
from ngff_core.kernels.methods import Methods
from ngff_core.model.channels import parse_color
from ngff_core.model.selection import ALL_SPATIAL, Selection, split_dims
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.layout import LevelPaths
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH, OmeZarrVersion
from ngff_core.plan.scale_factors import ScaleFactors
from ngff_core.plan.source_cache import CacheMode

Sizes = int | dict[str, int] | list[int] | None


@dataclass(frozen=True)
class Option:
    """How an option is shown and checked, beside its Python type and default."""

    help: str
    """What it does, in sentences that fit a form, a help text and a docstring alike."""
    default_text: str | None = None
    """What the default None means."""
    title: str | None = None
    """Label in a form; by default made from the name."""
    plain_type: Any = None
    """The type in forms and on the command line, where Python code may give more types."""
    at_least: int | None = None
    stored: bool = False
    """Whether it decides stored bytes."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build. Only those before ``workers`` decide stored bytes.

    `build_pyramid` takes the same options as keyword arguments, and describes them in full.

    Attributes
    ----------
    series
        Number or name of the image in a source that holds several; ``"all"`` for `build_series`.
    dims
        Names of the source's axes, such as ``"czyx"``.
    pick
        One position on each of some axes, such as ``{"h": 0}``.
    scale, units
        Size of a sample and its unit by axis, in place of the source's.
    channel_names
        A name for each channel, in place of the source's.
    channel_colors
        A color for each channel, such as ``["cyan", "FF8000"]``, in place of the source's.
    method
        How samples of the smaller levels are computed. Default: `Methods.ITKWASM_GAUSSIAN`, or
        `Methods.ITKWASM_LABEL_IMAGE` for a source that says it holds labels.
    scale_factors
        Minimum length in samples, or one factor for each level above 0. Default: 128.
    chunks, shards
        Sizes in samples: one number for all spatial axes, or sizes by axis. Default: 128 for
        volumes and 256 for planes; shards of 32 to 64 MiB before compression. ``shards="none"``
        makes arrays without shards.
    compressor
        ``blosc:CODEC:LEVEL:SHUFFLE``, ``zstd:LEVEL``, ``gzip:LEVEL`` or ``none``.
    ome_zarr_version
        ``"0.4"``, ``"0.5"`` or ``"0.6"``. Default: 0.5.
    level_paths
        ``"flat"`` for levels at ``0``, ``1``, ``2``, or ``"named"`` for ``scale0/NAME``.
    checksums
        Whether a CRC-32C follows each chunk. Default: True.
    workers
        Regions processed at the same time. Default: one for each core.
    memory_limit
        Bytes that the build may use, or text such as ``"2GiB"``. Default: half of the available
        memory.
    cache
        ``"auto"``, ``"always"`` or ``"never"``: whether to copy the source first.
    overwrite
        Whether to delete the zarr hierarchy at the target first. Default: False.
    dask_address, dask_workers
        A dask cluster that does the work, or the number of worker processes to start for it.

    Examples
    --------
    >>> BuildOptions(method="dask_image_mode", scale_factors=[2, 4]).chunks is None
    True
    """

    series: Annotated[
        int | str | None,
        Option(
            "Which image of a source that holds several (scenes, positions, series): its number "
            "from 0, or its name. The command inspect lists them.",
            "the only one, the one that the file is about, or else an error that lists them",
            plain_type=str | None,
            stored=True,
        ),
    ] = None
    dims: Annotated[
        str | Sequence[str] | None,
        Option(
            "Names of the axes out of t, c, z, y, x, in the order in which the command "
            "inspect shows them, such as czyx.",
            "as the source names them; two or three axes without names are yx or zyx",
            plain_type=str | None,
            stored=True,
        ),
    ] = None
    pick: Annotated[
        Mapping[str, int] | None,
        Option(
            "Read only one position on an axis, such as h=3; the only way for an axis that no "
            "pyramid has, beside calling it by another name in dims.",
            "every position of every axis",
            plain_type=dict[str, int] | None,
            stored=True,
        ),
    ] = None
    scale: Annotated[
        Mapping[str, float] | None,
        Option(
            "Size of a sample by axis, such as z=2,y=0.5,x=0.5, in place of the source's.",
            "as the source says",
            plain_type=dict[str, float] | None,
            stored=True,
        ),
    ] = None
    units: Annotated[
        str | Mapping[str, str] | None,
        Option(
            "Unit of these sizes: one for all spatial axes, such as micrometer, or by axis, such "
            "as t=second,z=micrometer,y=micrometer,x=micrometer.",
            "as the source says",
            plain_type=dict[str, str] | str | None,
            stored=True,
        ),
    ] = None
    channel_names: Annotated[
        Sequence[str] | None,
        Option(
            "A name for each channel, such as DAPI,GFP.",
            "as the source says",
            plain_type=list[str] | None,
            stored=True,
        ),
    ] = None
    channel_colors: Annotated[
        Sequence[str] | None,
        Option(
            "A color for each channel, such as blue,00FF00: red, green, blue, cyan, magenta, "
            "yellow, orange, purple, white, gray, or six hexadecimal digits.",
            "as the source says, or else white for one channel and a series of colors for several",
            plain_type=list[str] | None,
            stored=True,
        ),
    ] = None
    method: Annotated[
        str | Methods | None,
        Option(
            "How voxels of the smaller levels are computed: itkwasm_gaussian for intensities, "
            "itkwasm_bin_shrink for fast exact means, itkwasm_label_image for labels, "
            "dask_image_mode for labels and large factors, dask_image_nearest for quick looks. "
            "docs/methods.md describes all nine.",
            "itkwasm_gaussian, or itkwasm_label_image where the source says that it holds labels",
            title="Method",
            plain_type=Methods | None,
            stored=True,
        ),
    ] = None
    scale_factors: Annotated[
        ScaleFactors,
        Option(
            "One number is the minimum length: the spatial axes are halved from level to level "
            "while the image is large compared with its chunks, y and x together. A list has one "
            "factor for each smaller level, relative to the full image, as a number for all "
            'spatial axes or by axis, such as [2, 4] or [{"z": 1, "y": 2, "x": 2}].',
            plain_type=int | list[int | dict[str, int]],
            stored=True,
        ),
    ] = DEFAULT_MIN_LENGTH
    chunks: Annotated[
        Any,
        Option(
            "Chunk size in voxels: one number for all spatial axes, or sizes by axis.",
            "128 for volumes, 256 for planes",
            plain_type=Sizes,
            stored=True,
        ),
    ] = None
    shards: Annotated[
        Any,
        Option(
            "Shard size in voxels, a multiple of the chunk size; not in OME-Zarr 0.4. none, or 0, "
            "stores each chunk as an object of its own, for readers without shards.",
            "shards of 32 to 64 MiB before compression",
            plain_type=Sizes | Literal["none"],
            stored=True,
        ),
    ] = None
    compressor: Annotated[
        str,
        Option(
            "How chunks are compressed: blosc:CODEC:LEVEL:SHUFFLE, zstd:LEVEL, gzip:LEVEL or none, "
            "such as blosc:lz4:5:shuffle or zstd:3.",
            stored=True,
        ),
    ] = DEFAULT_COMPRESSOR
    ome_zarr_version: Annotated[
        str,
        Option(
            "0.5 is zarr v3 with shards and checksums; 0.4 is zarr v2, for older readers; 0.6 is "
            "for readers that know its coordinate systems.",
            title="OME-Zarr version",
            plain_type=OmeZarrVersion,
            stored=True,
        ),
    ] = "0.5"
    level_paths: Annotated[
        LevelPaths,
        Option(
            "Where the levels are: flat puts them at 0, 1, 2, as most readers expect; named at "
            "scale0/NAME, with the image's name.",
            stored=True,
        ),
    ] = "flat"
    checksums: Annotated[
        bool,
        Option(
            "Whether a CRC-32C follows each chunk, so that readers notice damage; not in OME-Zarr "
            "0.4. GDAL reads arrays without these and without shards.",
            stored=True,
        ),
    ] = True
    workers: Annotated[
        int | None,
        Option(
            "Regions processed at the same time; on a dask cluster, by each worker process.",
            "one per core, or per thread of the cluster",
            at_least=1,
        ),
    ] = None
    memory_limit: Annotated[
        int | str | None,
        Option(
            "Memory that the build may use, such as 2GiB; on a dask cluster, each worker process.",
            "half of the available memory",
            plain_type=str | None,
        ),
    ] = None
    cache: Annotated[
        CacheMode,
        Option(
            "Whether to copy the source first, into chunks that can be read region by region. "
            "auto copies where reading by region would decode the source more than twice.",
        ),
    ] = "auto"
    overwrite: Annotated[
        bool, Option("Delete the pyramid or other zarr data at the target and build from scratch.")
    ] = False
    dask_address: Annotated[
        str | None,
        Option(
            "Address of the scheduler of a dask cluster that does the work, such as "
            "tcp://10.0.0.1:8786. Its workers need ngff-flows, and access to source and target.",
        ),
    ] = None
    dask_workers: Annotated[
        int | None,
        Option(
            "Number of worker processes to start on this machine for the work.",
            "threads of this process do the work",
            at_least=1,
        ),
    ] = None

    @classmethod
    def select(cls, values: Mapping[str, Any]) -> BuildOptions:
        """The options among ``values``; the others are ignored."""
        return cls(**{name: values[name] for name in option_names() if name in values})

    @property
    def selection(self) -> Selection:
        """What is read of the source, and what is said of it. Raises InvalidOptionError."""
        names, colors = self.channel_names, self.channel_colors
        return Selection(
            series=self.series,
            dims=None if self.dims is None else split_dims(self.dims),
            pick=dict(self.pick or {}),
            scale=dict(self.scale or {}),
            units=_units(self.units),
            channel_names=None if names is None else tuple(names),
            channel_colors=None if colors is None else tuple(map(parse_color, colors)),
        )

    @property
    def on_cluster(self) -> bool:
        """Whether a dask cluster does the work."""
        return self.dask_address is not None or self.dask_workers is not None

    @property
    def in_this_process(self) -> bool:
        """Whether the work is done by threads that see this process's memory."""
        return not self.on_cluster or (self.dask_address or "").startswith("inproc://")


def _units(given: str | Mapping[str, str] | None) -> Mapping[str, str]:
    if isinstance(given, str):
        return {ALL_SPATIAL: given}
    return dict(given or {})


def option_names() -> tuple[str, ...]:
    """The names of all options, in the order of forms and help texts."""
    return tuple(field.name for field in fields(BuildOptions))


def stored_option_names() -> tuple[str, ...]:
    """The names of the options that decide stored bytes."""
    return tuple(name for name, option in describe_options().items() if option.stored)


@cache
def describe_options() -> Mapping[str, Option]:
    """The `Option` of each field of `BuildOptions`, with its ``plain_type`` filled in."""
    found = {}
    for name, hint in get_type_hints(BuildOptions, include_extras=True).items():
        python_type, option = get_args(hint)
        found[name] = replace(option, plain_type=option.plain_type or python_type)
    return found


def documents_options[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Fill in the parameters of ``function``'s docstring at its line ``{options}``."""
    lines = []
    types = get_type_hints(BuildOptions)
    for field in fields(BuildOptions):
        option = describe_options()[field.name]
        shown = option.default_text or f"{field.default!s}"
        lines.append(f"{field.name} : {_type_name(types[field.name])}")
        text = f"{option.help} By default {shown}."
        lines += textwrap.wrap(text, 90, initial_indent="    ", subsequent_indent="    ")
    # Python 3.13 removes a docstring's indentation itself, Python 3.12 does not.
    text = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = text.replace("{options}", "\n".join(lines))
    return function


def _type_name(hint: Any) -> str:
    """A type as a docstring shows it.

    >>> _type_name(int | None), _type_name(CacheMode), _type_name(str)
    ('int or None', "'auto', 'always' or 'never'", 'str')
    """
    if hint is Any:
        return "int, sequence or mapping, or None"
    if get_origin(hint) is Literal:
        *first, last = map(repr, get_args(hint))
        return f"{', '.join(first)} or {last}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_type_name, get_args(hint)))
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))


def resolve_workers(workers: Any) -> int:
    """Number of regions processed at the same time; by default one per core."""
    if workers is None:
        return available_cores()
    return _positive("workers", workers)


def resolve_share(options: BuildOptions) -> tuple[int, int]:
    """Regions processed at the same time, and bytes of memory, both for one process.

    Before a running cluster is asked, only the options are known: without ``workers`` the
    answer is one region at a time.
    """
    limit = resolve_memory_limit(options.memory_limit)
    if not options.on_cluster:
        return resolve_workers(options.workers), limit
    processes = resolve_processes(options)
    if options.memory_limit is None:
        limit //= processes or 1
    if options.workers is not None:
        return resolve_workers(options.workers), limit
    return max(1, available_cores() // processes) if processes else 1, limit


def resolve_processes(options: BuildOptions) -> int | None:
    """Number of worker processes to start; None where ``dask_address`` names a running cluster.

    Raises InvalidOptionError where the two options of a cluster contradict each other.
    """
    if options.dask_address is None:
        return _positive("dask_workers", options.dask_workers)
    if options.dask_workers is not None:
        raise InvalidOptionError(
            "dask_workers starts a cluster and dask_address names a running one; give one of them"
        )
    if "://" not in options.dask_address:
        raise InvalidOptionError(
            f"dask_address: {options.dask_address!r} is not the address of a scheduler, "
            "such as tcp://10.0.0.1:8786"
        )
    return None


def _positive(name: str, number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise InvalidOptionError(f"{name}: {number!r} is not a positive whole number")
    return int(number)


def resolve_memory_limit(limit: int | str | None) -> int:
    """Bytes that a build may hold in memory; by default ``config.memory_target``.

    Raises InvalidOptionError where ``limit`` is not a size.
    """
    if limit is None:
        return config.memory_target
    try:
        return parse_size(limit)
    except ValueError:
        # Without its cause, which would be a page of pydantic's.
        raise InvalidOptionError(
            f"memory_limit: {limit!r} is not a size; give bytes, or a size such as 2GiB or 500MB"
        ) from None
