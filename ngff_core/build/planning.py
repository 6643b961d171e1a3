"""Planning a build: from a source and options to a plan and its cost; nothing is written."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ngff_core.build.limits import limits_of
from ngff_core.config import config
from ngff_core.errors import CallerError, InvalidOptionError
from ngff_core.kernels.methods import DEFAULT_METHOD, LABEL_METHOD, Methods, kernel_for
from ngff_core.model.axes import default_dims
from ngff_core.model.image import NgffImage
from ngff_core.model.orientation import of_axes
from ngff_core.plan.earlier import earlier_plans
from ngff_core.plan.make import make_plan
from ngff_core.plan.options import BuildOptions, resolve_share
from ngff_core.plan.projection import Projection, Remote, project
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin
from ngff_core.plan.scale_factors import (
    HalvingRule,
    factors_from_min_length,
    factors_with_equal_yx,
)
from ngff_core.plan.source_cache import needs_cache
from ngff_core.records.build_folder import folder_of
from ngff_core.sources import About, Source, open_source
from ngff_core.sources.base import sensible_name
from ngff_core.storage import StorageOptions, absolute_uri, canonical_uri, is_remote

_TRANSFERS = 4
"""Regions in flight for each worker where samples go over a network: one region is computed
while the others are transferred."""


@dataclass(frozen=True)
class PlannedBuild:
    """What a build will do on this machine.

    Attributes
    ----------
    source, target
        URIs or absolute paths.
    plan
        Everything that decides the stored bytes.
    projection
        Regions in flight, memory, requests and bytes.
    cached
        Whether the source is rewritten to a cache first.
    about
        What is known of the image that is read: its format, which of several it is, where each
        value comes from, and notes on all that was assumed, converted or left out, or that some
        readers of the pyramid cannot do.
    earlier
        Plans that earlier versions made of the same arguments. A target with one of these is
        continued.

    Examples
    --------
    >>> import numpy as np
    >>> planned = plan_pyramid(np.zeros((512, 512), "uint8"), "memory://planned/a.ome.zarr")
    >>> [level.shape for level in planned.plan.levels], planned.cached
    ([(512, 512), (256, 256)], False)
    """

    source: str
    target: str
    plan: PyramidPlan
    projection: Projection
    cached: bool
    about: About = field(default_factory=About)
    earlier: tuple[PyramidPlan, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The plan and its cost as JSON values."""
        cost = self.projection
        return {
            "source": self.source,
            "target": self.target,
            "digest": self.plan.digest,
            "plan": asdict(self.plan),
            "cached": self.cached,
            "about": self.about.to_dict(),
            "phases": [phase.to_dict() for phase in cost.phases],
            "objects": cost.objects,
            "requests": cost.requests,
            "bytes_read": cost.bytes_read,
            "bytes_written": cost.bytes_written,
            "in_flight": cost.in_flight,
            "peak_bytes": cost.peak_bytes,
            "memory_limit": cost.memory_limit,
        }


def plan_pyramid(
    source: Any,
    target: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    storage_options: StorageOptions | None = None,
) -> PlannedBuild:
    """Plan what `build_pyramid` would do with the same arguments; nothing is written.

    Unlike `check_build`, this does not read the target.

    Parameters
    ----------
    source, target, storage_options
        As of `build_pyramid`.
    options
        The other arguments of `build_pyramid`; by default its defaults.

    Returns
    -------
    PlannedBuild
        The plan, and a projection of memory and requests.

    Raises
    ------
    CallerError
        The source cannot be read, an option has no sense, or the memory limit is too small.

    Examples
    --------
    >>> planned = plan_pyramid(np.zeros((512, 512), "uint8"), "memory://docs/planned.ome.zarr")
    >>> len(planned.plan.digest)
    64
    """
    options = options or BuildOptions()
    with open_source(source, storage_options, options.selection) as opened:
        return plan_opened(opened, source, target, options)


def plan_opened(
    opened: Source, source: Any, target: str | os.PathLike[str], options: BuildOptions
) -> PlannedBuild:
    """`plan_pyramid` for a source that is open already."""
    config.check()
    where = absolute_uri(target)
    if options.on_cluster:
        _check_shared(opened, source, where, options)
    _check_apart(opened.identity.uri, where)
    plan, *earlier = _plans(opened, source, options)
    planned = _projected(plan, opened, where, options)
    return replace(planned, earlier=earlier_plans(plan, (plan, *earlier), _earlier_name(opened)))


def continued(
    planned: PlannedBuild, stored: PyramidPlan, opened: Source, options: BuildOptions
) -> PlannedBuild:
    """The same build by the plan that is stored at its target; by its own if they are equal."""
    if stored.digest == planned.plan.digest:
        return planned
    return _projected(stored, opened, planned.target, options)


def _plans(opened: Source, source: Any, options: BuildOptions) -> list[PyramidPlan]:
    """The plan of the image by each rule of halving, this version's first."""
    caller_dims = _caller_dims(source, opened.image)

    def by_rule(halving: HalvingRule) -> PyramidPlan:
        return make_plan(
            SourcePin(opened.identity.uri, opened.identity.pins, opened.about.reading),
            _image_info(opened),
            source_chunks=opened.read_unit,
            method=options.method or _default_method(opened),
            scale_factors=options.scale_factors,
            chunks=_by_name(options.chunks, caller_dims),
            shards=_by_name(options.shards, caller_dims),
            compressor=options.compressor,
            ome_zarr_version=options.ome_zarr_version,
            level_paths=options.level_paths,
            checksums=options.checksums,
            halving=halving,
        )

    plans = [by_rule(factors_with_equal_yx)]
    # The method may not take the samples of a level that only the earlier rule makes.
    with suppress(CallerError):
        plans.append(by_rule(factors_from_min_length))
    return plans


def _earlier_name(opened: Source) -> str:
    """What versions whose levels' paths held the name called the image."""
    described = opened.about.described
    if opened.kind == "array" or described is None:
        return opened.image.name
    return sensible_name(described.name)


def _projected(
    plan: PyramidPlan, opened: Source, target: str, options: BuildOptions
) -> PlannedBuild:
    """What a build by ``plan`` does on this machine."""
    cached = needs_cache(plan, opened.read_unit, options.cache)
    workers, memory_limit = resolve_share(options)
    projection = project(
        plan,
        opened.read_unit,
        cached=cached,
        workers=_at_once(workers, opened.identity.uri, target),
        memory_limit=memory_limit,
        stream=not options.on_cluster,
        remote=Remote(is_remote(opened.identity.uri), is_remote(target)),
    )
    about = replace(opened.about, notes=(*opened.about.notes, *limits_of(plan)))
    return PlannedBuild(opened.identity.uri, target, plan, projection, cached, about)


def _default_method(opened: Source) -> Methods:
    """The method where the caller names none: never one that averages labels."""
    if not opened.about.labels:
        return DEFAULT_METHOD
    dtype = np.dtype(opened.image.data.dtype)
    usable = kernel_for(LABEL_METHOD).refusal(dtype) is None
    return LABEL_METHOD if usable else Methods.DASK_IMAGE_NEAREST


def _at_once(workers: int, source: str, target: str) -> int:
    """Regions to have in flight: one for each worker, and more where most wait for a network."""
    return workers * _TRANSFERS if is_remote(source) or is_remote(target) else workers


def planned_for_cluster(
    planned: PlannedBuild, opened: Source, workers: int, memory_limit: int
) -> PlannedBuild:
    """The same build, projected for worker processes with so many threads and bytes each."""
    projection = project(
        planned.plan,
        opened.read_unit,
        cached=planned.cached,
        workers=workers,
        memory_limit=memory_limit,
        stream=False,
        remote=Remote(is_remote(planned.source), is_remote(planned.target)),
    )
    return replace(planned, projection=projection)


def _check_shared(opened: Source, source: Any, target: str, options: BuildOptions) -> None:
    """Raise InvalidOptionError if the workers of a cluster could not read source or target."""
    if find_spec("distributed") is None:
        raise InvalidOptionError(
            "dask_address and dask_workers need the package distributed: "
            "pip install 'ngff-flows[cluster]'"
        )
    if not isinstance(source, str | os.PathLike):
        raise InvalidOptionError(
            f"source: {opened.identity.uri} is an object of this process, which the workers of "
            "a cluster cannot read; save it first, for instance as a zarr array, and give its "
            "path or URI, or build without a cluster"
        )
    for option, uri in (("source", opened.identity.uri), ("target", target)):
        if uri.startswith("memory:") and not options.in_this_process:
            raise InvalidOptionError(
                f"{option}: {uri} is in the memory of this process, which the workers of a "
                "cluster do not share; give a path or URI that they can read too"
            )


def _image_info(opened: Source) -> ImageInfo:
    image, about = opened.image, opened.about
    units = image.axes_units or {}
    return ImageInfo(
        dims=tuple(image.dims),
        shape=tuple(int(n) for n in image.data.shape),
        dtype=np.dtype(image.data.dtype).newbyteorder("<").str,
        scale=tuple(image.scale[d] for d in image.dims),
        translation=tuple(image.translation[d] for d in image.dims),
        units=tuple(units.get(d) for d in image.dims),
        name=image.name,
        orientations=_orientations(image),
        channels=about.channels,
        metadata=json.dumps(about.metadata, sort_keys=True) if about.metadata else "",
        labels=about.labels,
    )


def _orientations(image: NgffImage) -> tuple[str | None, ...]:
    """RFC-4's term for each axis, as the image has them now; empty if it has none."""
    found = of_axes(image.axes_orientations, image.dims)
    if not found:
        return ()
    return tuple(str(found[d].value) if d in found else None for d in image.dims)


def _caller_dims(source: Any, image: NgffImage) -> tuple[str, ...]:
    """The axes in the caller's order, which sizes given as a tuple follow."""
    if isinstance(source, NgffImage):
        return tuple(source.dims)
    if hasattr(source, "shape"):
        return default_dims(len(source.shape))
    return tuple(image.dims)


def _by_name(sizes: Any, dims: tuple[str, ...]) -> Any:
    if isinstance(sizes, tuple | list) and len(sizes) == len(dims):
        return dict(zip(dims, sizes, strict=True))
    return sizes


def _check_apart(source: str, target: str) -> None:
    """Raise InvalidOptionError if writing or removing the target would touch the source."""
    if source.startswith("array:"):
        return
    read = canonical_uri(source)
    for taken in (canonical_uri(target), canonical_uri(folder_of(target))):
        for inner, outer in ((read, taken), (taken, read)):
            if inner == outer or inner.startswith(f"{outer}/"):
                raise InvalidOptionError(f"source {source} and target {target} overlap")
