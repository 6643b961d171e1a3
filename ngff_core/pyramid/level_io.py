"""One level's storage, as a pass uses it: load, read, store, record."""

from __future__ import annotations

from collections.abc import Buffer, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import zarr

from ngff_core.blocks import ArrayLike, Block, BlockedArray
from ngff_core.errors import StoredDataError, TransientError
from ngff_core.geometry import Region, window_of, within
from ngff_core.kernels.contract import Kernel
from ngff_core.memory import region_memory
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.encoding import Encoded, LevelEncoder
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Receipt, StoredObject
from ngff_core.sources.base import Reader
from ngff_core.storage import ObjectStore, fused_pipeline, is_transient, read_region, retrying
from ngff_core.storage.retry import count_retry, given_up, one_budget
from ngff_core.storage.transient import kind_of

READINGS = 5
"""Of what seems to be damaged, before it is called so."""

_FEW = 4


def region_samples(
    parent: ArrayLike,
    level: LevelPlan,
    index: int,
    kernel: Kernel | None,
    halos: HaloFiles | None = None,
) -> BlockedArray:
    """The samples of one region of ``level``, from its parent's array.

    Without a kernel (level 0) they are the parent's own. Where there are ``borders`` a
    chunk of the parent is decoded for one region alone.
    """
    region = level.region(index)
    if kernel is None:
        return _read(parent, region, "the source")
    window = window_of(region, level.step, kernel.halo(level.step), parent.shape)
    if halos is None:
        samples = stored_samples(parent, window.box)
    else:
        samples = _with_halo(parent, index, window.box, halos)
    return BlockedArray.of(region, kernel.reduce(samples, window.offset, level.step, region.shape))


def _with_halo(parent: ArrayLike, index: int, box: Region, halos: HaloFiles) -> Block:
    """A region's window: its bins from the parent, the rest from strips where there are any."""
    samples = region_memory.array(box.shape, np.dtype(parent.dtype))
    missing = halos.fill(index, box, samples)
    # One after another they would take longer than what is decoded again.
    parts = [halos.interior(index), *missing] if len(missing) <= _FEW else [box]
    for part in parts:
        stored_samples(parent, part, into=samples[within(part, box)])
    return samples


def stored_samples(parent: ArrayLike, box: Region, into: Block | None = None) -> Block:
    """A box of a level of our own; whatever keeps it from being decoded is damage.

    It is read again first: an object may be damaged, or missed, in one answer only.
    """
    for left in reversed(range(READINGS)):
        try:
            return _read(parent, box, "the level below", into).part(box)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if left:
                count_retry(kind_of(error))
                continue
            first = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise StoredDataError(
                f"the level below cannot be read ({first}); run the same command again to build "
                "anew what is missing"
            ) from error
    raise AssertionError("the last reading returns or raises")


def _read(array: ArrayLike, box: Region, what: str, into: Block | None = None) -> BlockedArray:
    """A box of an array; trouble that may pass is an OSError, whatever its client says."""
    try:
        return retrying(_region, array, box, into)
    except OSError:
        raise
    except Exception as error:
        if not is_transient(error):
            raise
        raise TransientError(f"{what} could not be read: {kind_of(error)} ({error})") from error


def _region(array: ArrayLike, box: Region, into: Block | None) -> BlockedArray:
    if into is None and isinstance(array, Reader):
        return array.region(box)
    return BlockedArray.of(box, read_region(array, box.slices, into))


@contextmanager
def work_on(what: str) -> Iterator[None]:
    """Work on one region: all that is tried again inside shares one budget.

    Where trouble lasts longer, the TransientError says what the work was and how to go on.
    """
    with one_budget() as effort:
        try:
            yield
        except Exception as error:
            if not given_up(error) or not is_transient(error):
                raise
            raise TransientError(
                f"{error}; {what} was given up after {effort.told}; what is done is kept, so run "
                "the same command again once the storage answers"
            ) from error


def open_level(store: ObjectStore, plan: PyramidPlan, level: LevelPlan) -> zarr.Array[Any]:
    """One level's array, to be read; a missing object is an error, not zeros."""
    with fused_pipeline():
        return zarr.open_array(
            store=store.zarr(),
            path=level.path,
            mode="r",
            zarr_format=plan.zarr_format,
            # Every object is written, also where it holds nothing but zeros. So absence
            # is damage, and a spurious 404 never passes for background.
            config={"read_missing_chunks": False},
        )


def store_region(
    store: ObjectStore, encoder: LevelEncoder, level: LevelPlan, index: int, samples: BlockedArray
) -> Receipt:
    """Encode and store one region; the receipt of what was stored."""
    region = level.region(index)
    if samples.shape != region.shape:
        raise StoredDataError(
            f"{level.path}: region {index} has shape {samples.shape}, not {region.shape}"
        )
    samples, checksum = samples.astype(encoder.dtype), 0
    stored = []
    for at in level.object_positions(region):
        encode = partial(encoder.encode, at, samples, before=checksum)
        found = retrying(_put, store, f"{level.path}/{encoder.key(at)}", encode)
        stored.append(StoredObject(encoder.key(at), found.size, found.crc32c))
        checksum = found.samples
    return Receipt(index, checksum, tuple(stored))


def _put(
    store: ObjectStore, key: str, encode: Callable[[Callable[[Buffer], object]], Encoded]
) -> Encoded:
    """Put an object while it is encoded; what it came to, the last time where it was put again."""
    found: list[Encoded] = []
    store.write(key, lambda put: found.append(encode(put)))
    return found[-1]
