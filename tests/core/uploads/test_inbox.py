"""Upload prefixes: which names are found there, and what is kept beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from ngff_core.errors import StoredDataError
from ngff_core.storage import ObjectInfo
from ngff_core.uploads import inbox
from ngff_core.uploads.decisions import Decision, Job, Record, Revision, Seen, Upload
from ngff_core.uploads.inbox import Inbox
from ngff_core.uploads.patterns import Names

if TYPE_CHECKING:
    from fsspec.implementations.memory import MemoryFileSystem

NAMES = Names(("*.tif", "*.zarr"), ("scratch", "*.tmp.tif"), ("*.zarr",), "memory://out")


def watched(uri: str, target: str = "memory://out", **given: str) -> Inbox:
    names = Names(NAMES.include, NAMES.exclude, NAMES.folders, target)
    return Inbox(uri, names, lambda place: f"work for {place}", **given)


@pytest.fixture(params=["memory", "local"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, memory_filesystem: MemoryFileSystem
) -> str:
    """A prefix in a bucket, and one on disk."""
    return "memory://in/scans" if request.param == "memory" else str(tmp_path / "in")


def put(uri: str, data: bytes = b"samples") -> None:
    filesystem, path = fsspec.url_to_fs(uri)
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(path, data)


def paths(watched_place: Inbox) -> list[str]:
    return [upload.path for upload in inbox.find_uploads(watched_place)]


def test_uploads_are_found_by_name(place: str) -> None:
    """In any folder; what is excluded, another kind of file or our own is none."""
    for name in (
        "b.tif",
        "mouse/a.tif",
        "mouse/notes.txt",
        "scratch/c.tif",
        "d.tmp.tif",
        ".ngff-flows/state.json",
        "e.tif.123.partial",
    ):
        put(f"{place}/{name}")
    found = inbox.find_uploads(watched(place))
    assert [upload.path for upload in found] == ["b.tif", "mouse/a.tif"]
    assert found[0].uri == f"{place}/b.tif"
    assert found[1].target == "memory://out/mouse/a.ome.zarr"
    assert found[1].work == "work for memory://out/mouse/a.ome.zarr"


def test_prefix_that_is_not_there_yet_is_empty(place: str) -> None:
    assert paths(watched(place)) == []


def test_folder_is_one_upload(place: str) -> None:
    """A zarr and all below it is one; names in it are no uploads of their own."""
    put(f"{place}/x.zarr/zarr.json")
    put(f"{place}/x.zarr/c/0/0")
    put(f"{place}/x.zarr/inner.tif")
    (upload,) = inbox.find_uploads(watched(place))
    assert upload.path == "x.zarr"
    assert upload.lacks == ""
    assert not upload.complete


def test_folder_without_metadata_lacks_them(place: str) -> None:
    put(f"{place}/x.zarr/c/0/0")
    (upload,) = inbox.find_uploads(watched(place))
    assert upload.lacks == "none of zarr.json, .zattrs, .zgroup, .zarray is there"


def change_size(uri: str) -> None:
    put(uri, b"more samples")


def touch_again(uri: str) -> None:
    put(uri)
    if "://" not in uri:
        os.utime(uri, (1, 1))


@pytest.mark.parametrize("change", [change_size, touch_again])
@pytest.mark.parametrize("name", ["a.tif", "x.zarr/c/0/0"])
def test_every_change_makes_a_version(place: str, name: str, change: Callable[[str], None]) -> None:
    """Also one of the same size, and one deep in a folder; a second look makes none."""
    put(f"{place}/x.zarr/zarr.json")
    put(f"{place}/a.tif")
    put(f"{place}/{name}")

    def version() -> str:
        found = {u.path: u.version for u in inbox.find_uploads(watched(place))}
        return found[name.partition("/")[0]]

    before = version()
    assert version() == before
    change(f"{place}/{name}")
    assert version() != before


def test_marker_makes_a_folder_complete(place: str) -> None:
    """Where a marker is configured it alone says whether, and which version."""
    marked = watched(place, marker="_SUCCESS")
    put(f"{place}/x.zarr/zarr.json")
    (upload,) = inbox.find_uploads(marked)
    assert upload.lacks == "_SUCCESS is not there yet"
    put(f"{place}/x.zarr/_SUCCESS")
    (first,) = inbox.find_uploads(marked)
    assert first.complete
    put(f"{place}/x.zarr/c/0/0")
    (second,) = inbox.find_uploads(marked)
    assert second.version == first.version


def test_pyramids_in_the_same_place_are_no_uploads(place: str) -> None:
    """Neither below the target's folder, nor beside uploads with a plan next to them."""
    put(f"{place}/a.tif")
    put(f"{place}/out/a.ome.zarr/zarr.json")
    put(f"{place}/old.ome.zarr/zarr.json")
    put(f"{place}/old.ome.zarr.build/plan.json")
    assert paths(watched(place, f"{place}/out/{{name}}.ome.zarr")) == ["a.tif"]
    assert paths(watched(place, f"{place}/out")) == ["a.tif"]
    assert paths(watched(place, place)) == ["a.tif", "out/a.ome.zarr"]


def test_one_upload_is_found_by_itself_or_a_part_of_it(place: str) -> None:
    """A notification names an object; the upload may be the folder around it."""
    put(f"{place}/deep/a.tif")
    put(f"{place}/deep/x.zarr/zarr.json")
    put(f"{place}/deep/notes.txt")
    put(f"{place}/scratch/b.tif")
    one = watched(place)

    def found(name: str) -> list[str]:
        return [upload.path for upload in inbox.find_upload(one, f"{place}/{name}")]

    assert found("deep/a.tif") == ["deep/a.tif"]
    assert found("deep/x.zarr/zarr.json") == ["deep/x.zarr"]
    for none in ("deep/notes.txt", "scratch/b.tif", "deep/gone.tif", "deep", ""):
        assert found(none) == []
    (listed,) = inbox.find_uploads(watched(place, marker=None))[:1]
    assert inbox.find_upload(one, listed.uri) == (listed,)


def test_prefix_holds_what_is_below_it(place: str) -> None:
    assert watched(place).holds(f"{place}/a.tif")
    assert not watched(place).holds(f"{place}2/a.tif")


def test_records_come_back_as_they_were_saved(place: str) -> None:
    revision = Revision("1", "w")
    kept = {
        "a": Record(revision, 3.5, attempt=2, phase="done"),
        "b": Record(revision, 0, gone=7),
        "c": Record(revision, 0, attempt=3, forgiven=2, phase="parked", replaces=True),
    }
    assert inbox.load_records(watched(place)) == {}
    inbox.save_records(watched(place), kept)
    assert inbox.load_records(watched(place)) == kept
    assert paths(watched(place)) == []


def test_records_of_a_later_software_are_read(place: str) -> None:
    values = {"version": "1", "work": "w", "since": 2, "colour": "blue"}
    put(f"{place}/.ngff-flows/state.json", json.dumps({"uploads": {"a": values}}).encode())
    assert inbox.load_records(watched(place)) == {"a": Record(Revision("1", "w"), 2)}


@pytest.mark.parametrize("torn", [b"{", b"[]", b'{"uploads": {"a": {}}}', b'{"uploads": 3}'])
def test_state_that_cannot_be_read_says_what_to_do(place: str, torn: bytes) -> None:
    put(f"{place}/.ngff-flows/state.json", torn)
    with pytest.raises(StoredDataError, match=r"state\.json cannot be read .* remove it"):
        inbox.load_records(watched(place))


def test_parked_upload_can_be_seen_and_released(place: str) -> None:
    """Its object gives the reason; removing the object releases the upload."""
    upload = Upload(f"{place}/a.tif", "a.tif", "memory://out/a.ome.zarr", "7")
    decision = Decision(upload, "park", "it broke", Job(upload.uri, "7", "", 3), run="run-3")
    where = inbox.park(watched(place), decision, now=0)
    assert where.startswith(f"{place}/.ngff-flows/parked/a.tif.")
    (told,) = inbox.find_parked(watched(place)).values()
    assert (told["uri"], told["reason"], told["attempt"]) == (upload.uri, "it broke", 3)
    assert told["parked"] == "1970-01-01T00:00:00+00:00"
    inbox.unpark(watched(place), upload.uri)
    assert inbox.find_parked(watched(place)) == {}


def test_parked_object_of_another_version_is_stale() -> None:
    upload = Upload("memory://in/a.tif", "a.tif", "memory://out/a", "2")
    parked = {upload.uri: {"version": "1"}, "memory://in/b.tif": {"version": "1"}}
    assert inbox.stale_parked(Seen((upload,), 0), parked) == [upload.uri]


def test_parked_object_that_says_nothing_is_an_error(place: str) -> None:
    put(f"{place}/.ngff-flows/parked/a.json", b"{}")
    with pytest.raises(StoredDataError, match=r"a\.json does not name .* remove it"):
        inbox.find_parked(watched(place))


def test_state_may_lie_elsewhere(place: str) -> None:
    """Where uploads' buckets are read-only; below the prefix it is no upload."""
    elsewhere = watched(place, state=f"{place}/kept")
    inbox.save_records(elsewhere, {})
    put(f"{place}/kept/x.tif")
    put(f"{place}/a.tif")
    assert paths(elsewhere) == ["a.tif"]


@pytest.mark.usefixtures("memory_filesystem")
@pytest.mark.parametrize("uri", ["memory://bucket", "memory://bucket/"])
def test_entire_bucket_may_be_watched(uri: str) -> None:
    put("memory://bucket/a.tif")
    (upload,) = inbox.find_uploads(watched(uri))
    assert upload.uri == "memory://bucket/a.tif"
    assert inbox.find_upload(watched(uri), upload.uri) == (upload,)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        (ObjectInfo(17, "generation:1700", modified=3.0), "generation:1700"),
        (ObjectInfo(17, 'ETag:"6ef9@-2"', modified=1796056394.0), "6ef9-2+1796056394.000000+17"),
        (ObjectInfo(17, "etag:6ef9"), "6ef9+17"),
        (ObjectInfo(17, "mtime:1000000000", modified=1.5), "1.500000+17"),
        (ObjectInfo(17, "unknown"), "None+17"),
    ],
)
def test_version_of_an_upload_is_spelled_as_in_stored_states(
    info: ObjectInfo, version: str
) -> None:
    """Another spelling would make every upload of ``state.json`` look changed."""
    assert inbox._version(info) == version


def joined(place: str) -> Inbox:
    names = Names(("p*_z{z}_c{c}.tif",), (), (), "memory://out")
    return Inbox(place, names, work=lambda target: f"work of {target}")


def test_files_of_one_image_are_one_upload(place: str) -> None:
    """By the pattern of the rule; its source is the pattern, its target the rest of the name."""
    for z in (1, 2):
        for c in "ab":
            put(f"{place}/run/pA_z{z}_c{c}.tif")
    put(f"{place}/run/other.tif")
    (upload,) = inbox.find_uploads(joined(place))
    assert upload.path == "run/pA_z{z}_c{c}.tif"
    assert upload.uri == f"{joined(place).store.uri}/{upload.path}"
    assert upload.target == "memory://out/run/pA.ome.zarr"
    assert (upload.lacks, upload.complete) == ("", False)
    put(f"{place}/run/pA_z1_ca.tif", b"other samples")
    assert inbox.find_uploads(joined(place))[0].version != upload.version


def test_files_wait_for_those_that_are_missing(place: str) -> None:
    """And the reason names them; a notification of one finds the whole."""
    for name in ("pA_z1_ca.tif", "pA_z2_ca.tif", "pA_z1_cb.tif", "pB_z1_ca.tif"):
        put(f"{place}/{name}")
    first, second = inbox.find_uploads(joined(place))
    assert "1 of 4 files are missing: c=b, z=2" in first.lacks
    assert (second.path, second.lacks) == ("pB_z{z}_c{c}.tif", "")
    (found,) = inbox.find_upload(joined(place), f"{place}/pA_z2_ca.tif")
    assert found == first


@pytest.mark.usefixtures("memory_filesystem")
def test_names_that_lead_out_of_the_folder_are_refused() -> None:
    """In a bucket a name may have any parts; none of them decides where a pyramid goes."""
    for name in ("a/../../../etc/x.tif", "../y.tif", "a//z.tif", "ok.tif"):
        MemoryFileSystem.store[f"/in/scans/{name}"] = MemoryFile(None, name, b"samples")
    found = {upload.path: upload for upload in inbox.find_uploads(watched("memory://in/scans"))}
    assert found["ok.tif"].refused == ""
    hostile = [upload for path, upload in found.items() if path != "ok.tif"]
    assert hostile
    for upload in hostile:
        assert "is refused" in upload.refused
        assert upload.target == ""


def test_a_link_out_of_an_uploaded_folder_is_refused(tmp_path: Path) -> None:
    """It may name any file that the service can read; a link inside the folder is none of that."""
    root = tmp_path / "in"
    put(f"{root}/x.zarr/zarr.json")
    put(f"{root}/x.zarr/c/0")
    (root / "x.zarr/c/1").symlink_to(root / "x.zarr/c/0")
    (upload,) = inbox.find_uploads(watched(str(root)))
    assert upload.refused == ""
    put(f"{tmp_path}/secret")
    (root / "x.zarr/c/2").symlink_to(tmp_path / "secret")
    (upload,) = inbox.find_uploads(watched(str(root)))
    assert "the link c/2 in it leads out of it" in upload.refused
