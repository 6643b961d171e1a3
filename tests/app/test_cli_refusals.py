"""Bad input, bad targets and errors: one line, an exit status, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from ngff_flows.cli import main
from tests.support.command import SMALL, Command, assert_refused
from tests.support.folders import contents


def missing_source(folder: Path) -> tuple[object, ...]:
    return (folder / "nothing.tif",)


def text_file(folder: Path) -> tuple[object, ...]:
    (folder / "notes.txt").write_text("an image, I swear")
    return (folder / "notes.txt",)


def plain_folder(folder: Path) -> tuple[object, ...]:
    (folder / "photos").mkdir()
    return (folder / "photos",)


def truncated_tiff(folder: Path) -> tuple[object, ...]:
    tifffile.imwrite(folder / "cut.tif", np.arange(16384, dtype=np.uint16).reshape(128, 128))
    whole = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    return (folder / "cut.tif",)


def truncated_npy(folder: Path) -> tuple[object, ...]:
    np.save(folder / "cut.npy", np.zeros((64, 64)))
    whole = (folder / "cut.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-100])
    return (folder / "cut.npy",)


def empty_file(folder: Path) -> tuple[object, ...]:
    (folder / "empty.tif").touch()
    return (folder / "empty.tif",)


def empty_array(folder: Path) -> tuple[object, ...]:
    np.save(folder / "empty.npy", np.zeros((0, 64), np.uint8))
    return (folder / "empty.npy",)


def empty_zarr(folder: Path) -> tuple[object, ...]:
    zarr.create_array(folder / "empty.zarr", shape=(64, 0), dtype="u1", chunks=(64, 1))
    return (folder / "empty.zarr",)


def refused_dtype(folder: Path) -> tuple[object, ...]:
    np.save(folder / "waves.npy", np.zeros((64, 64), np.complex64))
    return folder / "waves.npy", "--scale-factors", "2,", "--method", "itkwasm_label_image"


def dates(folder: Path) -> tuple[object, ...]:
    np.save(folder / "dates.npy", np.zeros((64, 64), "M8[s]"))
    return (folder / "dates.npy",)


def image(*options: str) -> Callable[[Path], tuple[object, ...]]:
    return lambda folder: (folder / "image.npy", *options)


BAD_INPUT = {
    "no such source": (missing_source, "nothing.tif: nothing is stored there"),
    "text file": (text_file, "give a zarr array"),
    "folder of something else": (plain_folder, "a folder without zarr metadata"),
    "truncated TIFF": (truncated_tiff, "cut.tif"),
    "truncated npy": (truncated_npy, "cut.npy"),
    "empty file": (empty_file, "the file is empty"),
    "empty array": (empty_array, "has no samples"),
    "empty zarr array": (empty_zarr, "has no samples"),
    "dtype that the method refuses": (refused_dtype, "complex64 images: labels of this kind"),
    "dtype of no number": (dates, "are not numbers"),
    "unknown method": (
        image("--method", "mean"),
        "the methods are itkwasm_gaussian, itkwasm_bin_shrink, itkwasm_label_image",
    ),
    "factor of 0": (image("--scale-factors", "0,"), "0 is not positive"),
    "negative factor": (image("--scale-factors=-2"), "-2 is not positive"),
    "factors that do not grow": (image("--scale-factors", "4,2"), "factor 2 on "),
    "factor beyond the image": (image("--scale-factors", "128,"), "leaves nothing of its 64"),
    "factor on no axis": (image("--scale-factors", '[{"q": 2}]'), "'q' is not a spatial axis"),
    "factors of words": (image("--scale-factors", "two"), "nor JSON"),
    "factors of fractions": (image("--scale-factors", "[1.5]"), "1.5 is not a whole number"),
    "factors of broken JSON": (image("--scale-factors", "[2, 4"), "nor JSON"),
    "factors of nothing": (image("--scale-factors", ""), "nor JSON"),
    "factors with a gap": (image("--scale-factors", "2,,4"), "nor JSON"),
    "chunks of nothing": (image("--chunks", ""), "--chunks ''"),
    "chunk of 0": (image("--chunks", "0"), "0 on y is not positive"),
    "chunks for too many axes": (image("--chunks", "1,2,3,4"), "chunks"),
    "shards that chunks do not divide": (image("--chunks", "16", "--shards", "24"), "multiple"),
    "shards in 0.4": (image("--ome-zarr-version", "0.4", "--shards", "64"), "shards"),
    "unknown version": (image("--ome-zarr-version", "7"), "7"),
    "unknown compressor": (image("--compressor", "zip"), "'zip' is none of these"),
    "unknown use of the cache": (image("--cache", "maybe"), "auto, always, never"),
    "memory limit of no size": (image("--memory-limit", "plenty"), "such as 2GiB"),
    "memory limit below one region": (image("--memory-limit", "1MiB"), "1MiB is too little"),
}


@pytest.mark.usefixtures("no_run", "source")
@pytest.mark.parametrize("through", [(), ("--no-prefect",)], ids=["prefect", "no-prefect"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_at_once(
    run: Command, tmp_path: Path, target: Path, case: str, through: tuple[str, ...]
) -> None:
    """The caller's mistake is reported in a line or two, before anything is written: status 2."""
    make, words = BAD_INPUT[case]
    source, *options = make(tmp_path)
    before = contents(tmp_path)
    answer = run("build", source, target, *options, *through)
    assert_refused(answer, words)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("name", ["build", "plan"])
def test_target_with_other_data_is_not_touched(
    run: Command, tmp_path: Path, source: Path, target: Path, what: str, name: str
) -> None:
    """ngff-flows does not overwrite what it has not built."""
    if what == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("four years of work")
    else:
        target.write_text("four years of work")
    before = contents(tmp_path)
    assert_refused(run(name, source, target), "was not built by ngff-flows")
    assert contents(tmp_path) == before


def test_the_refusal_names_overwrite(run: Command, source: Path, target: Path) -> None:
    """With --overwrite the zarr group at the target goes, and the pyramid is there."""
    target.mkdir()
    (target / ".zgroup").write_text('{"zarr_format": 2}')
    (target / "old.txt").write_text("old")
    answer = run("build", source, target, "--no-prefect", "--overwrite", *SMALL)
    assert answer.status == 0
    assert not (target / "old.txt").exists()
    assert f"removing what is at {target}" in answer.err


def test_build_with_other_options_is_not_touched(
    run: Command, tmp_path: Path, source: Path, target: Path
) -> None:
    """Another build's plan at the target is refused, and the message says what differs."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(tmp_path)
    answer = run("build", source, target, "--method", "itkwasm_bin_shrink", *SMALL)
    assert_refused(answer, "method: itkwasm_gaussian there, itkwasm_bin_shrink now")
    assert contents(tmp_path) == before


def test_changed_source_is_not_mixed_in(
    run: Command, tmp_path: Path, source: Path, target: Path
) -> None:
    """A source that was replaced since is not built into the old one's pyramid."""
    run("build", source, target, "--no-prefect", *SMALL)
    np.save(source, np.ones((64, 64), np.uint8))
    before = contents(tmp_path)
    assert_refused(run("build", source, target, *SMALL), "has changed since")
    assert contents(tmp_path) == before


def test_source_and_target_must_be_apart(run: Command, tmp_path: Path, source: Path) -> None:
    """A pyramid inside its own source, or over it, is refused."""
    before = contents(tmp_path)
    assert_refused(run("build", source, source, "--overwrite"), "overlap")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("source_of", ["npy", "one strip of a tif"])
def test_memory_limit_names_the_need(
    run: Command, tmp_path: Path, target: Path, source_of: str
) -> None:
    """A limit below one region, or below one strip of the source, names what would do."""
    samples = np.zeros((4096, 4096), np.uint8)
    source = tmp_path / f"image.{source_of[-3:]}"
    if source_of == "npy":
        np.save(source, samples)
        given = ("plan", source, target)
    else:
        tifffile.imwrite(source, samples, compression="zlib", rowsperstrip=4096)
        given = ("plan", source, target, "--chunks", "64", "--shards", "64")
    answer = run(*given, "--memory-limit", "129MiB")
    assert_refused(answer, "129MiB is too little; one region of ")
    if source_of != "npy":
        assert "can only be decoded together" in answer.err
    need = answer.err.partition(" needs ")[2].partition("MiB")[0]
    assert run(*given, "--memory-limit", f"{need}MiB").status == 0
    assert run(*given, "--memory-limit", f"{int(need) - 1}MiB").status == 2


@pytest.mark.parametrize("name", ["status", "verify"])
def test_target_without_a_build_is_refused(run: Command, tmp_path: Path, name: str) -> None:
    """Status and verify of a target that was never built: the caller's mistake."""
    assert_refused(run(name, tmp_path / "typo.ome.zarr"), "has no build")
    assert contents(tmp_path) == {}


def test_damaged_plan_is_not_the_callers_mistake(run: Command, source: Path, target: Path) -> None:
    """Stored bytes that cannot be right end with status 1, and one line."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target.parent / "out.ome.zarr.build" / "plan.json").write_text("{")
    answer = run("status", target)
    assert answer.status == 1
    assert len(answer.err.splitlines()) == 1


def test_transient_error_says_to_run_the_command_again(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a network error the line says to run the same command again: status 1."""

    def refuse(*_: object) -> None:
        raise ConnectionResetError("peer went away")

    monkeypatch.setattr(main, "run_build", lambda *_, **__: refuse())
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert answer.err == "ngff-flows: peer went away; run the same command again to continue\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(13, "Permission denied", "/ward/out"),
            "/ward/out: Permission denied; change",
        ),
        (
            OSError(30, "Read-only file system", "/ward/out"),
            "/ward/out: Read-only file system; change",
        ),
        (NotADirectoryError(20, "Not a directory", "/ward/out"), "/ward/out: Not a directory; a"),
        (OSError(28, "No space left on device", "/ward/out"), "left on device; free some space"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_place_that_cannot_be_written_is_named(
    run: Command,
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    words: str,
) -> None:
    """An error of the system is one line with the path and what to do: status 1."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main, "run_build", refuse)
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


def test_unexpected_error_is_a_line(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of this program is one line too; an environment variable shows the traceback."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(main, "run_build", fail)
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert answer.err == (
        "ngff-flows: unexpected RuntimeError: two lines; "
        "run again with NGFF_FLOWS_TRACEBACK=1 to see the traceback\n"
    )
    monkeypatch.setenv("NGFF_FLOWS_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main.main()
