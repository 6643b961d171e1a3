"""The downsampling methods: their names, kernels and metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ngff_core.config import config
from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.kernels import itk
from ngff_core.kernels.bin_shrink import NativeBinShrink
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.gaussian import NativeGaussian, SampledGaussian
from ngff_core.kernels.itkwasm import ItkwasmBinShrink, ItkwasmGaussian, ItkwasmLabelImage
from ngff_core.kernels.label import NativeLabelImage
from ngff_core.kernels.mode import NativeMode
from ngff_core.kernels.nearest import NativeNearest


class Methods(StrEnum):
    """How the samples of a level are computed from those of its parent level.

    Wherever a method is asked for, its value is accepted too. The value is also the ``type``
    of the multiscale in OME-Zarr metadata.

    Attributes
    ----------
    value
        Name of the method, such as ``"itkwasm_gaussian"``.

    Examples
    --------
    >>> Methods("itkwasm_bin_shrink").name
    'ITKWASM_BIN_SHRINK'
    """

    ITKWASM_GAUSSIAN = "itkwasm_gaussian"
    ITKWASM_BIN_SHRINK = "itkwasm_bin_shrink"
    ITKWASM_LABEL_IMAGE = "itkwasm_label_image"
    ITK_GAUSSIAN = "itk_gaussian"
    ITK_BIN_SHRINK = "itk_bin_shrink"
    DASK_IMAGE_GAUSSIAN = "dask_image_gaussian"
    DASK_IMAGE_MODE = "dask_image_mode"
    DASK_IMAGE_NEAREST = "dask_image_nearest"
    DASK_BIN_SHRINK = "dask_bin_shrink"


DEFAULT_METHOD = Methods.ITKWASM_GAUSSIAN
LABEL_METHOD = Methods.ITKWASM_LABEL_IMAGE
"""The default for images of labels."""


@dataclass(frozen=True)
class MethodInfo:
    """What a method does, and which function of which package defines it.

    Every back end gives the samples of that function. The ``dask_*`` methods are defined by
    this package: no function of another package gives their samples.
    """

    description: str
    function: str
    package: str

    @property
    def version(self) -> str:
        """Version of the installed package; ``InvalidOptionError`` if it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            raise InvalidOptionError(
                f"method: {self.package} is not installed: pip install 'ngff-flows[{self.package}]'"
            ) from None

    @property
    def metadata(self) -> dict[str, str]:
        """The ``metadata`` object of an OME-Zarr multiscale.

        >>> sorted(method_info("itkwasm_gaussian").metadata)
        ['description', 'method', 'version']
        """
        return {
            "description": self.description,
            "method": self.function,
            "version": self.version,
        }


_INFO: Mapping[Methods, MethodInfo] = {
    Methods.ITKWASM_GAUSSIAN: MethodInfo(
        "Discrete Gaussian against aliasing, then linear sampling at the centre of each bin.",
        "itkwasm_downsample.downsample",
        "itkwasm-downsample",
    ),
    Methods.ITKWASM_BIN_SHRINK: MethodInfo(
        "Mean of each bin.",
        "itkwasm_downsample.downsample_bin_shrink",
        "itkwasm-downsample",
    ),
    Methods.ITKWASM_LABEL_IMAGE: MethodInfo(
        "Most frequent label among the voxels next to the centre of each bin.",
        "itkwasm_downsample.downsample_label_image",
        "itkwasm-downsample",
    ),
    Methods.ITK_GAUSSIAN: MethodInfo(
        "Discrete Gaussian against aliasing, then linear sampling at the centre of each bin.",
        "itk.DiscreteGaussianImageFilter",
        "itk",
    ),
    Methods.ITK_BIN_SHRINK: MethodInfo(
        "Mean of each bin.",
        "itk.BinShrinkImageFilter",
        "itk",
    ),
    Methods.DASK_IMAGE_GAUSSIAN: MethodInfo(
        "scipy.ndimage.gaussian_filter (truncate 4, mode nearest) against aliasing, then linear "
        "sampling at the centre of each bin.",
        "ngff_core.kernels.gaussian.SampledGaussian",
        "ngff-flows",
    ),
    Methods.DASK_IMAGE_MODE: MethodInfo(
        "Most frequent label of each bin, the smallest on a tie.",
        "ngff_core.kernels.mode.NativeMode",
        "ngff-flows",
    ),
    Methods.DASK_IMAGE_NEAREST: MethodInfo(
        "Sample nearest to the centre of each bin, the lower one where two are as near.",
        "ngff_core.kernels.nearest.NativeNearest",
        "ngff-flows",
    ),
    Methods.DASK_BIN_SHRINK: MethodInfo(
        "Mean of each bin.",
        "ngff_core.kernels.bin_shrink.NativeBinShrink",
        "ngff-flows",
    ),
}

_BIN_SHRINK = NativeBinShrink()
_KERNELS: Mapping[Methods, Kernel] = {
    Methods.ITKWASM_GAUSSIAN: NativeGaussian(),
    Methods.ITKWASM_BIN_SHRINK: _BIN_SHRINK,
    Methods.ITKWASM_LABEL_IMAGE: NativeLabelImage(),
    Methods.ITK_GAUSSIAN: itk.ItkGaussian(),
    Methods.ITK_BIN_SHRINK: itk.ItkBinShrink(),
    Methods.DASK_IMAGE_GAUSSIAN: SampledGaussian(),
    Methods.DASK_IMAGE_MODE: NativeMode(),
    Methods.DASK_IMAGE_NEAREST: NativeNearest(),
    Methods.DASK_BIN_SHRINK: _BIN_SHRINK,
}
_ITKWASM: Mapping[Methods, Kernel] = {
    Methods.ITKWASM_GAUSSIAN: ItkwasmGaussian(),
    Methods.ITKWASM_BIN_SHRINK: ItkwasmBinShrink(),
    Methods.ITKWASM_LABEL_IMAGE: ItkwasmLabelImage(),
}
_OPTIONAL = frozenset({Methods.ITK_GAUSSIAN, Methods.ITK_BIN_SHRINK})
# The most common dtypes; others are compiled on first use.
_WARM: Mapping[Methods, tuple[str, ...]] = {
    Methods.ITKWASM_GAUSSIAN: ("uint8", "uint16", "float32"),
    Methods.ITKWASM_BIN_SHRINK: ("uint8", "uint16", "float32"),
    Methods.ITKWASM_LABEL_IMAGE: ("uint8", "uint16", "uint32"),
}


def parse_method(value: str | Methods) -> Methods:
    """The method of this name; ``InvalidOptionError``, with all names, for any other value.

    >>> parse_method("itkwasm_gaussian")
    <Methods.ITKWASM_GAUSSIAN: 'itkwasm_gaussian'>
    """
    try:
        return Methods(value)
    except ValueError:
        raise InvalidOptionError(
            f"method: {value!r} is unknown; the methods are {', '.join(Methods)}"
        ) from None


def method_info(method: str | Methods) -> MethodInfo:
    """Description, function and package of a method."""
    return _INFO[parse_method(method)]


def kernel_for(method: str | Methods) -> Kernel:
    """The kernel of a method, from the back end that ``config.kernel_backend`` names."""
    method = parse_method(method)
    if config.kernel_backend == "itkwasm":
        return _ITKWASM.get(method, _KERNELS[method])
    return _KERNELS[method]


def warm(
    methods: Iterable[str | Methods] = tuple(_WARM), dtypes: Iterable[str] | None = None
) -> None:
    """Compile the kernels of ``methods``, or load them from the cache of compiled code.

    For ``dtypes``; by default for each method's most common ones. Without this call the first
    region of a process waits for it: about a second from the cache, several to compile.
    """
    chosen = None if dtypes is None else tuple(dtypes)
    for method in map(parse_method, methods):
        for dtype in chosen or _WARM.get(method, _WARM[DEFAULT_METHOD]):
            kernel_for(method).reduce(np.zeros((2, 2, 2), dtype), (0, 0, 0), (2, 2, 2), (1, 1, 1))


def check_dtype(method: str | Methods, dtype: np.dtype[Any] | type[Any] | str) -> None:
    """Raise ``UnsupportedDtypeError`` if the method cannot compute ``dtype`` correctly.

    Raises ``InvalidOptionError`` if the method's package is not installed.
    """
    method, dtype = parse_method(method), np.dtype(dtype)
    if method in _OPTIONAL:
        itk.check_installed()
    reason = kernel_for(method).refusal(dtype)
    if reason is not None:
        raise UnsupportedDtypeError(
            f"method: {method} cannot compute {dtype} images: {reason}; "
            f"{_alternatives(method, dtype)}"
        )


def _alternatives(method: Methods, dtype: np.dtype[Any]) -> str:
    """What the caller can do instead, as a clause of the error."""
    advice = []
    if _KERNELS[method].refusal(dtype) is None:
        advice.append('set ngff_core.config.kernel_backend = "native"')
    others = [m for m in Methods if m not in _OPTIONAL and kernel_for(m).refusal(dtype) is None]
    if others:
        advice.append(f"use {' or '.join(others)}")
    target = _nearest_dtype(method, dtype)
    if target is not None:
        advice.append(f"convert the image to {target}")
    return ", or ".join(advice) or "convert the image to a numeric dtype"


def _nearest_dtype(method: Methods, dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """A dtype that ``method`` computes and that ``dtype`` converts to; None if there is none."""
    for candidate in (np.dtype(np.float32), np.dtype(np.complex64)):
        same_kind = dtype.kind in "biufc" and np.can_cast(dtype, candidate, "same_kind")
        if same_kind and kernel_for(method).refusal(candidate) is None:
            return candidate
    return None
