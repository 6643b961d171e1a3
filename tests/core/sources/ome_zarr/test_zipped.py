"""Zip files that hold a zarr hierarchy: read member by member, from any store."""

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import StorePath, ZipStore

from ngff_core import build_pyramid, to_multiscales, to_ngff_zarr
from ngff_core.errors import SourceFormatError, SourceNotFoundError
from ngff_core.sources import open_images, open_source
from ngff_core.storage import LocalFiles
from ngff_core.storage.foreign import foreign_store
from ngff_core.storage.zipped import ZippedFiles, open_zip
from tests.support.drawn import slices
from tests.support.ome_zarr import SAMPLES, multiscale, write_image


def image(path, *, below="", zarr_format=2):
    """A zip file of an OME-Zarr image, at its root or in a folder."""
    attributes = {"multiscales": [multiscale(size=(1, 2, 0.5, 0.5))]}
    if zarr_format == 3:
        attributes = {"ome": {"version": "0.5", **attributes}}
        attributes["ome"]["multiscales"][0]["version"] = "0.5"
    with ZipStore(path, mode="w") as store:
        write_image(store, attributes, zarr_format=zarr_format)
    return below_folder(path, below) if below else path


def below_folder(path, *folders):
    """The members of a zip file in a folder, or once in each of several, in its place."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for folder in folders:
            for name, data in members.items():
                archive.writestr(f"{folder}/{name}", data)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["i.ozx", "i.zarr.zip", "i.ome.zarr.zip", "whatever"])
def test_a_zip_file_is_read_by_path_and_by_uri(tmp_path, stored, pixels, zarr_format, name):
    """By its content, whatever it is called; zarr's own store agrees."""
    path = image(tmp_path / name, zarr_format=zarr_format)
    with ZipStore(path, mode="r") as store:
        np.testing.assert_array_equal(zarr.open_array(store, path="0", mode="r")[:], SAMPLES)
    uri = stored(path)
    with open_source(uri) as opened:
        assert opened.kind == "ome-zarr"
        assert opened.image.scale == {"c": 1, "z": 2, "y": 0.5, "x": 0.5}
        assert opened.read_unit == (2, 3, 8, 8)
        assert opened.about.format.endswith("image in a zip file")
        assert opened.identity.uri == f"{uri}/0"
        assert (opened.chunks.total, opened.chunks.absent) == (9, 0)
        np.testing.assert_array_equal(pixels(opened), SAMPLES)


def test_single_file_ome_zarr_of_ours_is_read(tmp_path, stored, pixels):
    """Sharded, as RFC-9 advises, with the attributes first."""
    to_ngff_zarr(tmp_path / "i", to_multiscales(SAMPLES[0], [2], chunks=8), chunks_per_shard=2)
    with zipfile.ZipFile(tmp_path / "i.ozx", "w") as archive:
        archive.comment = b'{"ome": {"version": "0.5"}}'
        for file in sorted(p for p in (tmp_path / "i").rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(tmp_path / "i").as_posix())
    with open_source(stored(tmp_path / "i.ozx")) as opened:
        assert opened.about.format == "an OME-Zarr 0.5 image in a zip file"
        np.testing.assert_array_equal(pixels(opened), SAMPLES[0])


def test_a_compressed_zip_file_is_read(tmp_path, pixels):
    """As a file manager makes them."""
    with ZipStore(tmp_path / "i.zip", mode="w", compression=zipfile.ZIP_DEFLATED) as store:
        write_image(store, {"multiscales": [multiscale()]})
    with open_source(tmp_path / "i.zip") as opened:
        np.testing.assert_array_equal(pixels(opened), SAMPLES)


def test_a_plain_array_in_a_zip_file_is_read(tmp_path, pixels):
    """Without a group."""
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        zarr.create_array(store, data=SAMPLES[0], chunks=(2, 8, 8))
    with open_source(tmp_path / "a.zip") as opened:
        assert opened.kind == "zarr"
        np.testing.assert_array_equal(pixels(opened), SAMPLES[0])


@pytest.mark.parametrize("kind", ["path", "store", "below", "level"])
def test_a_pyramid_is_built_from_a_zip_file(tmp_path, kind):
    """By its path, and by zarr's store, at its root or below; the second run finds it done."""
    path = image(tmp_path / "a.zarr.zip", below="in" if kind == "below" else "")
    with ZipStore(path, mode="r") as store:
        source = {
            "path": str(path),
            "store": store,
            "below": StorePath(store, "in"),
            "level": str(path / "0"),
        }[kind]
        for _ in range(2):
            build_pyramid(source, tmp_path / "out.ome.zarr", scale_factors=[2])
    built = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    (described,) = built.attrs["ome"]["multiscales"]
    level = described["datasets"][0]
    np.testing.assert_array_equal(built[level["path"]][:], SAMPLES)
    assert level["coordinateTransformations"][0]["scale"] == [1, 2, 0.5, 0.5]


def test_a_hierarchy_one_folder_deep_is_found(tmp_path, stored, pixels):
    """As an operating system zips a folder, with files of its own beside."""
    path = image(tmp_path / "i.zip", below="i.ome.zarr")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/i.ome.zarr/._zgroup", b"")
        archive.writestr("readme.txt", b"hello")
    uri = stored(path)
    with open_source(uri) as opened, open_source(opened.identity.uri) as again:
        assert opened.identity.uri == f"{uri}/i.ome.zarr/0"
        assert again.identity == opened.identity
        np.testing.assert_array_equal(pixels(opened), SAMPLES)


def test_a_zip_file_of_several_hierarchies_names_them(tmp_path, stored, pixels):
    """And each can be named."""
    uri = stored(below_folder(image(tmp_path / "i.zip"), "a.zarr", "b.zarr"))
    with pytest.raises(
        SourceFormatError, match=r"several .*such as .*i\.zip/a\.zarr: a\.zarr, b\.z"
    ):
        open_source(uri)
    with open_source(f"{uri}/b.zarr") as opened:
        np.testing.assert_array_equal(pixels(opened), SAMPLES)


@pytest.mark.parametrize("inside", ["nothing", "0/nothing"])
def test_a_path_into_a_zip_file_that_leads_nowhere_is_refused(tmp_path, stored, inside):
    """The file is there, so the message is of the path in it."""
    uri = stored(image(tmp_path / "i.zip"))
    with pytest.raises(SourceFormatError, match=rf"i\.zip/{inside}: there is no zarr"):
        open_source(f"{uri}/{inside}")
    with pytest.raises(SourceNotFoundError):
        open_source(f"{uri.replace('i.zip', 'j.zip')}/0")


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def test_a_zip_file_without_a_hierarchy_is_refused(tmp_path, stored):
    """A document, an archive of numpy's, an empty one."""
    for path in (zipped(tmp_path / "a.docx", word="x"), zipped(tmp_path / "b.zip")):
        with pytest.raises(SourceFormatError, match="a zip file that holds no zarr hierarchy"):
            open_source(stored(path))


def test_members_that_lead_outside_are_none(tmp_path):
    """They are never read, by whatever name they are asked for."""
    path = image(tmp_path / "i.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../out", "/etc/out", "0/../../out", "folder/"):
            archive.writestr(name, b"x")
    opened = open_zip(LocalFiles(path))
    assert not [key for key in opened.objects() if "out" in key or "folder" in key]
    assert opened.child("0").read("../../out") is None
    assert opened.read("../out") is opened.info("../out") is None
    opened.close()


def test_a_truncated_zip_file_is_refused(tmp_path, stored):
    """In one line that names it."""
    path = image(tmp_path / "i.ozx")
    path.write_bytes(path.read_bytes()[:-500])
    uri = stored(path)
    with pytest.raises(SourceFormatError, match=r"i\.ozx: cannot be read as a zip file: [^\n]*$"):
        open_source(uri)


def test_a_damaged_member_names_the_box(tmp_path):
    """zipfile finds it by its checksum."""
    path = image(tmp_path / "i.ozx")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("0/0/0/1/1")
    data = bytearray(path.read_bytes())
    data[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 0xFF
    path.write_bytes(data)
    with open_source(path) as opened:
        opened.image.data[0:2, 0:3, 0:8, 0:24]
        with pytest.raises(SourceFormatError, match=r"i\.ozx/0: cannot decode the box"):
            opened.image.data[0:1, 0:1, 8:9, 8:9]


def test_an_encrypted_zip_file_is_refused(tmp_path):
    """By its flags; the bit is set by hand."""
    path = image(tmp_path / "i.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SourceFormatError, match="an encrypted zip file; unpack it"):
        open_source(path)


def test_the_identity_follows_the_file(tmp_path, stored):
    """Opening again changes nothing; another member does."""
    path = image(tmp_path / "i.zip")
    with open_source(path) as first, open_source(path) as again:
        assert first.identity == again.identity
    with ZipStore(path, mode="r") as store, open_source(store) as by_store:
        assert by_store.identity == first.identity
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", b"x")
    with open_source(path) as changed:
        assert changed.identity != first.identity


def test_a_member_that_changed_in_place_is_another(tmp_path):
    """Where the file has the same size and time, by the member's checksum."""
    found = []
    for content in ("a", "b"):
        path = zipped(tmp_path / "i.zip", chunk=content, other="c")
        os.utime(path, ns=(0, 0))
        opened = open_zip(LocalFiles(path))
        found.append(opened.objects())
        opened.close()
    assert found[0]["chunk"] != found[1]["chunk"]
    assert found[0]["other"] == found[1]["other"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = image(tmp_path_factory.mktemp("zip") / "i.ozx")
    with open_source(path) as source:
        yield source


@given(st.tuples(slices(2), slices(3), slices(20), slices(24)))
def test_any_box_is_what_numpy_gives(opened, key):
    """By numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.image.data[key], SAMPLES[key])


def test_sixteen_threads_read_the_same_samples(tmp_path, stored):
    """Of one opened file, whose position they share."""
    uri = stored(image(tmp_path / "i.ozx"))
    rng = np.random.default_rng(2)
    boxes = []
    for _ in range(300):
        start = [int(rng.integers(0, n)) for n in SAMPLES.shape]
        ends = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, SAMPLES.shape, strict=True)]
        boxes.append(tuple(map(slice, start, ends)))
    with open_source(uri) as source, ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda box: source.image.data[box], boxes)
        for box, block in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(block, SAMPLES[box])


def test_a_store_that_is_being_written_is_no_file_yet(tmp_path, pixels):
    """Its members are read through it; another store of the same content is another source."""
    with ZipStore(tmp_path / "i.zip", mode="w") as store:
        write_image(store, {"multiscales": [multiscale()]})
        assert not isinstance(foreign_store(store), ZippedFiles)
        source = open_source(store)
        np.testing.assert_array_equal(pixels(source), SAMPLES)
        assert open_source(store).identity == source.identity
        assert any("does not say when it does" in str(note) for note in source.about.notes)


@pytest.mark.parametrize("kind", ["logging", "open file"])
def test_pyramids_are_built_from_stores_of_other_kinds(tmp_path, kind):
    """A wrapper, and a zip store of an open file."""
    path = image(tmp_path / "i.zip")
    with path.open("rb") as file, ZipStore(file, mode="r") as of_file:
        memory = zarr.storage.MemoryStore()
        write_image(memory, {"multiscales": [multiscale()]})
        logging = zarr.storage.LoggingStore(memory, log_level="ERROR")
        source = logging if kind == "logging" else of_file
        build_pyramid(source, tmp_path / "out.ome.zarr", scale_factors=[2])
        with open_images(source) as images:
            assert bool(images.images[0].notes) == (kind == "open file")
    built = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    path = built.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    np.testing.assert_array_equal(built[path][:], SAMPLES)
