"""Repair: damage is repaired to the byte, and what cannot be repaired is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core import build_pyramid, build_status, repair_pyramid, verify_pyramid
from ngff_core.errors import StoredDataError, TargetNotFoundError
from ngff_core.pyramid.inventory import Finding
from tests.support.folders import dated_contents, files

Damage = Callable[[Path], None]


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source and its pyramid of three levels, several objects each."""
    folder = tmp_path_factory.mktemp("built")
    samples = np.random.default_rng(0).integers(0, 1000, (40, 96, 80), "u2")
    np.save(folder / "image.npy", samples)
    build_pyramid(
        folder / "image.npy",
        folder / "image.ome.zarr",
        method="itkwasm_gaussian",
        scale_factors=[2, 4],
        chunks=16,
        shards=32 if request.param == "0.5" else None,
        ome_zarr_version=request.param,
    )
    return folder


@pytest.fixture
def whole(built: Path) -> dict[str, bytes]:
    """Every file of the undamaged pyramid."""
    return files(built / "image.ome.zarr")


@pytest.fixture
def target(built: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged; the source is the same one."""
    for name in ("image.ome.zarr", "image.ome.zarr.build"):
        shutil.copytree(built / name, tmp_path / name)
    return tmp_path / "image.ome.zarr"


@pytest.fixture
def source(built: Path, tmp_path: Path) -> Path:
    """The source, to be put back where a test spoils it."""
    return built / "image.npy"


def objects(target: Path, level: int) -> list[Path]:
    """The objects of a level, in order."""
    folder = target / f"{level}"
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.isdigit()]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("damage", [flip, truncate, remove])
def test_damage_is_repaired_to_the_byte(
    target: Path, whole: dict[str, bytes], level: int, damage: Damage
) -> None:
    """A flipped bit, a cut, a lost object, at each level: afterwards all bytes are as built,
    and no other object was written."""
    victim = objects(target, level)[-1]
    before = dated_contents(target)
    damage(victim)
    repair = repair_pyramid(target, workers=2)
    assert repair.ok
    [finding] = repair.repaired
    assert (target / finding.key) == victim
    assert files(target) == whole
    after = dated_contents(target)
    touched = {key for key, found in after.items() if found != before[key] and found[0] is not None}
    assert touched <= region_keys(target, finding)
    assert verify_pyramid(target, deep=True).ok


def region_keys(target: Path, finding: Finding) -> set[str]:
    """Keys of the objects of the region that a finding is about."""
    document = target.parent / f"{target.name}.build/ledger/{finding.level}/complete.jsonl"
    rows = [json.loads(line) for line in document.read_text().splitlines()[1:]]
    [row] = [row for row in rows if row["region"] == finding.region]
    return {f"{finding.level}/{key}" for key, *_ in row["objects"]}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 10**6), st.sampled_from([flip, truncate, remove])
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda victim: victim[:2],
    )
)
def test_any_damage_is_repaired_to_the_byte(
    built: Path, whole: dict[str, bytes], victims: list[tuple[int, int, Damage]]
) -> None:
    """Whatever objects are damaged, and in whatever way: all bytes are as built again."""
    with TemporaryDirectory() as folder:
        target = Path(folder, "image.ome.zarr")
        for name in (target.name, f"{target.name}.build"):
            shutil.copytree(built / name, Path(folder, name))
        found = {level: objects(target, level) for level in (0, 1, 2)}
        for path, damage in {
            found[level][i % len(found[level])]: damage for level, i, damage in victims
        }.items():
            damage(path)
        assert repair_pyramid(target, workers=2).ok
        assert files(target) == whole


def test_damage_at_several_levels_is_repaired_from_the_finest(
    target: Path, whole: dict[str, bytes]
) -> None:
    """A level is computed from its parent, which is repaired by then."""
    for level in (0, 1, 2):
        for victim in objects(target, level)[:2]:
            flip(victim)
    repair = repair_pyramid(target)
    assert repair.ok
    assert [finding.level for finding in repair.repaired] == sorted(
        finding.level for finding in repair.repaired if finding.level is not None
    )
    assert files(target) == whole


def test_given_findings_are_not_looked_for_again(target: Path, whole: dict[str, bytes]) -> None:
    """Only the findings of a verification are repaired; a flipped bit elsewhere is not noticed."""
    objects(target, 2)[0].unlink()
    flip(objects(target, 0)[-1])
    found = verify_pyramid(target)
    assert repair_pyramid(target, found.findings).repaired == found.findings
    assert files(target) != whole
    assert repair_pyramid(target).ok
    assert files(target) == whole


def test_nothing_is_written_where_nothing_is_wrong(target: Path) -> None:
    """Neither in the pyramid nor in its ledger."""
    before = dated_contents(target), files(target.parent / "image.ome.zarr.build/ledger")
    repair = repair_pyramid(target)
    assert repair.ok
    assert repair.repaired == ()
    assert (dated_contents(target), files(target.parent / "image.ome.zarr.build/ledger")) == before


@pytest.mark.parametrize("change", ["gone", "other samples", "other shape"])
def test_without_its_source_level_0_stays_damaged_and_the_others_are_repaired(
    target: Path, whole: dict[str, bytes], source: Path, change: str
) -> None:
    """What is computed from a level of ours needs no source; level 0 says what it lacks,
    and no byte of it is changed."""
    kept = source.read_bytes()
    spoiled, lost = objects(target, 0)[0], objects(target, 2)[-1]
    flip(spoiled)
    lost.unlink()
    damaged = spoiled.read_bytes()
    try:
        if change == "gone":
            source.unlink()
        else:
            shape = (40, 96, 80) if change == "other samples" else (40, 96, 81)
            np.save(source, np.full(shape, 7, "u2"))
        repair = repair_pyramid(target)
    finally:
        source.write_bytes(kept)
    assert not repair.ok
    [left] = repair.left
    assert left.finding.level == 0
    assert str(source) in left.why
    assert spoiled.read_bytes() == damaged
    assert lost.read_bytes() == whole[lost.relative_to(target).as_posix()]


def test_a_source_that_changed_elsewhere_will_do(
    target: Path, whole: dict[str, bytes], source: Path
) -> None:
    """The samples of the damaged region are proven, not the file's date."""
    kept = source.read_bytes()
    spoiled = objects(target, 0)[0]
    flip(spoiled)
    try:
        samples = np.load(source)
        samples[-1, -1, -1] += 1
        np.save(source, samples)
        repair = repair_pyramid(target)
    finally:
        source.write_bytes(kept)
    # The small level of 0.4 is one region, and then the change is within it.
    one_region = build_status(target).levels[0].total == 1
    assert repair.ok is not one_region
    assert (files(target) == whole) is not one_region


def test_documents_are_restored_and_what_was_there_is_kept(
    target: Path, whole: dict[str, bytes]
) -> None:
    """Metadata become the plan's again; an edited document is kept in the build folder."""
    name = ".zattrs" if (target / ".zattrs").exists() else "zarr.json"
    edited = json.dumps({**json.loads((target / name).read_bytes()), "note": "mine"})
    (target / name).write_text(edited)
    array = "1/.zarray" if name == ".zattrs" else "1/zarr.json"
    (target / array).unlink()
    flip(objects(target, 1)[0])
    assert repair_pyramid(target).ok
    assert {k: json.loads(v) for k, v in files(target).items() if k in (name, array)} == {
        k: json.loads(v) for k, v in whole.items() if k in (name, array)
    }
    assert (
        objects(target, 1)[0].read_bytes()
        == whole[objects(target, 1)[0].relative_to(target).as_posix()]
    )
    kept = target.parent / f"{target.name}.build/replaced/{name}"
    assert kept.read_text() == edited


def group_document(target: Path) -> Path:
    older = target / ".zattrs"
    return older if older.exists() else target / "zarr.json"


def test_how_channels_are_shown_is_not_repaired(target: Path) -> None:
    """It is the user's; a document that is damaged otherwise is restored with the windows kept."""
    path = group_document(target)
    whole = path.read_bytes()
    edited = whole.replace(b"FFFFFF", b"123456")
    path.write_bytes(edited)
    assert repair_pyramid(target).repaired == ()
    assert path.read_bytes() == edited != whole
    path.unlink()
    assert [finding.what for finding in repair_pyramid(target).repaired] == ["missing"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", ["absent", "damaged", "of another plan"])
def test_windows_that_are_lost_are_measured_again(target: Path, kept: str) -> None:
    """From the coarsest level, after its own damage is repaired."""
    path, windows = group_document(target), target.parent / f"{target.name}.build/windows.json"
    whole = path.read_bytes()
    path.write_text("{}")
    flip(objects(target, 1)[0])
    if kept == "absent":
        windows.unlink()
    elif kept == "damaged":
        windows.write_text(windows.read_text()[:-9])
    else:
        windows.write_text(json.dumps({**json.loads(windows.read_bytes()), "digest": "other"}))
    repair = repair_pyramid(target)
    assert repair.ok
    assert len(repair.repaired) == 2
    assert path.read_bytes() == whole


def test_strays_are_left_and_named(target: Path) -> None:
    """A repair deletes nothing that may be somebody's."""
    (target / "notes.txt").write_text("do not lose me")
    repair = repair_pyramid(target)
    assert not repair.ok
    [left] = repair.left
    assert left.finding == Finding("notes.txt", "not of this build")
    assert "remove it yourself if nobody needs it" in left.why
    assert (target / "notes.txt").exists()


def test_an_unfinished_build_is_refused(target: Path) -> None:
    """It is no damage that something was never built; the message says what to do."""
    shutil.rmtree(target.parent / f"{target.name}.build/ledger/1")
    with pytest.raises(StoredDataError, match="run the command that builds it again"):
        repair_pyramid(target)


def test_where_there_is_no_build_nothing_is_left_behind(tmp_path: Path) -> None:
    """A misspelt target makes no folder."""
    with pytest.raises(TargetNotFoundError):
        repair_pyramid(tmp_path / "missing.ome.zarr")
    assert list(tmp_path.iterdir()) == []
