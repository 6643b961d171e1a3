"""Settings of the process, none of which decides a pixel.

Set them as attributes: ``ngff_core.config.memory_target = 2**31``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.memory import available_memory

KERNEL_BACKENDS = ("native", "itkwasm")


def available_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _user_cache() -> Path:
    """The folder where this system keeps what programs may lose."""
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "ngff-flows"


@dataclass
class Config:
    """Tunables with defaults that need no thought."""

    memory_target: int = field(default_factory=lambda: available_memory() // 2)
    """Bytes that work in flight may take where no memory limit is given."""

    task_target: int = 50_000
    """An array with more tasks in its dask graph is cached before its pyramid is made."""

    cache_store: Any = field(default_factory=_user_cache)
    """Where ``to_multiscales`` caches: a path, a URI, a zarr store or a mapping."""

    kernel_backend: str = "native"
    """Who computes the ``itkwasm_*`` methods, to the same bytes: ``native`` code, or the
    ``itkwasm`` module, which takes 8 to 250 times as long and refuses some dtypes."""

    lease_seconds: float = 60.0
    """After so long without renewal a builder on another machine counts as dead."""

    receipt_seconds: float = 2.0
    """Receipts are written down at least this often, so at most this much work is redone."""

    region_retries: int = 300
    """Requests of one region that are tried again before it is given up. A region takes some
    hundred requests at most, so this is far more than 5 % of them."""

    region_seconds: float = 300.0
    """The same in seconds during which at least one of its requests was in trouble."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "kernel_backend" and value not in KERNEL_BACKENDS:
            raise InvalidOptionError(
                f"kernel_backend: {value!r} is unknown; use {' or '.join(KERNEL_BACKENDS)}"
            )
        super().__setattr__(name, value)


config = Config()
