"""Formats of microscopes that nothing reads are refused by their names, with a way to go."""

import pytest

from ngff_core.errors import SourceFormatError
from ngff_core.sources import formats as table
from ngff_core.sources import open_images

OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

REFUSED = [
    ("a.zvi", OLE2, "a Zeiss ZVI file"),
    ("a.ipw", OLE2, "an Image-Pro IPW file"),
    ("a.xyz", OLE2, r"a compound document \(OLE2\)"),
    ("a.poir", b"PK\x03\x04", r"POIR .* unpack it"),
    ("a.ets", b"SIS\0", "VSI"),
    ("a.nd2", b"\0\0\0\x0cjP  \r\n\x87\n", r"of the old kind \(JPEG 2000\)"),
    ("a.mrxs", b"\xff\xd8\xff\xe0", "a MIRAX slide"),
    ("a.dv", b"\0" * 96 + b"\xa0\xc0", "a DeltaVision file"),
    ("a.obf", b"OMAS_BF\n\xff\xff", "an Imspector file"),
    ("a.dcimg", b"DCIMG", "a Hamamatsu DCIMG file"),
    ("a.ics", b"\t\nics_version\t2.0", "an ICS file"),
    ("a.ser", b"II\x97\x01", "a TIA SER file"),
    ("a.dm3", b"\0\0\0\x03", "a Digital Micrograph DM3 or DM4 file"),
    ("a.dm4", b"\0\0\0\x04", "a Digital Micrograph DM3 or DM4 file"),
    ("a.spe", b"\0\0", "a Princeton Instruments SPE file"),
    ("a.fits", b"SIMPLE  =                    T", "a FITS file"),
]


@pytest.mark.parametrize(("name", "head", "message"), REFUSED)
def test_formats_that_nothing_reads_are_named(tmp_path, name, head, message):
    """In one line, with what to do."""
    (tmp_path / name).write_bytes(head + b"\0" * 64)
    with pytest.raises(SourceFormatError, match=message) as error:
        open_images(tmp_path / name)
    assert "\n" not in str(error.value)
    assert "which is not read" in str(error.value)


READ = [
    ("a.czi", b"ZISRAWFILE", "czifile"),
    ("a.lif", b"\x70\0\0\0\1\0\0\0\x2a", "liffile"),
    ("a.xlef", b"<?xml", "liffile"),
    ("a.nd2", b"\xda\xce\xbe\n", "nd2"),
    ("a.oir", b"OLYMPUSRAWFORMAT", "oirfile"),
    ("a.oib", OLE2, "oiffile"),
    ("a.oif", b"\xff\xfe[\0", "oiffile"),
]


@pytest.mark.parametrize(("name", "head", "package"), READ)
def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, name, head, package):
    """Everything else works without it."""
    monkeypatch.setattr(table, "find_spec", lambda asked: None if asked == package else object())
    (tmp_path / name).write_bytes(head)
    with pytest.raises(SourceFormatError, match=r"pip install 'ngff-flows\[microscopy\]'"):
        open_images(tmp_path / name)


@pytest.mark.parametrize(("name", "head", "package"), READ)
def test_files_with_nothing_but_a_beginning_are_refused_in_one_line(tmp_path, name, head, package):
    """The error names the format."""
    (tmp_path / name).write_bytes(head)
    with pytest.raises(SourceFormatError, match="not a readable") as error:
        open_images(tmp_path / name)
    assert "\n" not in str(error.value)
