"""The phases of a build as Prefect tasks: names, retries and artifacts around the core.

Results are never cached by Prefect: with the output deleted its cache still says done.
What is done is what the ledger beside the target says, so each task asks the build.
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
from ngff_core.errors import LeaseLostError, StoredDataError
from ngff_core.pyramid.verify import Verification
from ngff_core.storage import is_transient
from tasks.credentials import Blocks, storage_options
from tasks.reporting.artifacts import artifact_key, show_levels, show_report, show_thumbnail
from tasks.reporting.progress import RunLog, counted, progress_artifact


def trouble_may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry by the exception's type: a refusal is the same the next time.

    A lost lease is not got back by this run; the next one waits for its turn.
    """
    try:
        state.result()
    except LeaseLostError:
        return False
    except Exception as error:  # noqa: BLE001 - whatever the task raised is looked at
        return is_transient(error)
    return False


RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": trouble_may_pass,
}


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, **RETRIES)
def plan(source: str, target: str, options: BuildOptions, storage_block: Blocks = None) -> Build:
    """Plan the build and claim the target; the open build is for the tasks that follow."""
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
    return build


@task(name="cache-source", task_run_name="cache-source", cache_policy=NO_CACHE, **RETRIES)
def cache_source(build: Build) -> None:
    """Rewrite a source that cannot be read region by region."""
    show = progress_artifact(
        artifact_key("cache-source", build.planned.target),
        f"Source rewritten for reading by region, for {build.planned.target}",
    )
    build.write_cache(RunLog(get_run_logger(), show))


def show_progress(build: Build) -> dict[int, RunLog]:
    """A progress artifact for each level that is not done, and the run's log told of all of them.

    Levels are written side by side, so all of them move before the later tasks begin.
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
    """Write what remains of one level; Skipped where earlier runs did it all.

    The first level's task sets all levels going, and each waits for its own. ``log`` is who
    hears of the level already.
    """
    if log is None:
        report = build.write_level(index, RunLog(get_run_logger()))
    else:
        # A log of its own would begin to count in the middle, and tell rates of nowhere.
        log.write_to(get_run_logger())
        report = build.write_level(index)
    if not report.fresh:
        return Completed(name="Skipped", message="everything was done before", data=report)
    return report


@task(name="write-metadata", task_run_name="write-metadata", cache_policy=NO_CACHE, **RETRIES)
def write_metadata(build: Build) -> State[None] | None:
    """Make the store an image."""
    before = build.finished
    build.publish()
    return Completed(name="Skipped", message="published before") if before else None


@task(name="verify", task_run_name="verify", cache_policy=NO_CACHE, **RETRIES)
def verify(build: Build) -> Verification:
    """Hold what was published against plan and ledger; fail where it does not hold."""
    found = build.verify(listener=RunLog(get_run_logger()))
    build.clean()
    if not found.ok:
        first = found.findings[0]
        raise StoredDataError(
            f"{build.planned.target} does not hold against its ledger: {first.key}: {first.what} "
            f"({len(found.findings)} findings in all); mend it by `ngff-flows verify --repair`"
        )
    return found


def show_results(
    build: Build, public_url: str | None = None, chosen: Mapping[str, Any] | None = None
) -> BuildReport:
    """Leave the artifacts of a finished build in the UI; ``chosen`` are its options."""
    report = build.report()
    show_levels(report)
    show_report(report, public_url, chosen)
    show_thumbnail(report, build.thumbnail())
    return report
