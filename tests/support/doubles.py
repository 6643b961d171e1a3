"""Stand-ins that write down what is done to them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Bar:
    """A progress bar that records its updates, task by task."""

    def __init__(self) -> None:
        self.descriptions: list[str] = []
        self.totals: list[Any] = []
        self.counts: list[list[int]] = []
        self.visible: list[bool] = []

    def add_task(self, description: str, *, total: float | None = None) -> int:
        self.descriptions.append(description)
        self.totals.append(total)
        self.counts.append([])
        self.visible.append(True)
        return len(self.totals) - 1

    def update(self, task_id: int, /, **fields: Any) -> None:
        self.totals[task_id] = fields.get("total", self.totals[task_id])
        self.visible[task_id] = fields.get("visible", self.visible[task_id])
        self.counts[task_id] += [fields["completed"]] if "completed" in fields else []


class Counted:
    """An array that counts its reads, and how often each sample was read."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.reads, self.times = array, 0, np.zeros(array.shape, "u1")
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> Any:
        self.reads += 1
        self.times[key] += 1
        return self.array[key]
