"""Buckets whose service answers in every way that matters, without any network."""

from __future__ import annotations

from typing import Any

import pytest

from ngff_core.errors import TransientError, UnlistableError
from ngff_core.storage import Bucket, bucket
from ngff_core.storage.base import Entry
from ngff_core.storage.checksums import google_crc32c
from tests.core.storage.conftest import Pauses
from tests.core.storage.failures import caused_by, google_error, s3_error
from tests.core.storage.service import Service, info, opened, refused

# where things are


def test_keys_are_below_the_root() -> None:
    store, service = opened(cat_file=b"x")
    store.read("key")
    store.read("")
    store.child("b").read("key")
    store.sibling(".build").read("key")
    assert [path for _, path in service.calls] == [
        "lab/a/key",
        "lab/a",
        "lab/a/b/key",
        "lab/a.build/key",
    ]
    assert store.uri == "gs://lab/a"
    assert store.child("b").uri == "gs://lab/a/b"
    assert store.sibling(".build").uri == "gs://lab/a.build"


@pytest.mark.parametrize(("protocol", "options"), [("s3", {"max_concurrency": 1}), ("gs", {})])
def test_an_object_is_read_in_one_request(protocol: str, options: dict[str, Any]) -> None:
    """s3fs would ask for the size first."""
    store, service = opened(protocol, cat_file=b"x")
    store.read("key")
    store.read_part("key", 5, 2)
    assert service.options == [options, {**options, "start": 5, "end": 7}]


# errors


@pytest.mark.parametrize(
    ("error", "expected", "kind"),
    [
        (google_error(503), TransientError, "503"),
        (caused_by(OSError("Slow down"), s3_error(503)), TransientError, "503"),
        (OSError("Forbidden: x\nmore"), PermissionError, "OSError (Forbidden: x)"),
        (google_error(403), PermissionError, "403"),
        (caused_by(PermissionError(""), s3_error(403)), PermissionError, "403"),
    ],
    ids=["gs", "s3", "gcsfs 403", "gs 403", "s3 403"],
)
def test_an_error_names_the_object_and_what_was_not_done(
    error: Exception, expected: type[Exception], kind: str
) -> None:
    """The client's own error is its cause."""
    where = "gs://lab/a/key could not be"
    for method, call, done in (
        ("pipe_file", lambda store: store.write("key", b"x"), "written"),
        ("pipe_file", lambda store: store.create("key", b"x"), "created"),
        ("cat_file", lambda store: store.read("key"), "read"),
        ("rm_file", lambda store: store.delete("key"), "deleted"),
        ("info", lambda store: store.info("key"), "looked up"),
        ("info", lambda store: store.entry("key"), "looked up"),
    ):
        store, _ = opened(**{method: error})
        if method == "rm_file":
            store, _ = opened(rm_file=error, info=info())
        with pytest.raises(expected) as caught:
            call(store)
        text = str(caught.value)
        assert text.startswith(f"{where} {done}: {kind}"), text
        assert "\n" not in text
        assert caught.value.__cause__ is error
    store, _ = opened(exists=error)
    with pytest.raises(expected, match=r"^gs://lab/a could not be looked up"):
        store.is_empty()


def test_errors_that_need_no_name_pass_as_they_are() -> None:
    for error in (ValueError("other"), TransientError("ours"), KeyError("key")):
        store, _ = opened(cat_file=error, pipe_file=error)
        with pytest.raises(type(error)) as caught:
            store.write("key", b"")
        assert caught.value is error
        with pytest.raises(type(error)):
            store.read_part("key", 0, 1)


@pytest.mark.parametrize("error", [FileNotFoundError(), IsADirectoryError()], ids=repr)
def test_an_absent_object_reads_as_none(error: Exception) -> None:
    store, service = opened(cat_file=error, info=FileNotFoundError())
    assert store.read("key") is None
    assert store.read_part("key", 0, 1) is None
    assert store.info("key") is None
    assert store.entry("key") is None
    assert service.count("ls") == 0


@pytest.mark.parametrize(
    "error",
    [google_error(416), s3_error(416), caused_by(OSError(), s3_error(416))],
    ids=["gs", "s3", "s3fs"],
)
def test_a_range_beyond_the_end_is_empty(error: Exception) -> None:
    store, _ = opened(cat_file=error)
    assert store.read_part("key", 100, 1) == b""
    with pytest.raises(type(error)):
        store.read("key")


# refusals that may mean absence


def test_a_refusal_is_one_where_listing_is_allowed() -> None:
    """The store lists, so an absent object would be a 404. It is asked for that once."""
    store, service = opened(cat_file=refused(), info=refused(), rm_file=refused(), ls=[[]])
    for call in (store.read, store.info, store.delete, store.entry):
        with pytest.raises(PermissionError):
            call("key")
    with pytest.raises(PermissionError):
        store.read_part("key", 0, 1)
    assert service.count("ls") == 1


def test_a_refusal_may_be_an_absence_where_listing_is_refused() -> None:
    """S3 and Google answer this way; a listing is tried once, and never again."""
    store, service = opened(
        cat_file=refused(), info=refused(), rm_file=refused(), exists=refused(), ls=refused()
    )
    assert store.read("key") is None
    assert store.read_part("key", 0, 1) is None
    assert store.info("key") is None
    assert store.entry("key") is None
    assert store.is_empty()
    store.delete("key")
    assert service.count("ls") == 1
    with pytest.raises(UnlistableError, match="gs://lab/a/b cannot be listed"):
        store.objects("b")
    with pytest.raises(UnlistableError, match="gs://lab/a cannot be listed"):
        store.folder()
    assert service.count("ls") == 1
    assert service.count("find") == 0


def test_a_refused_deletion_of_what_exists_is_one() -> None:
    store, _ = opened(rm_file=refused(), info=info(), ls=refused())
    with pytest.raises(PermissionError):
        store.delete("key")


def test_a_store_that_does_not_list_is_not_empty_with_a_zarr_document() -> None:
    """Looked for by name, each of them."""
    for name in ("", *bucket.DOCUMENTS):
        path = f"lab/a/{name}" if name else "lab/a"
        store, service = opened(exists=refused(), ls=refused())

        def info_at(key: str, path: str = path) -> Any:
            if key == path:
                return info()
            raise FileNotFoundError(key)

        service.info = info_at  # type: ignore[attr-defined]
        assert not store.is_empty(), name


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_caller_that_is_not_known_learns_nothing(code: str) -> None:
    """Its refusals are no absence, and no reason to believe that the store cannot list."""
    error = caused_by(PermissionError(), s3_error(403, code))
    store, service = opened("s3", cat_file=error, ls=error, find=error, exists=error)
    for call in (lambda: store.read("key"), store.objects, store.folder, store.is_empty):
        with pytest.raises(PermissionError) as caught:
            call()
        assert not isinstance(caught.value, UnlistableError)
    assert (service.count("ls"), service.count("find")) == (1, 1)


def test_the_web_lists_nothing_and_is_not_asked() -> None:
    store, service = opened(("http", "https"), cat_file=refused())
    with pytest.raises(UnlistableError, match="cannot be listed"):
        store.objects()
    assert store.read("key") is None
    assert service.calls == [("cat_file", "lab/a/key")]


def test_a_filesystem_without_listing_is_unlistable() -> None:
    store, _ = opened("ftp", find=NotImplementedError())
    with pytest.raises(UnlistableError, match="gs://lab/a/b cannot be listed"):
        store.objects("b")
    store, _ = opened("ftp", find=NotImplementedError("not here"))
    with pytest.raises(UnlistableError, match="not here"):
        store.objects("b")


def test_an_outage_does_not_make_a_store_unlistable() -> None:
    store, _ = opened(find=[google_error(503), {}], ls=[google_error(503), []])
    with pytest.raises(TransientError, match="gs://lab/a/b could not be listed: 503"):
        store.objects("b")
    with pytest.raises(TransientError):
        store.folder()
    assert store.objects() == {}
    assert store.folder() == {}


# listings


def test_objects_are_listed_below_the_root() -> None:
    """In order; fsspec's walk, where it is used, must not leave out what it may not list."""
    listing = {"lab/a/b/2": info(2), "lab/a/b/1": info(1)}
    for protocol in ("gs", "s3"):
        store, service = opened(protocol, find=listing)
        assert [(key, found.size) for key, found in store.objects("b").items()] == [
            ("b/1", 1),
            ("b/2", 2),
        ]
        assert service.calls == [("find", "lab/a/b")]
        assert service.options == [{"detail": True}]
    store, service = opened("ftp", find={"/lab/a/1": info()})
    assert list(store.objects()) == ["1"]
    on_error = service.options[0]["on_error"]
    on_error(FileNotFoundError())
    on_error(NotADirectoryError())
    with pytest.raises(PermissionError):
        on_error(PermissionError())


def test_a_folder_is_listed_by_name() -> None:
    """Without the empty object that some consoles put where they make a folder."""
    listing = [
        info(name="lab/a/b/z"),
        info(kind="directory", name="lab/a/b/c/"),
        info(0, name="lab/a/b/"),
    ]
    store, service = opened(ls=[listing])
    assert store.folder("b") == {"c": Entry.of_folder(), "z": Entry(3, "generation:7")}
    assert list(store.folder("b")) == ["c", "z"]
    assert service.calls[0] == ("ls", "lab/a/b")
    for error in (FileNotFoundError(), NotADirectoryError()):
        assert opened(ls=error)[0].folder() == {}


def test_listings_and_look_ups_are_never_from_a_cache() -> None:
    """Other processes write to the same prefix."""
    events: list[str] = []

    class Watched(Service):
        def __getattr__(self, method: str) -> Any:
            events.append(method)
            return super().__getattr__(method)

    store = Bucket(Watched("gs", {"info": [info()], "ls": [[]], "find": [{}]}), "a", "gs://a")
    for call in (store.objects, store.folder, store.is_empty):
        call()
        assert events[0] == "invalidate_cache"
        events.clear()
    for look_up in (store.info, store.entry):
        look_up("key")
        assert events[0] == "invalidate_cache"
        events.clear()


def test_a_folder_has_an_entry_and_no_info() -> None:
    store, _ = opened(info=info(0, "directory"))
    assert store.info("key") is None
    assert store.entry("key") == Entry.of_folder()
    store, _ = opened(info=info())
    assert store.entry("key") == Entry(3, "generation:7")
    found = store.info("key")
    assert found is not None
    assert (found.size, found.version) == (3, "generation:7")


def test_a_tree_is_deleted_in_bulk(pauses: Pauses) -> None:
    """Except names that a filesystem would expand: ``*`` would delete its neighbours."""
    names = ["1", "a*", "b?", "c[1", "d]", "2"]
    store, service = opened(find={f"lab/a/{name}": info() for name in names})
    store.delete_tree()
    assert ("rm", ["lab/a/1", "lab/a/2"]) in service.calls
    one_by_one = [path for method, path in service.calls if method == "rm_file"]
    assert one_by_one == ["lab/a/a*", "lab/a/b?", "lab/a/c[1", "lab/a/d]"]


def test_a_tree_that_another_process_deletes_too_is_no_error() -> None:
    listing = {"lab/a/1": info(), "lab/a/b?": info()}
    store, service = opened(find=listing, rm=FileNotFoundError(), rm_file=FileNotFoundError())
    store.delete_tree("b")
    assert service.count("rm_file") == 1
    store, service = opened(find={})
    store.delete_tree()
    assert service.calls == [("find", "lab/a")]
    store, _ = opened(find=listing, rm=google_error(503))
    with pytest.raises(TransientError, match="gs://lab/a/b could not be deleted: 503"):
        store.delete_tree("b")


# writes


def test_bytes_that_arrive_damaged_are_an_error_that_may_pass() -> None:
    """By the reply, or by asking Google where the reply says nothing."""
    good, bad = {"crc32c": google_crc32c(b"x")}, {"crc32c": google_crc32c(b"y")}
    store, service = opened(pipe_file=[good, bad])
    store.write("key", b"x")
    with pytest.raises(TransientError, match="gs://lab/a/key was damaged"):
        store.write("key", b"x")
    assert service.count("info") == 0
    store, service = opened(pipe_file="where it went", info=[good, bad])
    store.write("key", b"x")
    with pytest.raises(TransientError, match="damaged"):
        store.write("key", b"x")
    assert service.count("info") == 2
    store, _ = opened("s3", pipe_file={"ETag": "0" * 32})
    with pytest.raises(TransientError, match="damaged"):
        store.write("key", b"x")
    for protocol, reply in (("s3", None), ("memory", {"ETag": "0" * 32})):
        store, _ = opened(protocol, pipe_file=reply)
        store.write("key", b"x")


def test_a_created_object_that_arrived_damaged_is_written_again(pauses: Pauses) -> None:
    """Another create would only find it; the write is retried."""
    good, bad = {"crc32c": google_crc32c(b"x")}, {"crc32c": google_crc32c(b"y")}
    store, service = opened(pipe_file=[bad, bad, good])
    assert store.create("key", b"x")
    assert [options.get("mode") for options in service.options] == ["create", None, None]
    assert len(pauses.taken) == 1


@pytest.mark.parametrize(("stored", "ours"), [(b"x", True), (b"other", False)])
def test_a_create_that_finds_its_own_bytes_has_created_them(stored: bytes, ours: bool) -> None:
    """The reply to the first attempt was lost, and a retry found the object."""
    store, _ = opened(pipe_file=FileExistsError(), cat_file=stored)
    assert store.create("key", b"x") is ours


def test_an_object_that_exists_and_may_not_be_read_is_a_refusal() -> None:
    """Even where listing is refused: it is there."""
    store, _ = opened(pipe_file=FileExistsError(), cat_file=refused(), ls=refused())
    with pytest.raises(PermissionError):
        store.create("key", b"x")


def test_only_the_memory_filesystem_needs_a_lock_to_create() -> None:
    """It checks and writes in two steps; services decide in one request."""
    held: list[bool] = []

    class Watched(Service):
        def pipe_file(self, *_: Any, **__: Any) -> None:
            taken = bucket._create_in_memory.acquire(blocking=False)
            held.append(not taken)
            if taken:
                bucket._create_in_memory.release()

    for protocol in ("memory", "s3"):
        Bucket(Watched(protocol), "a", "memory://a").create("key", b"")
    assert held == [True, False]
