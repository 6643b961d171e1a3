"""What is at a target: found out by few requests, removed in an order that is safe to kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ngff_core.build.takeover import (
    begin,
    drop_missing,
    forget_removed,
    inspect_target,
    remove,
    remove_cache,
)
from ngff_core.errors import (
    NgffError,
    SourceChangedError,
    StoredDataError,
    TargetExistsError,
)
from ngff_core.plan.pyramid_plan import PyramidPlan, SourcePin
from ngff_core.records.stored_build import StoredBuild
from tests.support.folders import files
from tests.support.plans import plan_of
from tests.support.targets import Place

OTHER = plan_of("yx", (32, 32), chunks=8, shards=8, scale_factors=[2])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---------------------------------------------------------------- finding out


def test_where_there_is_nothing_the_target_is_free(place: Place) -> None:
    """Two requests are enough to find that out."""
    state = inspect_target(place.wanted(OTHER), overwrite=False)
    assert (state.kind, state.plan, state.build) == ("free", None, None)
    assert place.beside.asked == ["read plan.json"]
    assert place.target.asked == ["is_empty "]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_finished_build_is_found_with_its_ledgers(place: Place, overwrite: bool) -> None:
    """Read once: the plan, the group's document, and a document for each level."""
    plan = place.built().plan
    state = inspect_target(place.wanted(plan), overwrite)
    assert state.kind == "finished"
    assert state.plan == plan
    assert state.build is not None
    assert state.build.complete
    assert sorted(place.beside.asked) == [
        "read ledger/0/complete.jsonl",
        "read ledger/1/complete.jsonl",
        "read plan.json",
    ]
    assert place.target.asked == ["read zarr.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_build_that_is_not_published_is_resumable(place: Place, overwrite: bool) -> None:
    """Its ledgers are not read for that."""
    plan = place.built().plan
    place.target.delete("zarr.json")
    place.forget()
    state = inspect_target(place.wanted(plan), overwrite)
    assert (state.kind, state.plan, state.build) == ("resumable", plan, None)
    assert place.beside.asked == ["read plan.json"]


def test_a_published_build_whose_ledger_is_not_complete_is_resumable(place: Place) -> None:
    plan = place.built().plan
    place.beside.delete("ledger/1/complete.jsonl")
    assert inspect_target(place.wanted(plan), overwrite=False).kind == "resumable"


def test_what_is_not_ours_is_refused(place: Place) -> None:
    """Or, with overwrite and if it is zarr, found to be something else."""
    place.target.write("zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(TargetExistsError, match="was not built by ngff-flows"):
        inspect_target(place.wanted(OTHER), overwrite=False)
    assert inspect_target(place.wanted(OTHER), overwrite=True).kind == "other"


def test_a_build_that_begins_between_two_requests_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another builder stores its plan and first objects after the plan was looked for."""
    plan = place.built().plan
    hidden = [True]
    read = place.beside.read

    def late(key: str) -> bytes | None:
        return None if hidden and hidden.pop() else read(key)

    monkeypatch.setattr(place.beside, "read", late)
    assert inspect_target(place.wanted(plan), overwrite=False).kind == "finished"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_zarr_is_refused_in_any_case(place: Place, overwrite: bool) -> None:
    place.target.write("thesis/chapter1.txt", b"text")
    with pytest.raises(TargetExistsError):
        inspect_target(place.wanted(OTHER), overwrite)
    assert files(place.uri) == {"thesis/chapter1.txt": b"text"}


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", b'{"digest": "0"}'])
def test_a_plan_that_cannot_be_read_is_refused(place: Place, document: bytes) -> None:
    place.beside.write("plan.json", document)
    with pytest.raises(StoredDataError, match="plan"):
        inspect_target(place.wanted(OTHER), overwrite=False)
    assert inspect_target(place.wanted(OTHER), overwrite=True).kind == "other"


def changed(plan: PyramidPlan, what: str) -> PyramidPlan:
    """Another plan, which differs in one thing."""
    image, pins = plan.image, (("size", "2"),)
    levels = tuple(replace(level, chunks=(4, 4)) for level in plan.levels)
    changes: dict[str, dict[str, Any]] = {
        "source": {"source": SourcePin("array:other", plan.source.pins)},
        "content": {"source": SourcePin(plan.source.uri, pins)},
        "method": {"method": "itkwasm_bin_shrink"},
        "compressor": {"compressor": "none"},
        "chunks": {"levels": levels},
        "shards": {"levels": tuple(replace(lv, shards=None) for lv in plan.levels)},
        "scale_factors": {"levels": (plan.levels[0], replace(plan.levels[1], factor=(4, 4)))},
        "shape": {"image": replace(image, shape=(64, 64))},
        "dtype": {"image": replace(image, dtype="|u1")},
        "version": {"ome_zarr_version": "0.4"},
        "algorithm": {"algorithm": 99},
        "name": {"image": replace(image, name="other")},
    }
    return replace(plan, **changes[what])


@pytest.mark.parametrize(
    ("what", "error", "named"),
    [
        ("source", TargetExistsError, ["was built from", "array:other"]),
        (
            "content",
            SourceChangedError,
            ["has changed since", "size: None there, 2 now", " there, None now"],
        ),
        ("method", TargetExistsError, ["method: itkwasm_gaussian there, itkwasm_bin_shrink now"]),
        ("compressor", TargetExistsError, ["compressor: ", " there, none now"]),
        ("chunks", TargetExistsError, ["chunks: (8, 8) there, (4, 4) now"]),
        ("shards", TargetExistsError, ["shards: (16, 16) there, None now"]),
        ("scale_factors", TargetExistsError, ["scale_factors: ((2, 2),) there, ((4, 4),) now"]),
        ("shape", TargetExistsError, ["shape: (32, 32) there, (64, 64) now"]),
        ("dtype", TargetExistsError, ["dtype: <u2 there, |u1 now"]),
        ("version", TargetExistsError, ["ome_zarr_version: 0.5 there, 0.4 now"]),
        ("algorithm", TargetExistsError, ["algorithm: 1 there, 99 now"]),
        ("name", TargetExistsError, ["the image's description differs"]),
    ],
)
def test_another_build_is_refused_with_what_differs(
    place: Place, what: str, error: type[NgffError], named: list[str]
) -> None:
    """Only that is named; with overwrite it is found to be something else."""
    wanted = changed(place.built().plan, what)
    with pytest.raises(error) as caught:
        inspect_target(place.wanted(wanted), overwrite=False)
    for part in (*named, str(place.uri), "overwrite"):
        assert part in str(caught.value)
    assert str(caught.value).count(" there, ") == sum(" there, " in part for part in named)
    assert inspect_target(place.wanted(wanted), overwrite=True).kind == "other"


def test_inspecting_changes_nothing(place: Place, tmp_path: Path) -> None:
    plan = place.built().plan
    before = files(tmp_path)
    for overwrite in (False, True):
        inspect_target(place.wanted(plan), overwrite)
    inspect_target(place.wanted(OTHER), overwrite=True)
    assert files(tmp_path) == before


# ---------------------------------------------------------------- beginning


def test_a_build_begins_with_its_plan(place: Place) -> None:
    assert begin(place.wanted(OTHER), "free")
    assert place.plan == OTHER
    assert place.asked == ["create plan.json"]


def test_a_plan_that_another_builder_stored_first_stays(place: Place) -> None:
    """The caller reads it then: it may name another version of a package."""
    first = replace(OTHER, method_version="0")
    assert begin(place.wanted(first), "free")
    assert not begin(place.wanted(OTHER), "free")
    assert place.plan.method_version == "0"


@pytest.mark.parametrize("kind", ["resumable", "finished"])
def test_a_build_that_is_there_is_not_begun_again(place: Place, kind: Any) -> None:
    plan = place.built().plan
    before = files(place.uri.parent)
    assert not begin(place.wanted(plan), kind)
    assert place.asked == []
    assert files(place.uri.parent) == before


def test_another_build_is_removed_before_this_one_begins(place: Place) -> None:
    place.built()
    assert begin(place.wanted(OTHER), "other")
    assert files(place.target.root) == {}
    assert list(files(place.beside.root)) == ["lease/000001.json", "plan.json"]
    assert place.plan == OTHER


# ---------------------------------------------------------------- removing


def left_by(place: Place) -> list[str]:
    """A cache, halo files and a lease beside a build: all that a kill may leave."""
    cache = {"zarr_format": 3, "node_type": "array", "shape": [2, 3],
             "chunk_grid": {"configuration": {"chunk_shape": [1, 2]}}}  # fmt: skip
    place.beside.write("cache/zarr.json", json.dumps(cache).encode())
    for key in ("cache/c/0/0", "cache/c/0/1", "cache/c/1/0", "cache/c/1/1"):
        place.beside.write(key, b"x")
    place.beside.write("ledger/cache/complete.jsonl", b"x")
    place.beside.write("lease/000001.json", b"{}")
    place.forget()
    return ["lease/000001.json"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_removing_a_build_leaves_the_lease_alone(place: Place, version: str) -> None:
    """The process that removes the build holds that lease."""
    shards = {} if version == "0.5" else {"shards": None}
    place.built(ome_zarr_version=version, **shards)
    stays = left_by(place)
    (place.beside.root / "lease").exists()
    remove(place.target, place.beside)
    assert files(place.target.root) == {}
    assert [key for key in files(place.beside.root) if not key.startswith("lease/")] == []
    assert stays[0] in files(place.beside.root)


def test_halo_files_that_a_kill_left_are_removed_with_the_build(place: Place) -> None:
    place.built()
    for key in ("halos-1/begun.json", "halos-1/0/0"):
        place.beside.write(key, b"{}")
    remove(place.target, place.beside)
    assert [key for key in files(place.beside.root) if not key.startswith("lease/")] == []


def test_a_folder_that_is_no_zarr_is_not_removed(place: Place) -> None:
    """It may have come since the target was inspected."""
    place.target.write("thesis/chapter1.txt", b"text")
    with pytest.raises(TargetExistsError):
        remove(place.target, place.beside)
    assert files(place.uri) == {"thesis/chapter1.txt": b"text"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_build_that_cannot_be_listed_is_removed_by_its_plan(tmp_path: Path, version: str) -> None:
    """Every object that the plan and the cache's document name."""
    place = Place(tmp_path, listed=False)
    shards = {} if version == "0.5" else {"shards": None}
    place.built(ome_zarr_version=version, **shards)
    left_by(place)
    remove(place.target, place.beside)
    assert files(place.target.root) == {}
    assert [key for key in files(place.beside.root) if not key.startswith("lease/")] == []


def test_what_cannot_be_listed_and_has_no_plan_is_not_touched(tmp_path: Path) -> None:
    place = Place(tmp_path, listed=False)
    place.target.write("zarr.json", b"{}")
    with pytest.raises(TargetExistsError, match="cannot be listed"):
        remove(place.target, place.beside)
    assert place.target.requests("delete*") == []
    assert list(files(place.uri)) == ["zarr.json"]


def test_what_has_a_damaged_plan_is_removed_by_listing(place: Place) -> None:
    place.built()
    place.beside.write("plan.json", b"?")
    remove(place.target, place.beside)
    assert files(place.target.root) == {}
    assert "plan.json" not in files(place.beside.root)


class KilledError(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("listed", [True, False])
def test_wherever_removing_is_killed_nothing_that_is_left_looks_complete(
    tmp_path: Path, listed: bool
) -> None:
    """No image without all of its objects, and no receipt for an object that is gone; the same
    command can remove what is left for as long as there is any."""
    Place(tmp_path / "built").built()
    count = 0
    while True:
        shutil.copytree(tmp_path / "built", tmp_path / str(count))
        place = Place(tmp_path / str(count), listed=listed)
        left = [count]

        def kill(request: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        plan = place.plan
        place.target.before = place.beside.before = kill
        try:
            remove(place.target, place.beside)
        except KilledError:
            pass
        else:
            break
        place.target.before = place.beside.before = lambda request: None
        target, beside = files(place.target.root), files(place.beside.root)
        if "zarr.json" in target:
            assert len([key for key in target if "/c/" in key]) == 4 + 1
        elif any(key.startswith("ledger/") for key in beside):
            stored = StoredBuild.load(place.target, place.beside, plan)
            for level, ledger in stored.levels:
                for receipt in ledger.receipts.values():
                    assert {f"{level.path}/{o.key}" for o in receipt.objects} <= set(target)
        if target:
            assert place.plan == plan
        count += 1
    assert count > 5


def test_a_cache_is_removed_with_its_document(place: Place) -> None:
    left_by(place)
    place.beside.write("plan.json", b"x")
    remove_cache(place.beside)
    assert sorted(files(place.beside.root)) == [
        "lease/000001.json",
        "ledger/cache/complete.jsonl",
        "plan.json",
    ]


@pytest.mark.parametrize("damage", [None, b"?", b"{}", b'{"chunk_grid": 1, "shape": 2}'])
def test_a_cache_that_cannot_be_listed_goes_by_its_document(
    tmp_path: Path, damage: bytes | None
) -> None:
    """A damaged one names no object, and goes itself."""
    place = Place(tmp_path, listed=False)
    left_by(place)
    if damage is not None:
        place.beside.write("cache/zarr.json", damage)
    remove_cache(place.beside)
    left = [key for key in files(place.beside.root) if key.startswith("cache/")]
    assert len(left) == (0 if damage is None else 4)
    assert "cache/zarr.json" not in left


def test_where_there_is_no_cache_nothing_is_removed(tmp_path: Path) -> None:
    place = Place(tmp_path, listed=False)
    remove_cache(place.beside)
    assert place.beside.requests("delete *") == []


# ---------------------------------------------------------------- what was removed since


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("gone", [[], [0], [1], [0, 1]])
def test_receipts_of_a_level_that_was_removed_are_forgotten(
    place: Place, gone: list[int], version: str
) -> None:
    """One request for each level with receipts tells it from an interrupted build."""
    build = place.built(ome_zarr_version=version, shards=None).stored()
    document = {"0.4": ".zarray", "0.5": "zarr.json"}[version]
    paths = [level.path for level in build.plan.levels]
    for index in gone:
        (place.uri / paths[index] / document).unlink()
    place.forget()
    assert forget_removed(build) == [paths[index] for index in gone]
    assert place.target.asked == [f"read {path}/{document}" for path in paths]
    for index, ledger in enumerate(build.ledgers):
        assert len(ledger.receipts) == (0 if index in gone else ledger.total)
    again = place.stored()
    assert [len(a.receipts) for a in again.ledgers] == [len(b.receipts) for b in build.ledgers]


def test_levels_that_were_not_begun_are_not_looked_at(place: Place) -> None:
    build = place.wanted(OTHER)
    assert forget_removed(build) == []
    assert place.asked == []


def lose(place: Place, key: str) -> None:
    (place.uri / key).unlink()


def cut_short(place: Place, key: str) -> None:
    (place.uri / key).write_bytes(b"")


@pytest.mark.parametrize("harm", [lose, cut_short])
def test_receipts_of_objects_that_are_gone_are_dropped(
    place: Place, harm: Callable[[Place, str], None]
) -> None:
    """Or that have another size; those of all other regions stay, on disk too."""
    build = place.built().stored()
    harm(place, "0/c/1/0")
    harm(place, "1/c/0/0")
    assert drop_missing(build) == 2
    assert [ledger.remaining for ledger in build.ledgers] == [[2], [0]]
    assert [ledger.remaining for ledger in place.stored().ledgers] == [[2], [0]]


def test_where_nothing_is_gone_nothing_is_dropped(place: Place) -> None:
    """One listing is enough to find that out, and nothing is written."""
    build = place.built().stored()
    place.forget()
    assert drop_missing(build) == 0
    assert place.asked == ["objects "]
