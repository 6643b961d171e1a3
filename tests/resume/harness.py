"""Running builds in processes that die, and what must hold of what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v05.image import Image as Image05

import ngff_core
from tests.support.folders import files

BUILDER = Path(__file__).with_name("builder.py")

REGIONS = [20, 6, 2]

OPTIONS: dict[str, Any] = {
    "method": "itkwasm_bin_shrink",
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2, 4],
    "cache": "always",
    "workers": 1,
}
"""With `pixels`: 8 pieces of cache, and 20, 6 and 2 regions at the three levels."""

OLDER = {
    "options": {"ome_zarr_version": "0.4", "shards": None},
    "block_bytes": 2**16,
}
"""OME-Zarr 0.4, with up to 8 objects a region."""


@dataclass
class Run:
    """How one process ended, and what it printed."""

    pid: int
    code: int
    seconds: float = 0.0
    operations: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def killed(self) -> bool:
        return self.code == -9

    @property
    def chunk_writes(self) -> list[str]:
        """The pixel-holding objects it wrote, the cache's included."""
        writes = (op.removeprefix("write ") for op in self.operations if op.startswith("write "))
        return [key for key in writes if _holds_pixels(key)]


def _holds_pixels(key: str) -> bool:
    where, _, path = key.partition(":")
    folder = path.startswith("cache/") if where == "beside" else path.startswith("scale")
    return folder and path.rsplit("/", 1)[-1].isdigit()


@dataclass(frozen=True)
class Undisturbed:
    """A build that nothing disturbed: what every other one must end as."""

    target: Path
    run: Run
    objects: dict[str, bytes]
    records: dict[str, bytes]
    job: dict[str, Any]

    def number_of(self, operation: str, occurrence: int) -> int:
        """The number of the ``occurrence``-th operation with this verb and beginning of key."""
        hits = [n for n, op in enumerate(self.run.operations) if op.startswith(operation)]
        return hits[occurrence]


class Builders:
    """Runs builds in processes of their own, one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, str(BUILDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def job(self, source: Path, target: Path, **job: Any) -> dict[str, Any]:
        """A job as the builder takes it; ``options`` are laid over the usual ones."""
        self._count += 1
        return {
            "source": str(source),
            "target": str(target),
            "receipt_seconds": 0.0,
            "log": str(self._folder / f"{self._count}.log"),
            **job,
            "options": {**OPTIONS, **job.get("options", {})},
        }

    def run(self, source: Path, target: Path, **job: Any) -> Run:
        """Build ``target``, perhaps to its death (``die``, ``kill_after``)."""
        return self.run_job(self.job(source, target, **job))

    def run_job(self, wanted: dict[str, Any]) -> Run:
        """The same from `job`'s answer, whose log one may read meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return read_log(wanted, Run(**answer))

    def undisturbed(self, source: Path, target: Path, **job: Any) -> Undisturbed:
        """A build to compare others with, itself verified in depth."""
        run = self.run(source, target, deep=True, **job)
        assert run.code == 0, run.result
        assert run.result["verified"]
        assert run.result["findings"] == []
        ledgers = {f"ledger/{i}/complete.jsonl" for i in range(len(run.result["fresh_by_level"]))}
        # Labels are shown in no window.
        kept = set(records(target)) - {"windows.json"}
        assert kept == {"plan.json", *ledgers}, "no cache, nothing left over"
        return Undisturbed(target, run, files(target), records(target), job)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


BuildUndisturbed = Callable[..., Undisturbed]


def read_log(job: dict[str, Any], run: Run) -> Run:
    """``run`` with what its log says."""
    path = Path(job["log"])
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    run.operations = [row["op"] for row in rows if "op" in row]
    run.messages = [row["message"] for row in rows if "message" in row]
    run.result = next((row["result"] for row in rows if "result" in row), {})
    return run


def pixels(seed: int = 0, shape: tuple[int, ...] = (24, 160, 128)) -> np.ndarray[Any, Any]:
    """Samples that differ everywhere: a ramp with noise."""
    ramp = sum((i + 1) * 97 * axis for i, axis in enumerate(np.indices(shape)))
    noise = np.random.default_rng(seed).integers(0, 64, shape)
    return np.asarray((ramp + noise) % 60_000, "uint16")


def write_tiff(path: Path, seed: int = 0) -> Path:
    """A TIFF in strips, which level 0 cannot read region by region."""
    tifffile.imwrite(path, pixels(seed), photometric="minisblack", rowsperstrip=40)
    return path


def beside(target: Path) -> Path:
    """The folder of plan, lease, ledger and cache."""
    return target.with_name(f"{target.name}.build")


def records(target: Path) -> dict[str, bytes]:
    """What stays beside a finished image and says how it was built."""
    found = files(beside(target))
    return {key: data for key, data in found.items() if not key.startswith("lease/")}


def receipts(target: Path, phase: str) -> dict[int, list[str]]:
    """Keys of the objects of every region that has a receipt; no code of ours reads them."""
    found: dict[int, list[str]] = {}
    for path in sorted((beside(target) / "ledger" / phase).rglob("*.jsonl")):
        _, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        found |= {row["region"]: [key for key, *_ in row["objects"]] for row in rows}
    return found


def is_image(target: Path) -> bool:
    """Whether a reader that shares no code with the writer takes the folder for an image."""
    for model, zarr_format in ((Image05, 3), (Image04, 2)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                group = zarr.open_group(str(target), mode="r", zarr_format=zarr_format)
                model.from_zarr(group)  # type: ignore[attr-defined]
        except (ValueError, KeyError, OSError):
            continue
        return True
    return False


def assert_whole_or_no_image(target: Path, whole: Undisturbed) -> None:
    """What a killed build left is no image yet, or all of it; and nothing in it is torn."""
    named = {k: v for k, v in files(target).items() if not k.endswith(".partial")}
    torn = [key for key, data in named.items() if data != whole.objects.get(key)]
    assert torn == [], "objects under their real names that are not as they will be"
    if is_image(target):
        assert named == whole.objects
        assert ngff_core.verify_pyramid(target, deep=True, workers=1).ok
    kept = {k: v for k, v in records(target).items() if k in whole.records}
    assert kept == {key: whole.records[key] for key in kept}, "plan and ledgers, whole or absent"
    for level in range(3):
        recorded = [key for keys in receipts(target, str(level)).values() for key in keys]
        absent = [key for key in recorded if f"{level}/{key}" not in named]
        assert absent == [], "receipts of objects that are not there"


def remains(target: Path, whole: Undisturbed) -> Counter[str]:
    """The pixel-holding objects whose region has no receipt: all that is left to write."""
    level_0_done = (beside(target) / "ledger/0/complete.jsonl").exists()
    folders = {"cache": "beside:cache", **{str(i): f"target:{i}" for i in range(3)}}
    done = {
        f"{folder}/{key}"
        for phase, folder in folders.items()
        for keys in receipts(target, phase).values()
        for key in keys
    }
    wanted = (key for key in whole.run.chunk_writes if key not in done)
    return Counter(key for key in wanted if not (level_0_done and key.startswith("beside:")))


def regions_without_receipt(target: Path, whole: Undisturbed) -> list[int]:
    """How many regions of each level are left, by the receipts, as `build_status` says too."""
    totals: list[int] = whole.run.result["fresh_by_level"]
    done = [len(receipts(target, str(level))) for level in range(len(totals))]
    if (beside(target) / "plan.json").exists():
        status = ngff_core.build_status(target)
        assert [level.done for level in status.levels] == done
        assert status.builder is None, "the dead hold no lease"
    return [total - n for total, n in zip(totals, done, strict=True)]


def assert_ended_undisturbed(target: Path, whole: Undisturbed) -> None:
    """The store and its records are, byte for byte, what nothing disturbed gives."""
    found = files(target)
    assert sorted(found) == sorted(whole.objects)
    assert [key for key in found if found[key] != whole.objects[key]] == []
    kept = records(target)
    assert sorted(kept) == sorted(whole.records)
    assert [key for key in kept if kept[key] != whole.records[key]] == []


def assert_resumes(builders: Builders, source: Path, target: Path, whole: Undisturbed) -> Run:
    """The same command again does what remains, no more, and ends as if undisturbed."""
    assert_whole_or_no_image(target, whole)
    left, regions = remains(target, whole), regions_without_receipt(target, whole)
    run = builders.run(source, target, **whole.job)
    assert run.code == 0, run.result
    assert run.messages == [], "nobody is waited for"
    assert Counter(run.chunk_writes) == left
    assert run.result["fresh_by_level"] == regions
    assert run.result["verified"]
    # byte for byte what `Builders.undisturbed` has verified in depth
    assert_ended_undisturbed(target, whole)
    return run
