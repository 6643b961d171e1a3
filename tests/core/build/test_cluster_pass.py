"""A pass on a cluster without a cluster: its window, its errors, and what is recorded then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ngff_core.build import cluster_pass
from ngff_core.build.cluster_pass import ClusterPass
from ngff_core.build.streaming import LevelFailedError
from ngff_core.errors import ClusterError, LeaseLostError
from ngff_core.records.ledger import Receipt


class FakeFuture:
    """A region at a worker: its state is what the test makes it."""

    def __init__(self, region: int) -> None:
        self.region = region
        self.status = "pending"
        self.error: BaseException | None = None
        self.released = False

    def done(self) -> bool:
        return self.status != "pending"

    def release(self) -> None:
        self.released = True

    def exception(self) -> BaseException | None:
        return self.error


class FakeCluster:
    """A cluster of two threads; each wait ends the regions that are under way.

    ``outcomes`` has the states of a region, one for each time that it ends; a region that is
    not in it is built at once.
    """

    threads = 2

    def __init__(self, outcomes: dict[int, list[str]] | None = None) -> None:
        self.outcomes = outcomes or {}
        self.waiting: list[FakeFuture] = []
        self.submitted: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0
        self.checks = 0
        self.is_lost = False

    # the interface of Cluster
    def submit(self, key: str, work_order: Any, level: int | None, region: int) -> FakeFuture:
        assert key.endswith(f"-{region}")
        self.submitted.append(region)
        return FakeFuture(region)

    def finished_futures(self) -> FakeCluster:
        return self

    def gather(self, futures: list[FakeFuture]) -> list[Receipt]:
        return [Receipt(future.region, 0, ()) for future in futures]

    def cancel(self, futures: list[FakeFuture]) -> None:
        self.cancelled = [future.region for future in futures]

    def check_workers(self) -> None:
        self.checks += 1
        if self.is_lost:
            raise self.lost()

    def lost(self) -> ClusterError:
        return ClusterError("lost")

    # the interface of FinishedFutures
    def add(self, future: FakeFuture) -> None:
        self.waiting.append(future)
        self.most = max(self.most, len(self.waiting))

    def wait(self, seconds: float) -> list[FakeFuture]:
        ended, self.waiting = self.waiting, []
        if self.is_lost:
            return []
        for future in ended:
            states = self.outcomes.get(future.region)
            future.status = states.pop(0) if states else "finished"
            if future.status == "error":
                future.error = OSError(f"region {future.region}")
        return ended

    def clear(self) -> None:
        self.waiting = []


class FakeWriter:
    """Records receipts; raises what the test wants at one of them."""

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None) -> None:
        self.recorded: list[int] = []
        self._fails_at, self._error = fails_at, error

    def record(self, receipt: Receipt) -> None:
        if receipt.region == self._fails_at and self._error is not None:
            error, self._error = self._error, None
            raise error
        self.recorded.append(receipt.region)


def pass_over(
    regions: int, cluster: FakeCluster, writer: FakeWriter, check: Callable[[], None] = lambda: None
) -> ClusterPass:
    fake: Any = cluster
    return ClusterPass(fake, None, writer, 0, iter(range(regions)), check=check)  # type: ignore[arg-type]


def test_every_region_is_built_once_and_few_are_submitted_at_a_time() -> None:
    """Two for each thread, however many regions there are."""
    cluster, writer = FakeCluster(), FakeWriter()
    pass_over(50, cluster, writer).run()
    assert writer.recorded == cluster.submitted == list(range(50))
    assert cluster.most == 4


def test_a_region_whose_worker_died_with_its_receipt_is_waited_for_again() -> None:
    """It is pending once more by the time that its receipt would be fetched."""
    cluster, writer = FakeCluster({1: ["pending", "finished"]}), FakeWriter()
    pass_over(3, cluster, writer).run()
    assert sorted(writer.recorded) == [0, 1, 2]
    assert cluster.submitted == [0, 1, 2]


def test_a_region_that_fails_ends_the_pass_after_the_others_are_recorded() -> None:
    """Those that ended with it, too; nothing is submitted afterwards."""
    cluster, writer = FakeCluster({0: ["error"], 2: ["error"]}), FakeWriter()
    with pytest.raises(LevelFailedError) as caught:
        pass_over(50, cluster, writer).run()
    assert str(caught.value.__cause__) == "region 0"
    assert cluster.submitted == [0, 1, 2, 3]
    assert writer.recorded == [1, 3]
    assert cluster.cancelled == []


def test_an_error_in_recording_leaves_the_others_to_be_recorded() -> None:
    """Without waiting a minute for regions that have ended already."""
    cluster, writer = FakeCluster(), FakeWriter(fails_at=1, error=OSError("disk"))
    with pytest.raises(OSError, match="disk"):
        pass_over(50, cluster, writer).run()
    assert writer.recorded == [0, 2, 3]
    assert cluster.checks == 0


def test_a_cancelled_region_means_that_the_cluster_is_lost() -> None:
    """What is under way is cancelled then, so that a scheduler that is back forgets it."""
    cluster, writer = FakeCluster({0: ["cancelled"], 1: ["pending"] * 9}), FakeWriter()
    with pytest.raises(ClusterError, match="lost"):
        pass_over(2, cluster, writer).run()
    assert cluster.cancelled == [1]


def test_a_lost_lease_ends_the_pass_at_once() -> None:
    """Nothing is recorded, since the ledger is another builder's now."""
    cluster, writer = FakeCluster(), FakeWriter()
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 1:
            raise LeaseLostError("lost")

    cluster.outcomes = {region: ["pending"] * 99 for region in range(4)}
    with pytest.raises(LeaseLostError):
        pass_over(50, cluster, writer, check).run()
    assert writer.recorded == []
    assert cluster.cancelled == [0, 1, 2, 3]


def test_the_cluster_is_looked_at_while_nothing_ends() -> None:
    """It may be lost, or have no worker any more."""
    cluster, writer = FakeCluster(), FakeWriter()
    cluster.is_lost = True
    with pytest.raises(ClusterError, match="lost"):
        pass_over(2, cluster, writer).run()
    assert cluster.checks == 1


def test_a_region_that_kills_its_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many died, and what may help."""
    monkeypatch.setattr(cluster_pass, "workers_killed", lambda error: 4)
    cluster, writer = FakeCluster({1: ["error"]}), FakeWriter()
    with pytest.raises(ClusterError, match=r"region 1 was started on 4 workers.*memory_limit"):
        pass_over(2, cluster, writer).run()


def test_the_level_of_a_region_that_failed_is_named() -> None:
    """The driver ends that level, and the cache pass as level 0."""
    for level, named in ((2, 2), (0, 0), (None, 0)):
        cluster: Any = FakeCluster({0: ["error"]})
        writer: Any = FakeWriter()
        order: Any = None
        over = ClusterPass(cluster, order, writer, level, iter(range(1)), check=lambda: None)
        with pytest.raises(LevelFailedError) as caught:
            over.run()
        assert caught.value.level == named


def test_regions_that_never_end_are_cancelled_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ends within that time is still recorded."""
    now = [0.0]

    class SlowCluster(FakeCluster):
        def wait(self, seconds: float) -> list[FakeFuture]:
            now[0] += 20
            return super().wait(seconds)

        def gather(self, futures: list[FakeFuture]) -> list[Receipt]:
            gathered.extend((now[0], future.region) for future in futures)
            return super().gather(futures)

    gathered: list[tuple[float, int]] = []
    monkeypatch.setattr(cluster_pass.time, "monotonic", lambda: now[0])
    cluster = SlowCluster({0: ["error"], 1: ["pending"] * 2, 2: ["pending"] * 99})
    writer = FakeWriter()
    with pytest.raises(LevelFailedError):
        pass_over(3, cluster, writer).run()
    assert writer.recorded == [1]
    assert cluster.cancelled == [2]
    assert now[0] == 80.0
