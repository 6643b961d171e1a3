"""The windows in which channels are shown: measured, and kept beside the pyramid."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from functools import cache, partial

from ngff_core.blocks import ArrayLike, BlockedArray
from ngff_core.model.display import Summary, Window
from ngff_core.model.omero import Windows
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.sampling import Sampling, channels_of
from ngff_core.pyramid.level_io import open_level, stored_samples
from ngff_core.records.build_folder import WINDOWS_KEY
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import SummaryFiles
from ngff_core.storage import for_each, retrying


def kept_windows(build: StoredBuild) -> Windows:
    """The windows of a build as they were kept; measured again if they are absent or damaged."""
    files = SummaryFiles.of(build.beside, build.plan)
    if files is None:
        return ()
    kept = _parsed(retrying(build.beside.read, WINDOWS_KEY), build.plan)
    return measured_windows(build, files) if kept is None else kept


def publishing_windows(
    build: StoredBuild, files: SummaryFiles | None, *, begun_here: bool
) -> Windows:
    """The windows with which a complete build is published, kept in the build folder.

    A run that has not ``begun_here`` may have been killed after it kept them.
    """
    if files is None:
        return ()
    if not begun_here:
        kept = _parsed(retrying(build.beside.read, WINDOWS_KEY), build.plan)
        if kept is not None:
            return kept
    windows = measured_windows(build, files)
    _keep(build, windows)
    return windows


def _keep(build: StoredBuild, windows: Windows) -> None:
    shown = [None if window is None else asdict(window) for window in windows]
    document = json.dumps({"digest": build.plan.digest, "windows": shown}, indent=1) + "\n"
    retrying(build.beside.write, WINDOWS_KEY, document.encode())


def _parsed(document: bytes | None, plan: PyramidPlan) -> Windows | None:
    try:
        found = json.loads(document or b"null")
        if found["digest"] != plan.digest:
            return None
        windows = tuple(None if one is None else Window(**one) for one in found["windows"])
        return windows if len(windows) == len(channels_of(plan)) else None
    except (ValueError, TypeError, KeyError):
        return None


def measured_windows(build: StoredBuild, files: SummaryFiles) -> Windows:
    """The windows of a build whose coarsest level is complete.

    They are made from the summaries in the build folder. A region without one, as an older
    version of this package leaves it, is read. Raises StoredDataError where it cannot be.
    """
    sampling = files.sampling
    by_channel: dict[int, list[Summary]] = defaultdict(list)
    array = cache(partial(open_level, build.target, build.plan, sampling.level))
    found = for_each(build.beside, files.read, sampling.regions)
    for region, summaries in zip(sampling.regions, found, strict=True):
        counted = _counted_again(array(), sampling, region) if summaries is None else summaries
        for channel, summary in zip(sampling.channels(region), counted, strict=True):
            by_channel[channel].append(summary)
    dtype = build.plan.dtype
    merged = {channel: Summary.merged(dtype, by_channel[channel]) for channel in by_channel}
    # Of more channels than regions are looked at, the others are shown as all these together.
    count = len(channels_of(build.plan))
    rest = None if len(merged) == count else Summary.merged(dtype, merged.values()).window()
    return tuple(merged[c].window() if c in merged else rest for c in range(count))


def _counted_again(array: ArrayLike, sampling: Sampling, region: int) -> list[Summary]:
    box = sampling.level.region(region)
    return sampling.summaries(region, BlockedArray.of(box, stored_samples(array, box)))
