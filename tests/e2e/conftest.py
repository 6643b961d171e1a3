"""One site for each file of tests: a server, a worker, a bucket, all deployments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("tests.e2e.site")

if TYPE_CHECKING:
    from tests.e2e.site import Site

IN, OUT = "gs://uploads", "gs://pyramids"
FIVE, SCHEDULED = "five", "scheduled"
"""Folders in `IN` that are watched, each for one test."""


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that is ready: uploads in folders of `IN` become pyramids below `OUT`."""
    # Importing Prefect costs 2.5 s, which `make test` pays only where it is used.
    from tests.e2e.site import new_site
    from tests.servers.places import storage_environment

    with new_site(tmp_path_factory.mktemp("site")) as site, pytest.MonkeyPatch.context() as patch:
        # the test's own way into the bucket goes past the proxy
        for name, value in storage_environment(site.bucket_url, "").items():
            patch.setenv(name, value)
        for bucket in (IN, OUT):
            site.make_bucket(bucket.removeprefix("gs://"))
        site.prepare(
            prefixes=[
                {"uri": f"{IN}/{name}", "target": f"{OUT}/{name}"} for name in (FIVE, SCHEDULED)
            ],
            patience={"settle_seconds": 2, "attempts": 2, "pauses_seconds": [1]},
        )
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    """The site as each test finds it: a worker runs, and nothing is slow."""
    running_site.proxy.script()
    if running_site.worker is None:
        running_site.start_worker()
    return running_site
