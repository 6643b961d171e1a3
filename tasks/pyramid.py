"""The phases of a build as Prefect tasks: names, retries and artifacts around `ngff_core`.

Prefect caches no results: its cache would still report a build as done after the output was
deleted. Each task asks the build instead, which reads the ledger beside the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task, exponential_backoff

from ngff_core import Build, BuildOptions, BuildReport, LevelReport
from ngff_core.build.series import SeriesTarget, series_targets
from ngff_core.errors import LeaseLostError, StoredDataError
from ngff_core.pyramid.verify import Verification
from ngff_core.storage import is_transient
from tasks.credentials import Blocks, storage_options
from tasks.reporting.artifacts import artifact_key, show_levels, show_report, show_thumbnail
from tasks.reporting.progress import RunLog, counted, progress_artifact


def retry_if_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether Prefect may retry a task, by the type of its exception.

    Not after a refusal, which would be the same again; nor after a lost lease, which this run
    cannot get back: the next run waits for its turn.
    """
    try:
        state.result()
    except LeaseLostError:
        return False
    except Exception as error:  # noqa: BLE001 - decides by whatever the task raised
        return is_transient(error)
    return False


RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_if_transient,
}


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, **RETRIES)
def plan(source: str, target: str, options: BuildOptions, storage_block: Blocks = None) -> Build:
    """Plan the build and take the target's lease; the later tasks use the open build."""
    logger = get_run_logger()
    build = Build.open(
        source,
        target,
        options,
        storage_options=storage_options(storage_block),
        listener=RunLog(logger),
    )
    cost = build.planned.projection
    logger.info(
        f"{counted(len(build.plan.levels), 'levels')}, {counted(cost.objects, 'objects')}, "
        f"{counted(cost.in_flight, 'regions')} in flight, "
        f"at most {cost.peak_bytes / 2**20:.0f} MiB of memory"
    )
    for note in build.planned.about.notes:
        logger.warning(f"{note}")
    return build


@task(name="list-series", task_run_name="list-series", cache_policy=NO_CACHE, **RETRIES)
def list_series(source: str, folder: str, storage_block: Blocks = None) -> tuple[SeriesTarget, ...]:
    """The images of a source that holds several, and the target of each below ``folder``."""
    found = series_targets(source, folder, storage_options(storage_block))
    get_run_logger().info(f"{counted(len(found), 'images')} of {source}")
    return found


@task(name="cache-source", task_run_name="cache-source", cache_policy=NO_CACHE, **RETRIES)
def cache_source(build: Build) -> None:
    """Copy a source that cannot be read region by region into one that can."""
    show = progress_artifact(
        artifact_key("cache-source", build.planned.target),
        f"Copying the source into chunks that can be read by region, for {build.planned.target}",
    )
    build.write_cache(RunLog(get_run_logger(), show))


def show_progress(build: Build) -> dict[int, RunLog]:
    """Report each unfinished level in the run's log and in a progress artifact of its own.

    Levels are written side by side, so all of them advance before the later tasks begin.
    """
    logger = get_run_logger()
    target = build.planned.target
    logs: dict[int, RunLog] = {}
    for level in build.plan.levels:
        if not build.level_done(level.index):
            key = artifact_key(f"level-{level.index}", target)
            show = progress_artifact(key, f"Level {level.index} of {target}")
            logs[level.index] = RunLog(logger, show)
            build.listen(level.index, logs[level.index])
    return logs


@task(name="write-level", task_run_name="level-{index}", cache_policy=NO_CACHE, **RETRIES)
def write_level(
    build: Build, index: int, log: RunLog | None = None
) -> LevelReport | State[LevelReport]:
    """Write the rest of one level; its state is Skipped where earlier runs wrote all of it.

    The first level's task starts all levels, and each task waits for its own. ``log`` reports
    the level already, see `show_progress`.
    """
    if log is None:
        report = build.write_level(index, RunLog(get_run_logger()))
    else:
        # A new log would start to count in the middle of the level, and show wrong rates.
        log.write_to(get_run_logger())
        report = build.write_level(index)
    if not report.fresh:
        return Completed(name="Skipped", message="already done by an earlier run", data=report)
    return report


@task(name="write-metadata", task_run_name="write-metadata", cache_policy=NO_CACHE, **RETRIES)
def write_metadata(build: Build) -> State[None] | None:
    """Write the group documents, which make the target a readable image."""
    before = build.finished
    build.publish()
    return (
        Completed(name="Skipped", message="already published by an earlier run") if before else None
    )


@task(name="verify", task_run_name="verify", cache_policy=NO_CACHE, **RETRIES)
def verify(build: Build) -> Verification:
    """Check the pyramid against its plan and checksums; fail where they differ."""
    verification = build.verify(listener=RunLog(get_run_logger()))
    build.clean()
    if not verification.ok:
        target, first = build.planned.target, verification.findings[0]
        raise StoredDataError(
            f"{target} differs from its plan and checksums: {first.key}: {first.what} "
            f"({counted(len(verification.findings), 'findings')} in all); run "
            f"`ngff-flows verify --repair {target}`"
        )
    return verification


def show_results(
    build: Build, public_url: str | None = None, chosen: Mapping[str, Any] | None = None
) -> BuildReport:
    """Create the artifacts of a finished build; ``chosen`` are its options."""
    report = build.report()
    show_levels(report)
    show_report(report, public_url, chosen)
    show_thumbnail(report, build.thumbnail())
    return report
