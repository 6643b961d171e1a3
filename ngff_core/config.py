"""Settings of the process, none of which decides a pixel.

Set them as attributes: ``ngff_core.config.memory_target = 2**31``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ngff_core.memory import available_memory


def available_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@dataclass
class Config:
    """Tunables with defaults that need no thought."""

    memory_target: int = field(default_factory=lambda: available_memory() // 2)
    """Bytes that work in flight may take where no memory limit is given."""

    lease_seconds: float = 60.0
    """After so long without renewal a builder on another machine counts as dead."""

    receipt_seconds: float = 2.0
    """Receipts are written down at least this often, so at most this much work is redone."""


config = Config()
