"""The flow `build-pyramid`: builds one published pyramid from one image."""

from __future__ import annotations

import time
from typing import cast

from prefect import flow
from prefect.runtime import flow_run

from flows.options import PyramidOptions
from ngff_core import BuildReport
from ngff_core.errors import StoredDataError
from ngff_core.model.selection import ALL
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
) -> BuildReport | list[BuildReport]:
    """Turn an image into a published OME-Zarr pyramid.

    A run with the same parameters continues where an earlier one stopped. With the option
    `series` set to `all` each image of the source is built by a run of its own, and the target
    is the folder of their pyramids.

    Args:
        source: Path or URI of an image file, a zarr array or an OME-Zarr image.
        target: Path or URI of the pyramid, usually ending in .ome.zarr.
        options: How the pyramid is made.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several
            blocks where source and target need different ones. By default the worker's environment.
    """
    if options.series == ALL:
        return _build_all(source, target, options, storage_block)
    began = time.monotonic()
    try:
        report = _build(source, target, options, storage_block)
    except Exception as error:
        events.emit_failed(source, target, error, time.monotonic() - began)
        raise
    events.emit_completed(report)
    return report


def _build_all(
    source: str, folder: str, options: PyramidOptions, storage_block: Blocks
) -> list[BuildReport]:
    """Build every image of the source; those that can be built are, whatever fails."""
    reports: list[BuildReport] = []
    failed: list[str] = []
    for each in pyramid.list_series(source, folder, storage_block):
        chosen = options.model_copy(update={"series": str(each.series)})
        state = build_pyramid(source, each.target, chosen, storage_block, return_state=True)
        if state.is_completed():
            reports.append(cast("BuildReport", state.result()))
        else:
            failed.append(f"series {each.series} ({each.target}): {state.message}")
    if failed:
        raise StoredDataError(
            f"{len(failed)} of {len(failed) + len(reports)} images of {source} were not built: "
            + "; ".join(failed)
        )
    return reports


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
