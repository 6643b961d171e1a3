"""Builds one pyramid in a process of its own and prints what memory it took, as JSON.

``python -m tests.memory.measure SOURCE TARGET OPTIONS``, the options of `build_pyramid` in JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

import ngff_core
from ngff_core.build.build import Build
from ngff_core.build.streaming import Pass


def status(field: str) -> int:
    """Bytes that the kernel names in this process's status."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def watch_held() -> list[int]:
    """What passes hold at most, kept up to date."""
    most = [0]
    begin = Pass._start_jobs

    def watched(self: Any) -> bool:
        going_on = begin(self)
        most[0] = max(most[0], self._held if self._pass_plan.links else 0)
        return going_on

    Pass._start_jobs = watched  # type: ignore[method-assign]
    return most


def main(source: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
    """Build a tiny image for the baseline, then the one asked for."""
    tiny = np.zeros((8, 40, 40), "u2")
    method = options.get("method", "itkwasm_gaussian")
    ngff_core.build_pyramid(tiny, f"{target}.tiny", method=method, scale_factors=[2])
    baseline = status("VmRSS")
    held = watch_held()
    phases = {}
    began = time.monotonic()
    with Build.open(source, target, ngff_core.BuildOptions(**options)) as build:
        cost = build.planned.projection

        def write_levels() -> None:
            for level in build.plan.levels:
                build.write_level(level.index)

        work = [("cache", build.write_cache)] if build.cache_needed else []
        work += [("levels", write_levels), ("publish", build.publish), ("verify", build.verify)]
        for name, run in work:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            run()
            phases[name] = status("VmHWM") - baseline
        build.clean()
        fresh = build.report().fresh
    return {
        "baseline": baseline,
        "phases": phases,
        "peak": max(phases.values()),
        "projected": cost.peak_bytes,
        "region_bytes": {p.phase: p.region_bytes for p in cost.phases},
        "held": held[0],
        "held_projected": cost.held_bytes,
        "in_flight": cost.in_flight,
        "streamed": cost.streamed,
        "limit": cost.memory_limit,
        "regions": fresh,
        "seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])), sys.stdout)
