"""Running one pass: with the threads of this process, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from ngff_core.build.cluster_pass import ClusterRunner
from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.streaming import Pass, PassLimits
from ngff_core.kernels.contract import Kernel
from ngff_core.plan.schedule import PassPlan


@dataclass(frozen=True)
class PassRunner:
    """What runs the passes of a build: a kernel and threads, or a cluster."""

    kernel: Kernel
    executor: Executor
    in_flight: int
    """Regions that the threads work on at once."""
    cluster: ClusterRunner | None = None

    def run(
        self,
        pass_plan: PassPlan,
        writers: Mapping[int, LevelWriter],
        *,
        held_bytes: int,
        reads_source: bool,
        is_cache: bool = False,
        check: Callable[[], None],
    ) -> None:
        """Do what remains of a pass.

        ``held_bytes`` limits what streaming holds in memory, ``reads_source`` says whether
        its root is computed from the source, ``is_cache`` whether it writes the cache.
        ``check`` is called before anything is started, and raises where the work must stop.
        """
        if self.cluster is not None:
            self.cluster.work(
                pass_plan, writers, reads_source=reads_source, is_cache=is_cache, check=check
            ).run()
            return
        limits = PassLimits(self.in_flight, held_bytes)
        Pass(
            pass_plan, writers, self.kernel, executor=self.executor, limits=limits, check=check
        ).run()
