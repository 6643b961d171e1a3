"""Scripted faults of storage, and interruptions, inside one process."""

import errno
import os
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tenacity

import ngff_core
from ngff_core.errors import StoredDataError, TransientError
from ngff_core.progress import Advanced
from ngff_core.storage import LocalFiles
from tests.resume.harness import beside, is_image, pixels, records
from tests.support.folders import files

OPTIONS = {
    "method": "itkwasm_bin_shrink",
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2],
    "workers": 2,
}
LEVEL_0, LEVEL_1 = 9, 4
REGION_3 = "0/c/0/1/0"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "image.npy"
    np.save(path, pixels(shape=(20, 96, 80)))
    return path


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build that nothing disturbed."""
    target = tmp_path_factory.mktemp("whole") / "image.ome.zarr"
    ngff_core.build_pyramid(source, target, **OPTIONS)
    return target


class Faults:
    """Raises what a test scripted, by operation and key; counts the attempts."""

    def __init__(self) -> None:
        self.script: dict[str, list[Exception]] = {}
        self.attempts: Counter[str] = Counter()

    @property
    def chunk_attempts(self) -> Counter[str]:
        return Counter({k: n for k, n in self.attempts.items() if "/c/" in k})

    def meet(self, key: str) -> None:
        self.attempts[key] += 1
        if self.script.get(key):
            raise self.script[key].pop(0)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Storage that fails as scripted; pauses between attempts cost no time."""
    found = Faults()
    for name in ("write", "create"):
        real = getattr(LocalFiles, name)

        def attempt(self, key, data, real=real):
            found.meet(key)
            return real(self, key, data)

        monkeypatch.setattr(LocalFiles, name, attempt)
    monkeypatch.setattr(
        "ngff_core.storage.retry.tenacity.wait_random_exponential", lambda **_: tenacity.wait_none()
    )
    return found


def chunk_keys(target: Path) -> list[str]:
    return [key for key in files(target) if "/c/" in key]


def assert_same(target: Path, whole: Path) -> None:
    assert files(target) == files(whole)
    assert records(target) == records(whole)
    assert ngff_core.verify_pyramid(target, deep=True).ok


def assert_left_in_order(target: Path) -> None:
    """No image, nobody who claims the target, no thread of ours."""
    assert not is_image(target)
    assert ngff_core.build_status(target).builder is None
    assert [t.name for t in threading.enumerate() if t.name.startswith("ngff-")] == []


@pytest.mark.parametrize(
    "passing",
    [TimeoutError("slow"), ConnectionResetError("reset"), OSError(errno.EBUSY, "busy")],
    ids=lambda error: type(error).__name__,
)
def test_transient_errors_are_retried(source, whole, faults, tmp_path, passing):
    """Region 3 fails twice, then works: one build, and only that region is put again."""
    faults.script = {REGION_3: [passing, passing]}
    target = tmp_path / "image.ome.zarr"
    report = ngff_core.build_pyramid(source, target, **OPTIONS)
    expected = Counter(chunk_keys(whole))
    expected[REGION_3] = 3
    assert faults.chunk_attempts == expected
    assert report.fresh == LEVEL_0 + LEVEL_1
    assert report.verified
    assert_same(target, whole)


@pytest.mark.parametrize(
    "key",
    [
        "plan.json",
        "1/zarr.json",
        "zarr.json",
        "display/000000",
        "windows.json",
        "ledger/0/segments/000000.jsonl",
        "ledger/1/complete.jsonl",
        "lease/000001.json",
    ],
)
def test_transient_errors_are_retried_wherever_they_occur(
    source, whole, faults, tmp_path, key, monkeypatch
):
    """A short outage while plan, metadata, lease or receipts are written stops no build."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    faults.script = {key: [ConnectionResetError("reset"), TimeoutError("slow")]}
    target = tmp_path / "image.ome.zarr"
    assert ngff_core.build_pyramid(source, target, **OPTIONS).verified
    assert faults.script[key] == []
    assert_same(target, whole)


@pytest.mark.parametrize(
    ("error", "attempts", "told"),
    [
        (PermissionError("read-only"), 1, PermissionError),
        (TimeoutError("still slow"), 8, TransientError),
    ],
    ids=["final", "never passing"],
)
def test_a_final_error_stops_and_keeps_what_is_done(
    source, whole, faults, tmp_path, error, attempts, told
):
    """What cannot pass is not tried again; what was done is kept, and the next run does
    the rest."""
    key = "1/c/0/1/0"
    faults.script = {key: [error] * attempts}
    target = tmp_path / "image.ome.zarr"
    with pytest.raises(told, match=str(error)):
        ngff_core.build_pyramid(source, target, **OPTIONS)
    assert faults.attempts[key] == attempts
    assert_left_in_order(target)
    # One region of level 1 failed; what was in flight of any level was counted, and no
    # more was begun.
    stored = chunk_keys(target)
    done = [level.done for level in ngff_core.build_status(target).levels]
    assert sum(done) == len(stored), "what was stored has its receipt"
    assert done[1] < LEVEL_1

    faults.attempts.clear()
    report = ngff_core.build_pyramid(source, target, **OPTIONS)
    assert faults.chunk_attempts == Counter(set(chunk_keys(whole)) - set(stored))
    assert [level.fresh for level in report.levels] == [LEVEL_0 - done[0], LEVEL_1 - done[1]]
    assert_same(target, whole)


@pytest.mark.parametrize("phase", ["level-0", "level-1"])
def test_ctrl_c_leaves_a_build_to_go_on_with(source, whole, faults, tmp_path, phase):
    """Ctrl-C in mid-level: no image yet, no thread, no lease; the next run does the rest."""
    target = tmp_path / "image.ome.zarr"

    def impatient(event):
        if isinstance(event, Advanced) and event.phase == phase and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ngff_core.build_pyramid(source, target, **OPTIONS, progress=impatient)
    assert_left_in_order(target)
    stored = chunk_keys(target)
    done = [level.done for level in ngff_core.build_status(target).levels]
    assert sum(done) == len(stored), "what was stored has its receipt"
    faults.attempts.clear()
    report = ngff_core.build_pyramid(source, target, **OPTIONS)
    assert [level.fresh for level in report.levels] == [LEVEL_0 - done[0], LEVEL_1 - done[1]]
    assert faults.chunk_attempts == Counter(set(chunk_keys(whole)) - set(stored))
    assert_same(target, whole)


def test_a_damaged_receipt_is_told_and_mended(source, whole, tmp_path, monkeypatch):
    """A receipt that cannot be read: the error says what to remove; that done, it goes on."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    target = tmp_path / "image.ome.zarr"

    def impatient(event):
        if isinstance(event, Advanced) and event.phase == "level-0" and event.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ngff_core.build_pyramid(source, target, **OPTIONS, progress=impatient)
    segment = beside(target) / "ledger/0/segments/000002.jsonl"
    segment.write_bytes(segment.read_bytes()[:40])
    with pytest.raises(StoredDataError, match="remove that object") as caught:
        ngff_core.build_pyramid(source, target, **OPTIONS)
    assert str(segment) in str(caught.value)
    assert [t.name for t in threading.enumerate() if t.name.startswith("ngff-")] == []
    segment.unlink()
    assert ngff_core.build_pyramid(source, target, **OPTIONS).verified
    assert_same(target, whole)


def test_two_may_clean_up_at_once(source, whole, tmp_path, monkeypatch):
    """Another process removes the cache at the same time: neither stumbles over the other."""
    real = os.unlink

    def unlink_after_another(path, *, dir_fd=None):
        real(path, dir_fd=dir_fd)
        if dir_fd is not None:
            real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink_after_another)
    target = tmp_path / "image.ome.zarr"
    assert ngff_core.build_pyramid(source, target, **OPTIONS, cache="always").verified
    assert_same(target, whole)
