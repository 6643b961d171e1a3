#!/bin/sh
# tifffile 2026.11.8 takes the planes of two files for one contiguous block, and reads the second
# file's plane from the first file.
#
# An OME-TIFF set of two files with two pages each, all of one size, each file laid out alike. The
# OME-XML says: z 0 is page 0 of a.ome.tif, z 1 is page 1 of b.ome.tif.
# Expected: plane 1 of the series has the samples of page 1 of b.ome.tif.
# Observed: it has the samples of page 1 of a.ome.tif. No error, no warning. The series asks whether
#   each plane begins where the one before it ends, and does not ask in which file.
# It matters to whoever makes pyramids from sets of OME-TIFF files (Micro-Manager, bfconvert and
#   others write one file for each position, channel or time): z or t planes are another file's.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv" 2>/dev/null || python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' ||
    { echo "needs Python 3.12 or later as python3.12 or python3"; exit 2; }
"$dir/venv/bin/pip" install -q --disable-pip-version-check tifffile==2026.11.8 numpy==2.5.5
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import numpy as np
import tifffile

data = np.arange(2 * 2 * 20 * 30, dtype="u2").reshape(2, 2, 20, 30)  # file, page, y, x
names = ("a.ome.tif", "b.ome.tif")
uuids = [f"urn:uuid:00000000-0000-4000-8000-00000000000{n}" for n in range(2)]
planes = "".join(
    f'<TiffData IFD="{n}" FirstZ="{n}" FirstC="0" FirstT="0" PlaneCount="1">'
    f'<UUID FileName="{names[n]}">{uuids[n]}</UUID></TiffData>'
    for n in range(2)
)
for n in range(2):
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[n]}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="30" SizeY="20" SizeZ="2" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(names[n], data[n], photometric="minisblack", metadata=None, description=xml)

found = tifffile.imread("a.ome.tif")
print("tifffile", tifffile.__version__, "shape", found.shape)
print("plane 1 is page 1 of b:", np.array_equal(found[1], data[1, 1]))
print("plane 1 is page 1 of a:", np.array_equal(found[1], data[0, 1]))
raise SystemExit(0 if np.array_equal(found[1], data[0, 1]) else 1)
PYTHON
# Output seen:
#   tifffile 2026.11.8 shape (2, 20, 30)
#   plane 1 is page 1 of b: False
#   plane 1 is page 1 of a: True
