"""What ``overwrite=True`` may remove: zarr hierarchies, and never a folder of other files.

The same promise holds for ``to_ngff_zarr``, ``build_pyramid`` and the cache of the lazy API.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ngff_core import (
    BuildOptions,
    Methods,
    build_pyramid,
    check_build,
    config,
    from_ngff_zarr,
    to_multiscales,
    to_ngff_zarr,
)
from ngff_core.errors import TargetExistsError
from ngff_core.lazy.image_cache import remove_stale_caches
from ngff_core.storage import LocalFiles, ObjectStore, open_store
from tests.support.folders import files

BIN = Methods.ITKWASM_BIN_SHRINK
SAMPLES = np.random.default_rng(0).integers(0, 60000, (96, 100)).astype("u2")


def write_lazily(target: Any) -> None:
    """By default it overwrites."""
    to_ngff_zarr(target, to_multiscales(SAMPLES, [2], BIN, chunks=32))


def build(target: Any) -> None:
    options: dict[str, Any] = {"scale_factors": [2], "method": BIN, "chunks": 32}
    build_pyramid(SAMPLES, target, overwrite=True, **options)


REPLACERS = {"to_ngff_zarr": write_lazily, "build_pyramid": build}


@pytest.fixture(params=REPLACERS)
def replace(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Each way to write a pyramid over what is at a target."""
    return REPLACERS[request.param]


def check_written(target: Any) -> None:
    np.testing.assert_array_equal(from_ngff_zarr(target).images[0].data.compute(), SAMPLES)


def test_a_folder_of_other_files_is_never_emptied(
    store: ObjectStore, replace: Callable[[Any], None]
) -> None:
    """My thesis lies there: the error names it, and nothing is written, not even beside it."""
    store.write("thesis/chapter1.txt", b"four years of work")
    with pytest.raises(TargetExistsError, match=r"thesis/.*choose another target"):
        replace(store.uri)
    assert [*store.objects()] == ["thesis/chapter1.txt"]
    assert open_store(f"{store.uri}.build").is_empty()


def test_a_file_is_never_replaced(tmp_path: Path, replace: Callable[[Any], None]) -> None:
    """I gave the scan as the target by mistake."""
    (tmp_path / "scan.tif").write_bytes(b"samples")
    with pytest.raises(TargetExistsError, match="a file of 7 bytes"):
        replace(tmp_path / "scan.tif")
    assert files(tmp_path) == {"scan.tif": b"samples"}


def test_a_zarr_group_of_mine_is_replaced(
    store: ObjectStore, replace: Callable[[Any], None]
) -> None:
    """Whatever wrote it, nothing of it is left."""
    group = zarr.open_group(store.zarr(read_only=False), mode="w")
    group.create_array("old", data=np.zeros((8, 8)))
    replace(store.uri)
    check_written(store.uri)
    assert not any(key.startswith("old") for key in store.objects())


@pytest.mark.parametrize("again", REPLACERS)
@pytest.mark.parametrize("first", ["my group", *REPLACERS])
def test_a_killed_replacement_can_be_continued(
    tmp_path: Path,
    replace: Callable[[Any], None],
    first: str,
    again: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when the root document is gone and the rest is not: either command works again."""
    target = tmp_path / "a.ome.zarr"
    if first == "my group":
        zarr.save_group(str(target), old=np.zeros((8, 8)))
    else:
        REPLACERS[first](target)
        # another plan, else building it would be nothing to do
        plan = tmp_path / "a.ome.zarr.build/plan.json"
        if plan.exists():
            plan.write_bytes(b"{}")
    delete_tree = LocalFiles.delete_tree

    def killed(self: LocalFiles, prefix: str = "") -> None:
        if self.root == target:
            raise KeyboardInterrupt
        delete_tree(self, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "delete_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            replace(target)
    assert not (target / "zarr.json").exists()
    assert any(target.iterdir())
    REPLACERS[again](target)
    check_written(target)
    assert not (tmp_path / "a.ome.zarr.build/replacing.json").exists()


class Torn(dict[str, bytes]):
    """A mapping that fails at one key, once."""

    torn = True

    def __setitem__(self, key: str, value: bytes) -> None:
        if key.startswith("scale1/image/c/") and self.torn:
            self.torn = False
            raise RuntimeError("torn")
        super().__setitem__(key, value)


def test_a_killed_write_into_a_mapping_can_be_repeated() -> None:
    """And leaves nothing but the image."""
    store = Torn()
    with pytest.raises(RuntimeError, match="torn"):
        write_lazily(store)
    assert "zarr.json" not in store
    write_lazily(store)
    plain: dict[str, bytes] = {}
    write_lazily(plain)
    assert dict(store) == plain


def test_a_killed_first_write_can_be_repeated(tmp_path: Path) -> None:
    """There was nothing before it, and its own chunks are no reason to refuse."""
    target, broken = tmp_path / "a.ome.zarr", to_multiscales(SAMPLES, [2], BIN, chunks=32)

    def failing(block: Any) -> Any:
        raise RuntimeError("torn")

    broken.images[0].data = broken.images[0].data.map_blocks(failing, dtype="u2")
    with pytest.raises(RuntimeError, match="torn"):
        to_ngff_zarr(target, broken)
    assert any(target.iterdir())
    write_lazily(target)
    check_written(target)
    assert not (tmp_path / "a.ome.zarr.build").exists()


def test_records_of_a_removed_pyramid_do_not_count_for_a_new_one(tmp_path: Path) -> None:
    """I removed the pyramid and kept its build folder: other samples are not its regions."""
    target, white = tmp_path / "a.ome.zarr", np.full_like(SAMPLES, 255)
    build(target)
    LocalFiles(target).delete_tree()
    to_ngff_zarr(target, to_multiscales(white, [2], BIN, chunks=32))
    with pytest.raises(TargetExistsError):
        build_pyramid(SAMPLES, target, scale_factors=[2], method=BIN, chunks=32)


def test_another_programs_build_folder_is_left_alone(
    tmp_path: Path, replace: Callable[[Any], None]
) -> None:
    """CMake's, for a library that is called like the image."""
    (tmp_path / "a.build").mkdir()
    (tmp_path / "a.build/app.o").write_bytes(b"code")
    zarr.save_group(str(tmp_path / "a"), old=np.zeros((8, 8)))
    replace(tmp_path / "a")
    check_written(tmp_path / "a")
    assert (tmp_path / "a.build/app.o").read_bytes() == b"code"


def test_a_check_refuses_what_the_build_would_refuse(tmp_path: Path) -> None:
    """Before anything is started for it."""
    (tmp_path / "notes.txt").write_text("four years of work")
    with pytest.raises(TargetExistsError, match=r"notes\.txt"):
        check_build(SAMPLES, tmp_path, BuildOptions(overwrite=True))


def test_removing_old_caches_leaves_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with the name of an old cache, and not its content; and one killed half-way."""
    monkeypatch.setattr(config, "cache_store", tmp_path)
    mine, halfway = (tmp_path / f"ngff-flows-cache-1-host-{pid}-aa" for pid in (2, 3))
    (mine / "thesis").mkdir(parents=True)
    (mine / "thesis/chapter1.txt").write_text("four years of work")
    (halfway / "c/0").mkdir(parents=True)
    remove_stale_caches(tmp_path)
    assert [*files(tmp_path)] == [f"{mine.name}/thesis/chapter1.txt"]
    assert not halfway.exists()
