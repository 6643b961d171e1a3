"""The kernels of the itkwasm back end: ITK filters compiled to WebAssembly.

The samples come from ``itkwasm_downsample_wasi`` 2.0.2. Left to itself that module
gives samples that depend on how an image is cut, and rounds some dtypes wrongly, so
each kernel here feeds it only what it gets exactly right:

* ITK's resampling walks a scan line as ``start + (end - start) * (i / size)``, which is
  off by one ulp for some widths (45, 99, 100 ...). That moves the last bit of the
  Gaussian and breaks ties between labels. It is exact for a width that is a power of
  two, so those are the only widths it is given.
* Integers are rounded between the passes of the Gaussian, up to 3 off: it gets float32.
* Bin shrink multiplies by 1/N, which is exact only for N a power of two (16-bit means
  of 98 or 196 samples come out one off): other bins are filled up with zeros to the
  next power of two, and the division is done here.
* Labels go through float64, 2**60 + 1 becomes 2**60, and time grows with the number of
  labels (31 s for 72 000 voxels of random uint16): it gets ranks within one bin.
* The linear memory ends at 4 GiB: images go through in tiles.
"""

from ngff_core.kernels.itkwasm.bin_shrink import ItkwasmBinShrink
from ngff_core.kernels.itkwasm.gaussian import ItkwasmGaussian
from ngff_core.kernels.itkwasm.label import ItkwasmLabelImage

__all__ = ["ItkwasmBinShrink", "ItkwasmGaussian", "ItkwasmLabelImage"]
