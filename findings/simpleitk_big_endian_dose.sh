#!/bin/sh
# SimpleITK 2.5.7 reads 32-bit DICOM in Explicit VR Big Endian with the bytes of each sample swapped.
#
# Input: rtdose_expb.dcm, a test file that pydicom's wheel brings along (MIT): a dose of 32-bit
#   samples; rtdose.dcm is the same dose in little endian.
# Expected: both files have the same samples.
# Observed: the big-endian file gives other numbers (the bytes of each sample in reverse order). No
#   error, no warning.
# It matters to whoever turns doses of older planning systems into pyramids with ITK.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv" 2>/dev/null || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check simpleitk==2.5.7 pydicom==3.0.2 numpy
"$dir/venv/bin/python" - <<'PYTHON'
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.data import get_testdata_file

big = get_testdata_file("rtdose_expb.dcm", download=False)
little = get_testdata_file("rtdose.dcm", download=False)
same = np.array_equal(pydicom.dcmread(big).pixel_array, pydicom.dcmread(little).pixel_array)


def stored(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(path)).astype("f8")


expected = pydicom.dcmread(little).pixel_array
a, b = stored(little), stored(big)
print("SimpleITK", sitk.Version.VersionString(), "pydicom", pydicom.__version__)
print("pydicom gives both files the same samples:", same)
print("first sample: pydicom", int(expected.flat[0]), "SimpleITK, little endian", a.flat[0], "big endian", b.flat[0])
print("SimpleITK gives both files the same samples:", bool(np.array_equal(a, b)))
raise SystemExit(0 if same and not np.array_equal(a, b) else 1)
PYTHON
# Output seen:
#   SimpleITK 2.5.7 pydicom 3.0.2
#   pydicom gives both files the same samples: True
#   first sample: pydicom 1249000 SimpleITK, little endian 1249000.0 big endian 250085395.0
#   SimpleITK gives both files the same samples: False
