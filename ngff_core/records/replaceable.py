"""The one check before anything at a target is removed, and the mark of a replacement under way.

Only a zarr hierarchy may be replaced. A killed replacement leaves a hierarchy without its root
document; the mark beside it says that this is one, so that the same command can continue.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from ngff_core.errors import TargetExistsError
from ngff_core.records.build_folder import (
    CACHE,
    LEASES,
    LEDGERS,
    PLAN_KEY,
    REPLACED,
    REPLACING_KEY,
    SUMMARIES,
    WINDOWS_KEY,
    is_halo,
)
from ngff_core.storage import DOCUMENTS, ObjectStore, is_remote, retrying

_MARK_INSIDE = ".ngff-flows-replacing.json"
"""The mark of a store that has nothing beside it: a mapping, or a zarr store in memory."""

_OWN_FOLDERS = frozenset({CACHE, LEDGERS, LEASES, SUMMARIES})
_OWN_FILES = frozenset({PLAN_KEY, REPLACING_KEY, WINDOWS_KEY})
_MOST_NAMED = 3


def check_replaceable(
    target: ObjectStore, beside: ObjectStore | None, own: Collection[str] = ()
) -> None:
    """Raise TargetExistsError where the target holds something other than a zarr hierarchy.

    Replaceable is a target that is empty, has a zarr document (``zarr.json``, ``.zgroup``,
    ``.zarray`` or ``.zattrs``) at its root, has a plan or the mark of a killed replacement in
    ``beside`` (the store of ``TARGET.build``; None where there is none), or holds nothing but
    entries named in ``own``. It takes at most one listing of the target's folder, and no
    sample is read. Raises UnlistableError where that listing is refused.
    """
    if beside is not None and (_has(beside, PLAN_KEY) or _has(beside, REPLACING_KEY)):
        return
    if beside is None and any(_has(target, name) for name in (_MARK_INSIDE, *DOCUMENTS)):
        # A mapping lists a folder by reading all that is in it: look for the names first.
        return
    entries = _entries(target)
    if not entries:
        file = retrying(target.info, "")
        if file is None:
            return
        raise _refusal(target, f"a file of {file.size} bytes")
    if any(not entries.get(name, True) for name in DOCUMENTS) or entries.keys() <= {*own}:
        return
    raise _refusal(target, f"a folder with {_named(entries)}")


def mark_replacing(target: ObjectStore, beside: ObjectStore | None) -> None:
    """Put the mark, before anything is removed or written.

    A target whose plan stays beside it until all else is removed needs no mark.
    """
    if beside is None:
        retrying(target.write, _MARK_INSIDE, _mark(target))
    else:
        retrying(beside.write, REPLACING_KEY, _mark(target))


def end_replacing(target: ObjectStore, beside: ObjectStore | None) -> None:
    """Remove the mark: the target is empty, or a new hierarchy is complete there."""
    if beside is None:
        retrying(target.delete, _MARK_INSIDE)
        return
    retrying(beside.delete, REPLACING_KEY)
    _remove_if_empty(beside)


def empty_target(target: ObjectStore, beside: ObjectStore | None) -> None:
    """Remove every object of a target, but for the mark."""
    if beside is not None:
        retrying(target.delete_tree)
        return
    for name, is_folder in _entries(target).items():
        if name != _MARK_INSIDE:
            retrying(target.delete_tree if is_folder else target.delete, name)


def remove_build_records(beside: ObjectStore) -> None:
    """Remove what `build_pyramid` wrote to ``TARGET.build``; other files there stay.

    A folder of this name may belong to another program: Xcode and CMake make such folders.
    """
    for name, is_folder in _entries(beside).items():
        if is_folder and (name in _OWN_FOLDERS or is_halo(f"{name}/")):
            retrying(beside.delete_tree, name)
        elif name in _OWN_FILES - {REPLACING_KEY}:
            retrying(beside.delete, name)


def remove_build_folder(beside: ObjectStore) -> None:
    """Remove all that ngff-flows wrote to ``TARGET.build``, and the folder if it is then empty.

    Raises UnlistableError where the store cannot be listed.
    """
    remove_build_records(beside)
    retrying(beside.delete_tree, REPLACED)
    retrying(beside.delete, REPLACING_KEY)
    _remove_if_empty(beside)


def _remove_if_empty(beside: ObjectStore) -> None:
    # Buckets have no empty folders.
    if not is_remote(beside.uri) and not _entries(beside):
        retrying(beside.delete_tree)


def _entries(store: ObjectStore) -> dict[str, bool]:
    """Names directly in a store's folder, and whether each is a folder."""
    return {name: entry.is_folder for name, entry in retrying(store.folder).items()}


def _has(store: ObjectStore, key: str) -> bool:
    return retrying(store.read, key) is not None


def _mark(target: ObjectStore) -> bytes:
    return json.dumps({"replacing": target.uri}).encode()


def _named(entries: Mapping[str, bool]) -> str:
    """The first entries of a folder for an error: folders with a slash, then how many more."""
    shown = [f"{name}/" if is_folder else name for name, is_folder in entries.items()]
    more = len(shown) - _MOST_NAMED
    text = ", ".join(shown[:_MOST_NAMED])
    return f"{text} and {more} more" if more > 0 else text


def _refusal(target: ObjectStore, what: str) -> TargetExistsError:
    return TargetExistsError(
        f"{target.uri} is {what}, and not a zarr hierarchy: it is never overwritten; "
        "choose another target, or empty it yourself"
    )
