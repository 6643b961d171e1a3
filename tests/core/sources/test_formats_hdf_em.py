"""Files of HDF5, electron microscopy and chunked folders are told apart, and others named."""

import subprocess
import sys

import numpy as np
import pytest

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images
from ngff_core.sources.formats import FILES, FOLDERS

MRC = b"\0" * 208 + b"MAP DD\0\0"


def found(head, name, rows=FILES):
    """Name of the first row that matches."""
    return next((row.name for row in rows if row.matches(head, name)), None)


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (b"\x89HDF\r\n\x1a\n", "a", "an HDF5 file"),
        (b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n", "a.mat", "an HDF5 file"),
        (MRC, "a.map", "an MRC file"),
        (MRC, "tomogram.rec", "an MRC file"),
        (b"\0" * 400, "scan.rec", "a Philips PAR/REC file"),
        (b"\0" * 400, "old.mrc", "an MRC file"),
        (b"BZh91AY", "a.mrc.bz2", "an MRC file compressed by bzip2"),
        (b"NRRD0005\n", "a.nhdr", "an NRRD file"),
        (b"ObjectType = Image\nNDims = 3\n", "a", "a MetaImage file"),
        (b"NDims = 3\n", "a.mhd", "a MetaImage file"),
        (b'<?xml version="1.0"?><SpimData version="0.2">', "a.xml", "a BigDataViewer XML file"),
        (b"<OME>", "a.xml", None),
        (b"\0\0\0\4", "a.dm4", "a Digital Micrograph DM3 or DM4 file"),
        (b"II\x97\1", "a.ser", "a TIA SER file"),
        (b"IMGBLO", "a.blo", "a NanoMegas block file"),
        (b"<?xml version", "a.companion.ome", "an OME companion file"),
        (b"\x1f\x8b\x08", "a.tif.gz", "a file compressed by gzip"),
        (b"\0\0\0\x0cjP  \r\n", "a.jp2", "a JPEG 2000 picture"),
        (b"\0\0\0\x0cjP  \r\n", "a.nd2", "a Nikon ND2 file of the old kind (JPEG 2000)"),
        (b"MATLAB 5.0 MAT-file, ", "a.mat", "a MATLAB file from before version 7.3"),
    ],
)
def test_files_by_their_first_bytes(head, name, expected):
    """And by the name, where bytes say too little."""
    assert found(head, name) == expected


@pytest.mark.parametrize(
    ("names", "folder", "expected"),
    [
        (b"attributes.json\ns0\ns1", "a", "an N5 folder"),
        (b"c0", "a.n5", "an N5 folder"),
        (b"info\n8_8_40", "a", "a Neuroglancer precomputed volume"),
        (b"info.txt", "a", None),
    ],
)
def test_folders_by_their_entries(names, folder, expected):
    """Each format has a document of its own."""
    assert found(names, folder, FOLDERS) == expected


@pytest.mark.parametrize(
    ("head", "name"), [(b"\0\0\0\3", "a.dm3"), (b"II\x97\1", "a.ser"), (b"IMGBLO", "a.blo")]
)
def test_what_nothing_reads_is_named_with_a_way_to_go(tmp_path, head, name):
    """Only readers under licences that exclude each other with ours exist."""
    (tmp_path / name).write_bytes(head)
    with pytest.raises(SourceFormatError, match=r"which is not read; RosettaSciIO or HyperSpy"):
        open_images(tmp_path / name)


def test_a_folder_with_an_info_of_something_else_is_refused(tmp_path):
    """The name alone is not enough."""
    (tmp_path / "info").write_text("about this folder")
    with pytest.raises(SourceFormatError, match="info: not a readable info of a precomputed"):
        open_images(tmp_path)


def test_without_the_extras_the_others_still_work(tmp_path):
    """Readers without a package import none of them; those with one name their extra."""
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n\n1234"
    )
    code = f"""
import importlib.util, sys
absent = {{"h5py", "hdf5plugin", "tensorstore", "mrcfile"}}
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in absent else find(name, *rest)
for name in absent:
    sys.modules[name] = None
from ngff_core.sources import open_images
from ngff_core.sources.volumes import mrc
for name in ("a.npy", "a.nrrd"):
    open_images({str(tmp_path)!r} + "/" + name).close()
try:
    open_images({str(tmp_path)!r} + "/a.h5")
except ValueError as error:
    assert "h5py and hdf5plugin: pip install 'ngff-flows[hdf5]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
