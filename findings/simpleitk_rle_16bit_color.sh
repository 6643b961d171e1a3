#!/bin/sh
# SimpleITK 2.5.7 reads 16-bit color DICOM in RLE with its bytes in the wrong places.
#
# Input: SC_rgb_rle_16bit.dcm, a test file that pydicom's wheel brings along (MIT): colored bars of
#   full intensity, RLE Lossless, 16 bits allocated, big and low bytes in segments of their own.
# Expected: the first sample is red, (65535, 0, 0), as pydicom decodes it.
# Observed: (0, 65280, 255). No error, no warning.
# It matters to whoever turns secondary captures, ultrasound or dermatology pictures into pyramids
#   with ITK: colors are wrong, and nothing says so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv" 2>/dev/null || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check simpleitk==2.5.7 pydicom==3.0.2 numpy
"$dir/venv/bin/python" - <<'PYTHON'
import pydicom
import SimpleITK as sitk
from pydicom.data import get_testdata_file

path = get_testdata_file("SC_rgb_rle_16bit.dcm", download=False)
expected = pydicom.dcmread(path).pixel_array[0, 0].tolist()
found = sitk.GetArrayFromImage(sitk.ReadImage(path)).reshape(-1, 3)[0].tolist()
print("SimpleITK", sitk.Version.VersionString(), "pydicom", pydicom.__version__)
print("pydicom:  ", expected)
print("SimpleITK:", found)
raise SystemExit(0 if expected == [65535, 0, 0] and found != expected else 1)
PYTHON
# Output seen:
#   SimpleITK 2.5.7 pydicom 3.0.2
#   pydicom:   [65535, 0, 0]
#   SimpleITK: [0, 65280, 255]
