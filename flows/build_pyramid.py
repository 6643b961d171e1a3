"""The flow `build-pyramid`: builds one published pyramid from one image."""

from __future__ import annotations

import time

from prefect import flow
from prefect.runtime import flow_run

from flows.options import PyramidOptions
from ngff_core import BuildReport
from tasks import pyramid
from tasks.credentials import Blocks
from tasks.reporting import events
from tasks.runs import last_part


def _run_name() -> str:
    return f"build-pyramid/{last_part(str(flow_run.parameters['target']))}"


@flow(name="build-pyramid", flow_run_name=_run_name, validate_parameters=True)
def build_pyramid(
    source: str,
    target: str,
    options: PyramidOptions = PyramidOptions(),  # noqa: B008 - frozen by use
    storage_block: str | list[str] | None = None,
) -> BuildReport:
    """Turn an image into a published OME-Zarr pyramid.

    A run with the same parameters continues where an earlier one stopped.

    Args:
        source: Path or URI of a zarr array, an OME-Zarr image, a TIFF or an .npy file.
        target: Path or URI of the pyramid, usually ending in .ome.zarr.
        options: How the pyramid is made.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several
            blocks where source and target need different ones. By default the worker's environment.
    """
    began = time.monotonic()
    try:
        report = _build(source, target, options, storage_block)
    except Exception as error:
        events.emit_failed(source, target, error, time.monotonic() - began)
        raise
    events.emit_completed(report)
    return report


def _build(source: str, target: str, options: PyramidOptions, storage_block: Blocks) -> BuildReport:
    with pyramid.plan(source, target, options.to_core(), storage_block) as build:
        if build.cache_needed:
            pyramid.cache_source(build)
        logs = pyramid.show_progress(build)
        # The first task starts all levels, so the later tasks find most of their work done.
        # Threads would make them no faster, and would add Prefect's own races.
        for level in build.plan.levels:
            pyramid.write_level(build, level.index, logs.get(level.index))
        pyramid.write_metadata(build)
        pyramid.verify(build)
        chosen = options.model_dump(mode="json", exclude_defaults=True)
        return pyramid.show_results(build, options.public_url, chosen)
