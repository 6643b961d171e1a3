"""Opens damaged files in processes of their own and says whether each ended as it should.

A damaged file gives samples of the shape that was described, or one `NgffError` of one line, in
bounded time and memory.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ngff_core.errors import NgffError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.contract import Samples
from ngff_core.sources.inspection import inspect_source
from tests.support.mutations import Mutant, mutate
from tests.support.seed_files import Seed

MIB = 2**20
SECONDS = 10.0
"""Time that one damaged file may take."""
MEMORY = 1024 * MIB
"""Memory that one damaged file may take, above that of the process."""
_ADDRESSES = 8 * 2**30
"""Address space that one may take; threads and allocators reserve more than they use."""
_WHOLE = 16 * MIB
"""Images larger than this are read in part."""
_UNIT = 64 * MIB
"""Units of decoding larger than this are not read: a build with such a limit would refuse."""
_IMAGES, _LINE = 6, 3000
_UNCOUNTED = ("joined", "dicom-series", "precomputed-sharded")
"""Where a removed file is not missed: the pattern, folder or volume is then one without it."""

Outcome = Literal["read", "refused", "failed"]


@dataclass(frozen=True)
class Verdict:
    """How one damaged file ended.

    Attributes
    ----------
    seed, number
        Of the mutant.
    how
        What was damaged.
    outcome
        ``read``, ``refused``, or ``failed`` where it should not have ended so.
    text
        The message of a refusal, or what was wrong.
    seconds, memory
        What it took.
    """

    seed: str
    number: int
    how: str
    outcome: Outcome
    text: str = ""
    seconds: float = 0.0
    memory: int = 0


def judge(mutants: Iterable[tuple[Seed, int]], workers: int = 1) -> Iterator[Verdict]:
    """A verdict for each mutant, in no order. Workers are forked, so nothing may run here yet."""
    work = iter(list(mutants))
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda _: list(_serve(work)), range(workers)):
            yield from found


def _serve(work: Iterator[tuple[Seed, int]]) -> Iterator[Verdict]:
    """Take from the work what one process does, and give it another process where it dies."""
    worker: _Worker | None = None
    for seed, number in work:
        worker = worker or _Worker()
        verdict = worker.judge(seed, number)
        yield verdict
        if not worker.alive:
            worker = None
    if worker is not None:
        worker.end()


class _Worker:
    """A process that judges one mutant after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.support.prepared"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True

    def judge(self, seed: Seed, number: int) -> Verdict:
        try:
            self._pipe.send((seed, number))
            # Twice the time: the process stops itself where it can, and says where.
            if not self._pipe.poll(2 * SECONDS + 20):
                return self._failed(seed, number, f"took more than {SECONDS:.0f} s")
            verdict: Verdict = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return self._failed(seed, number, f"process died: {self._process.exitcode}")
        if verdict.memory > MEMORY or verdict.seconds > SECONDS:
            self.end()
        return verdict

    def _failed(self, seed: Seed, number: int, text: str) -> Verdict:
        self.end()
        return Verdict(seed.name, number, mutate(seed, number).how, "failed", text)

    def end(self) -> None:
        self.alive = False
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _work(pipe: Any) -> None:
    """Judge what comes through the pipe until it is closed."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # Libraries in C print to the process's own stream.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    known: dict[str, Any] = {}
    taken = _status("VmSize") + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            seed, number = pipe.recv()
        except EOFError:
            return
        if seed.name not in known:
            with tempfile.TemporaryDirectory() as folder:
                known[seed.name] = _samples(seed.write(Path(folder)))
        pipe.send(_verdict(seed, number, known[seed.name]))


def _verdict(seed: Seed, number: int, intact: dict[str, Any]) -> Verdict:
    import time

    mutant = mutate(seed, number)
    folder = Path(tempfile.mkdtemp())
    before = _restart_peak()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(SECONDS))
    began = time.monotonic()
    try:
        outcome, text = _ending(partial(_look, mutant, folder, intact))
    except BaseException as error:  # noqa: BLE001 - whatever ends it is the verdict
        outcome, text = "failed", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - began
    shutil.rmtree(folder, ignore_errors=True)
    memory = _status("VmHWM") - before
    if memory > MEMORY:
        outcome, text = "failed", f"took {memory // MIB} MiB: {text}"
    return Verdict(seed.name, number, mutant.how, outcome, text, seconds, memory)


def _too_long(*_: Any) -> None:
    raise KeyboardInterrupt(f"took more than {SECONDS:.0f} s")


def _ending(look: Callable[[], None]) -> tuple[Outcome, str]:
    """How looking ended: an error must be one of this package, in one line."""
    try:
        look()
    except NgffError as error:
        text = str(error)
        if not text.isprintable() or len(text) > _LINE:
            return "failed", f"not one line: {type(error).__name__}: {text[:1000]!r}"
        return "refused", text
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not be here
        import traceback

        where = traceback.extract_tb(error.__traceback__)
        ours = [each for each in where if "ngff_core" in each.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return "failed", f"{type(error).__name__} at {place}: {str(error)[:500]!r}"
    return "read", ""


def _look(mutant: Mutant, folder: Path, intact: dict[str, Any]) -> None:
    path = mutant.seed.write(folder)
    json.dumps(inspect_source(path).to_dict(), default=str)
    found = _samples(path)
    if mutant.cut and _is_noticed(mutant):
        lost = [k for k, v in found.items() if v is not None and not _as_before(v, intact)]
        assert not lost, f"half an image in silence: {lost}"
    # Axes without a name are refused here, and may be.
    with open_source(path, selection=Selection(series=0)) as source:
        assert len(source.read_unit) == len(source.image.data.shape)


def _is_noticed(mutant: Mutant) -> bool:
    """Whether a lost file can be noticed: not where the files that are there are all there is."""
    return not (mutant.how.endswith("removed") and mutant.seed.name in _UNCOUNTED)


def _as_before(samples: Any, intact: dict[str, Any]) -> bool:
    """Whether the samples are those of an intact image; a part of its planes counts too."""
    flat = samples.ravel()
    others = [other.tobytes() for other in intact.values() if other is not None]
    return any(flat.tobytes() in other for other in others)


def _samples(path: Path) -> dict[str, Any]:
    """The samples of all images; None for one that is too large."""
    found: dict[str, Any] = {}
    with open_images(path) as images:
        for number, image in enumerate(images.images[:_IMAGES]):
            samples = images.open_image(number)
            assert tuple(samples.data.shape) == tuple(image.shape), "shape is not as described"
            assert samples.data.dtype == np.dtype(image.dtype), "dtype is not as described"
            assert len(samples.read_unit) == len(image.shape), "read unit has other axes"
            assert all(u >= 1 for u in samples.read_unit), "read unit of nothing"
            # An absent chunk has the fill value by definition; it is counted, or it is noted.
            lacks = samples.chunks is not None and samples.chunks.absent > 0
            lacks = lacks or any("are not there" in note.text for note in image.notes)
            read = _read(samples)
            found[str(number)] = None if lacks else read
    return found


def _read(samples: Samples) -> Any:
    shape, dtype = samples.data.shape, samples.data.dtype
    if math.prod(samples.read_unit) * dtype.itemsize > _UNIT:
        return None
    if math.prod(shape) * dtype.itemsize <= _WHOLE:
        return _box(samples, tuple(slice(0, n) for n in shape))
    for ends in itertools.product((False, True), repeat=min(len(shape), 3)):
        last = (*ends, *[False] * (len(shape) - len(ends)))
        corner = [
            slice(max(0, n - 16), n) if at_end else slice(0, min(n, 16))
            for n, at_end in zip(shape, last, strict=True)
        ]
        _box(samples, tuple(corner))
    return None


def _box(samples: Samples, box: tuple[slice, ...]) -> Any:
    found = np.asarray(samples.data[box])
    assert found.shape == tuple(s.stop - s.start for s in box), "box of another shape"
    assert found.dtype == samples.data.dtype, "box of another dtype"
    return found


def _status(field: str) -> int:
    """Bytes that the kernel names in this process's status."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _restart_peak() -> int:
    """Let the kernel count the peak of memory anew; what is in memory now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")
