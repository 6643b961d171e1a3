"""Sources on the command line: what is in them, which image is read, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.support.command import SMALL, Command, assert_refused

STACK = np.random.default_rng(2).integers(0, 99, (2, 3, 40, 48), "u1")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Four axes that no file names."""
    np.save(tmp_path / "stack.npy", STACK)
    return tmp_path / "stack.npy"


@pytest.fixture
def two_images(tmp_path: Path) -> str:
    """A source with two images of two planes each."""
    for name in "AB":
        for z in range(2):
            np.save(tmp_path / f"{name}_z{z}.npy", STACK[z, 0] + ord(name))
    return f"{tmp_path}/*_z{{z}}.npy"


def test_inspect_shows_what_is_known(run: Command, two_images: str) -> None:
    """Each image, what was joined, and that a build would ask which one."""
    answer = run("inspect", two_images)
    assert answer.status == 0
    assert "4 files" in answer.out
    assert "0       A     z 2, y 40, x 48  uint8" in answer.out
    assert "build asks which one" in answer.out


def test_inspect_as_json(run: Command, stack: Path) -> None:
    """With the refusal that a build would give, and what identifies the content."""
    found = json.loads(run("inspect", stack, "--json").out)
    (image,) = found["images"]
    assert (image["axes"], image["shape"]) == (["?"] * 4, [2, 3, 40, 48])
    assert "--dims" in image["refusal"]
    assert "size" in found["pins"]


def test_axes_are_refused_until_they_are_named(run: Command, stack: Path, target: Path) -> None:
    """Then sizes, units and names of channels can be given, too."""
    assert_refused(run("build", stack, target, "--no-prefect", *SMALL), "--dims czyx")
    answer = run(
        *("build", stack, target, "--no-prefect", *SMALL, "--dims", "czyx", "--scale"),
        *("z=2,space=0.5", "--units", "micrometer", "--channel-names", "DAPI,GFP"),
    )
    assert answer.status == 0
    ome = zarr.open_group(target, mode="r").attrs["ome"]
    (multiscale,) = ome["multiscales"]
    assert [(axis["name"], axis.get("unit")) for axis in multiscale["axes"]] == [
        *(("c", None), ("z", "micrometer"), ("y", "micrometer"), ("x", "micrometer"))
    ]
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1, 2, 0.5, 0.5]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "GFP"]


def test_plan_says_how_the_source_is_read(run: Command, source: Path, target: Path) -> None:
    """What is assumed and what is unknown, in its text and in its document."""
    answer = run("plan", source, target, *SMALL)
    assert "assumed: the file does not name all axes" in answer.out
    document = json.loads(run("plan", source, target, *SMALL, "--json").out)
    assert [note["kind"] for note in document["about"]["notes"]] == ["assumed", "unknown"]


def test_one_of_several_images_is_chosen(run: Command, two_images: str, target: Path) -> None:
    """By number or name; without a choice they are listed."""
    assert_refused(run("build", two_images, target, "--no-prefect", *SMALL), "0 'A' (z 2")
    answer = run("build", two_images, target, "--no-prefect", *SMALL, "--series", "B")
    assert answer.status == 0
    assert "left out: the other image of the source: 0 'A'" in answer.out
    found = np.asarray(zarr.open_group(target, mode="r")["0"])
    np.testing.assert_array_equal(found, STACK[:, 0] + ord("B"))


def test_all_images_are_built(run: Command, two_images: str, target: Path) -> None:
    """Each as a pyramid of its own name in the target's folder."""
    answer = run("build", two_images, target, "--no-prefect", *SMALL, "--series", "all", "--json")
    assert answer.status == 0
    assert [report["verified"] for report in json.loads(answer.out)] == [True, True]
    assert sorted(p.name for p in target.iterdir() if p.suffix == ".zarr") == [
        *("A.ome.zarr", "B.ome.zarr")
    ]


def test_one_image_that_fails_keeps_no_other_from_being_built(
    run: Command, two_images: str, target: Path
) -> None:
    """And is named, with exit status 1."""
    (target / "A.ome.zarr").mkdir(parents=True)
    (target / "A.ome.zarr/thesis.txt").write_text("precious")
    answer = run("build", two_images, target, "--no-prefect", *SMALL, "--series", "all")
    assert answer.status == 1
    assert "series 0: " in answer.err
    assert "1 of 2 images were not built" in answer.err
    assert (target / "B.ome.zarr/zarr.json").is_file()
    assert (target / "A.ome.zarr/thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--scale", "z:2", "--scale 'z:2' is not a list of one value for each axis"),
        ("--scale", "z=big", "such as z=0.5,y=0.5"),
        ("--pick", "h=1", "has no axis 'h'"),
        ("--series", "7", "there is no '7'"),
        ("--dims", "zyq", "unknown axis 'q'"),
        ("--channel-names", "a,b,c", "channel_names: 3 of them for 1 channels"),
    ],
)
def test_what_does_not_fit_is_refused(
    run: Command, source: Path, target: Path, option: str, value: str, words: str
) -> None:
    """In one line that names the option."""
    assert_refused(run("build", source, target, "--no-prefect", *SMALL, option, value), words)


def test_shards_and_checksums_are_left_away(run: Command, source: Path, target: Path) -> None:
    """By a word each; the levels may have the name in their paths."""
    options = ("--shards", "none", "--checksums", "off", "--level-paths", "named")
    answer = run("build", source, target, "--no-prefect", "--chunks", 32, *options)
    assert answer.status == 0
    document = json.loads((target / "scale0/image/zarr.json").read_bytes())
    assert [codec["name"] for codec in document["codecs"]] == ["bytes", "blosc"]


def test_other_words_are_refused_by_the_options_name(
    run: Command, source: Path, target: Path
) -> None:
    answer = run("build", source, target, "--no-prefect", "--checksums", "maybe")
    assert_refused(answer, "--checksums 'maybe' is neither on nor off")
    answer = run("build", source, target, "--no-prefect", "--shards", "few")
    assert_refused(answer, "--shards 'few' is not a number")
    answer = run("build", source, target, "--no-prefect", "--level-paths", "deep")
    assert_refused(answer, "level_paths: 'deep' is none of flat, named")


def test_plan_names_readers_that_cannot_show_it(run: Command, source: Path, target: Path) -> None:
    """Before anything is built."""
    answer = run("plan", source, target, *SMALL, "--ome-zarr-version", "0.6")
    assert "limited: OME-Zarr 0.6 is not read yet by" in answer.out
