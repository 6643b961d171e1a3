"""What may be replaced: zarr hierarchies and what a killed replacement left, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ngff_core.errors import TargetExistsError, UnlistableError
from ngff_core.records.replaceable import (
    check_replaceable,
    empty_target,
    end_replacing,
    mark_replacing,
    remove_build_records,
)
from ngff_core.storage import DOCUMENTS, ObjectStore, open_store
from ngff_core.storage.foreign import foreign_store


def beside(store: ObjectStore) -> ObjectStore:
    return open_store(f"{store.uri}.build")


def test_an_empty_target_may_be_written(store: ObjectStore) -> None:
    """Nothing is there to lose."""
    check_replaceable(store, beside(store))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_zarr_hierarchy_may_be_replaced(store: ObjectStore, document: str) -> None:
    """Any zarr hierarchy: overwriting it is what the caller asked for."""
    store.write(document, b"{}")
    store.write("0/c/0", b"samples")
    check_replaceable(store, beside(store))


@pytest.mark.parametrize(
    "names",
    [
        ("thesis/chapter1.txt",),
        # no document of the folder itself
        ("thesis/zarr.json", "scan.ome.zarr/zarr.json"),
        # no document, but a folder of its name
        ("zarr.json/notes.txt",),
    ],
)
def test_a_folder_of_other_files_is_refused_by_name(
    store: ObjectStore, names: tuple[str, ...]
) -> None:
    """The error says what was found and what to do."""
    for name in names:
        store.write(name, b"four years of work")
    with pytest.raises(TargetExistsError) as caught:
        check_replaceable(store, beside(store))
    assert all(f"{name.partition('/')[0]}/" in str(caught.value) for name in names)
    assert store.uri in str(caught.value)
    assert "choose another target, or empty it yourself" in str(caught.value)
    assert [*store.objects()] == sorted(names)


def test_a_file_is_refused_too(store: ObjectStore) -> None:
    """A scan.tif that was given as the target by mistake."""
    store.write("scan.tif", b"samples")
    file = open_store(f"{store.uri}/scan.tif")
    with pytest.raises(TargetExistsError, match="a file of 7 bytes"):
        check_replaceable(file, beside(file))


def test_of_many_entries_the_first_are_named(tmp_path: Path) -> None:
    """An error of one line, whatever the folder holds."""
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("")
    with pytest.raises(TargetExistsError, match=r"0\.txt, 1\.txt, 2\.txt and 6 more"):
        check_replaceable(open_store(tmp_path), None)


@pytest.mark.parametrize("record", ["plan.json", "replacing.json"])
def test_what_a_killed_overwrite_left_may_be_replaced(store: ObjectStore, record: str) -> None:
    """Its root document is gone; the plan or the mark beside it says whose it is."""
    store.write("scale1/image/c/0/0", b"samples")
    beside(store).write(record, b"{}")
    check_replaceable(store, beside(store))


def test_the_mark_lasts_from_start_to_end(store: ObjectStore) -> None:
    """Also through the removal of all that the target holds."""
    store.write("scale1/image/c/0/0", b"samples")
    mark_replacing(store, beside(store))
    empty_target(store, beside(store))
    store.write("scale0/image/c/0/0", b"samples")
    check_replaceable(store, beside(store))
    end_replacing(store, beside(store))
    assert beside(store).is_empty()
    with pytest.raises(TargetExistsError, match="scale0/"):
        check_replaceable(store, beside(store))


def test_a_mapping_has_its_mark_inside() -> None:
    """Nothing stands beside it."""
    mapping: dict[str, bytes] = {"scale0/image/c/0/0": b"samples", "notes": b""}
    store = foreign_store(mapping)
    with pytest.raises(TargetExistsError, match="notes, scale0/"):
        check_replaceable(store, None)
    mark_replacing(store, None)
    check_replaceable(store, None)
    empty_target(store, None)
    assert len(mapping) == 1
    end_replacing(store, None)
    assert mapping == {}


def test_entries_of_its_own_may_be_named_by_the_caller(tmp_path: Path) -> None:
    """A cache whose document was removed first, by a process that was killed then."""
    (tmp_path / "c").mkdir()
    check_replaceable(open_store(tmp_path), None, own=("zarr.json", "c"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TargetExistsError, match=r"notes\.txt"):
        check_replaceable(open_store(tmp_path), None, own=("zarr.json", "c"))


@pytest.mark.parametrize("kind", ["gs unlisted", "s3 unlisted"])
def test_a_store_that_cannot_be_listed_is_not_guessed_at(places: Any, kind: str) -> None:
    """The caller decides what an unknown content means for it."""
    target = open_store(f"{places(kind)}/image.ome.zarr")
    target.write(".zattrs", b"{}")
    with pytest.raises(UnlistableError):
        check_replaceable(target, beside(target))


def test_other_files_in_the_build_folder_stay(store: ObjectStore) -> None:
    """Xcode's folder for an app that is called like the image."""
    records = ("plan.json", "ledger/0/complete.jsonl", "lease/000001.json", "cache/zarr.json")
    for key in (*records, "app.o", "ledger.txt"):
        store.write(key, b"")
    remove_build_records(store)
    assert [*store.objects()] == ["app.o", "ledger.txt"]
