"""The flow `clean-builds`: what dead builds left behind is removed, once somebody agreed."""

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
    """Remove forgotten caches and half-built pyramids below some prefixes.

    Only of builds that no live process holds, whose newest object is older than so many
    days. Pyramids whose levels are all there are never removed.

    Args:
        prefixes: Paths or URIs to look below, such as gs://images/published.
        older_than_days: Age of the newest object from which on a build counts as dead.
        dry_run: Only show what would be removed, and how many bytes that is.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several of
            them. By default those of the environment.
    """
    options = storage_options(storage_block)
    targets = [target for prefix in prefixes for target in find_targets(prefix, options)]
    found = [
        maintenance.clean(target, older_than_days, dry_run, storage_block) for target in targets
    ]
    maintenance.show_leftovers(found, dry_run)
    return found
