#!/bin/sh
# pylibCZIrw 6.1.0 reads back 48-bit color that it wrote with zstd1 and HiLoByteUnpack as other samples.
#
# Input: a random picture of 60 x 70 pixels, 3 x 16 bits, written by pylibCZIrw itself with
#   compression_options "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack".
# Expected: what is read equals what was written (channels as written: blue, green, red).
# Observed: nearly all samples differ; czifile, which reads the same file by other code, gives what
#   was written. With 24-bit color or 16-bit gray both agree. No error, no warning.
# It matters to whoever compares readers of CZI, or makes pyramids of color scans in 16 bits.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv" 2>/dev/null || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pylibCZIrw==6.1.0 czifile==2026.10.14 imagecodecs==2026.10.10 numpy
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import czifile
import numpy as np
from pylibCZIrw import czi

data = np.random.default_rng(0).integers(0, 65536, (60, 70, 3)).astype("u2")
options = "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"
with czi.create_czi("a.czi", exist_ok=True, compression_options=options) as file:
    file.write(data=data, plane={"C": 0})
with czi.open_czi("a.czi") as file:
    own = np.squeeze(np.asarray(file.read(plane={"C": 0})))
other = np.squeeze(czifile.imread("a.czi"))
differ = int((own != data).sum())
same = np.array_equal(other, data) or np.array_equal(other[..., ::-1], data)
print("pylibCZIrw", version("pylibCZIrw"), "czifile", version("czifile"))
print("samples that pylibCZIrw reads otherwise than it wrote them:", differ, "of", data.size)
print("czifile reads what was written:", bool(same))
raise SystemExit(0 if differ and same else 1)
PYTHON
# Output seen:
#   pylibCZIrw 6.1.0 czifile 2026.10.14
#   samples that pylibCZIrw reads otherwise than it wrote them: 12530 of 12600
#   czifile reads what was written: True
