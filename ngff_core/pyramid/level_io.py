"""Reading, computing and storing the regions of one level."""

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
from ngff_core.records.receipts import Receipt, StoredObject
from ngff_core.sources.base import Reader
from ngff_core.storage import ObjectStore, fused_pipeline, is_transient, read_region, retrying
from ngff_core.storage.retry import count_retry, given_up, one_budget
from ngff_core.storage.transient import kind_of

READINGS = 5
"""Times that samples or an object are read before they are reported as damaged."""

_FEW = 4
"""Up to so many missing halo strips are decoded one by one; with more, the window at once."""


def region_samples(
    parent: ArrayLike,
    level: LevelPlan,
    index: int,
    kernel: Kernel | None,
    halos: HaloFiles | None = None,
) -> BlockedArray:
    """The samples of region ``index`` of ``level``, computed from its parent's array.

    Without a kernel (level 0) they are those of ``parent``, the source. With ``halos`` each
    chunk of the parent is decoded for one region only, as long as no halo strip is missing.
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
    """The window of a region: its interior from the parent, the rest from halo strips.

    Where halo strips are missing, the parent is decoded instead.
    """
    samples = region_memory.array(box.shape, np.dtype(parent.dtype))
    missing = halos.fill(index, box, samples)
    # Decoding many one after another would take longer than decoding the interior again.
    parts = [halos.interior(index), *missing] if len(missing) <= _FEW else [box]
    for part in parts:
        stored_samples(parent, part, into=samples[within(part, box)])
    return samples


def stored_samples(parent: ArrayLike, box: Region, into: Block | None = None) -> Block:
    """The samples of a box of a level that was built here, ``into`` an array if one is given.

    Raises StoredDataError where they cannot be decoded. They are read up to `READINGS` times:
    one answer may be damaged, or say that an object is missing, where the next one is right.
    """
    for readings_left in reversed(range(READINGS)):
        try:
            return _read(parent, box, "the level below", into).part(box)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if readings_left:
                count_retry(kind_of(error))
                continue
            first = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise StoredDataError(
                f"the level below cannot be read ({first}); run the same command again to build "
                "what is missing"
            ) from error
    raise AssertionError("the last reading returns or raises")


def _read(array: ArrayLike, box: Region, what: str, into: Block | None = None) -> BlockedArray:
    """The samples of a box of an array, with retries.

    Raises an OSError for every transient error, whatever error the storage client raises.
    """
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
    """Work on one region: all retries inside share one budget.

    Raises a TransientError where it is used up, with ``what`` the work was and what to do next.
    """
    with one_budget() as budget:
        try:
            yield
        except Exception as error:
            if not given_up(error) or not is_transient(error):
                raise
            raise TransientError(
                f"{error}; {what} was given up after {budget.summary}; what is done is kept, so "
                "run the same command again once the storage answers"
            ) from error


def open_level(store: ObjectStore, plan: PyramidPlan, level: LevelPlan) -> zarr.Array[Any]:
    """The array of one level, for reading; a missing object is an error, not zeros."""
    with fused_pipeline():
        return zarr.open_array(
            store=store.zarr(),
            path=level.path,
            mode="r",
            zarr_format=plan.zarr_format,
            # Every object is written, also one with zeros only. So a missing object is damage,
            # and a spurious 404 is never taken for background.
            config={"read_missing_chunks": False},
        )


def store_region(
    store: ObjectStore, encoder: LevelEncoder, level: LevelPlan, index: int, samples: BlockedArray
) -> Receipt:
    """Encode and store one region; returns its receipt.

    Raises StoredDataError for samples that do not have the shape of the region.
    """
    region = level.region(index)
    if samples.shape != region.shape:
        raise StoredDataError(
            f"{level.path}: region {index} has shape {samples.shape}, not {region.shape}"
        )
    samples, checksum = samples.astype(encoder.dtype), 0
    objects = []
    for at in level.object_positions(region):
        encode = partial(encoder.encode, at, samples, before=checksum)
        encoded = retrying(_put, store, f"{level.path}/{encoder.key(at)}", encode)
        objects.append(StoredObject(encoder.key(at), encoded.size, encoded.crc32c))
        checksum = encoded.samples_crc32c
    return Receipt(index, checksum, tuple(objects))


def _put(
    store: ObjectStore, key: str, encode: Callable[[Callable[[Buffer], object]], Encoded]
) -> Encoded:
    """Write an object while it is encoded. It may be encoded again: the last time counts."""
    times: list[Encoded] = []
    store.write(key, lambda put: times.append(encode(put)))
    return times[-1]
