"""The kernels of the itkwasm back end: ITK filters compiled to WebAssembly.

The samples come from ``itkwasm_downsample_wasi`` 2.0.2, in this package "the module". By
itself it gives samples that depend on how an image is cut, and rounds some dtypes wrongly.
So each kernel here passes to it only what it computes exactly:

* ITK's resampling computes positions along a row as ``start + (end - start) * (i / size)``,
  which is one ulp off for some widths (45, 99, 100 ...). That changes the last bit of the
  Gaussian and decides ties between labels. It is exact for widths that are powers of two,
  so the module gets only these.
* The Gaussian rounds integers between its passes, with errors of up to 3: the module gets
  float32.
* Bin shrink multiplies by 1/N, which is exact only if N is a power of two (16-bit means of
  98 or 196 samples are one off): other bins are padded with zeros to the next power of two,
  and the division is done here.
* Labels are converted to float64, where 2**60 + 1 becomes 2**60, and the time grows with the
  number of labels (31 s for 72 000 voxels of random uint16): the module gets the ranks of
  the labels within one bin.
* The module's memory ends at 4 GiB: images are computed in tiles.
"""

from ngff_core.kernels.itkwasm.bin_shrink import ItkwasmBinShrink
from ngff_core.kernels.itkwasm.gaussian import ItkwasmGaussian
from ngff_core.kernels.itkwasm.label import ItkwasmLabelImage

__all__ = ["ItkwasmBinShrink", "ItkwasmGaussian", "ItkwasmLabelImage"]
