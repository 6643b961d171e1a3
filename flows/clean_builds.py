"""The flow `clean-builds`: removes what dead builds left, after a dry run."""

from __future__ import annotations

from prefect import flow

from ngff_core import Leftover, find_targets
from tasks import maintenance
from tasks.credentials import storage_options


@flow(name="clean-builds", validate_parameters=True)
def clean_builds(
    prefixes: list[str],
    older_than_days: float = 14.0,
    dry_run: bool = True,
    storage_block: str | list[str] | None = None,
) -> list[Leftover]:
    """Remove caches and half-built pyramids that dead builds left below some prefixes.

    A build counts as dead when no live process holds its lease and its newest object is older
    than `older_than_days`. Pyramids with all their levels are never removed.

    Args:
        prefixes: Paths or URIs below which pyramids are published, such as gs://images/published.
        older_than_days: Age of the newest object, in days, from which a build counts as dead.
        dry_run: Only show what would be removed, and its size.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several
            blocks. By default the worker's environment.
    """
    options = storage_options(storage_block)
    targets = [target for prefix in prefixes for target in find_targets(prefix, options)]
    leftovers = [
        maintenance.clean(target, older_than_days, dry_run, storage_block) for target in targets
    ]
    maintenance.show_leftovers(leftovers, dry_run)
    return leftovers
