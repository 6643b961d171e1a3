"""The downsampling methods: their names, their kernels and what metadata says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import numpy as np

from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.itkwasm import ItkwasmBinShrink, ItkwasmGaussian, ItkwasmLabelImage


class Methods(StrEnum):
    """How the samples of one level become those of the next.

    The value is what a caller may write instead, and the ``type`` in OME-Zarr metadata.
    """

    ITKWASM_GAUSSIAN = "itkwasm_gaussian"
    ITKWASM_BIN_SHRINK = "itkwasm_bin_shrink"
    ITKWASM_LABEL_IMAGE = "itkwasm_label_image"


DEFAULT_METHOD = Methods.ITKWASM_GAUSSIAN


@dataclass(frozen=True)
class MethodInfo:
    """What a method does, and which function of which package defines it."""

    description: str
    function: str
    package: str

    @property
    def version(self) -> str:
        """Version of the package as installed."""
        return version(self.package)

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
}

_KERNELS: Mapping[Methods, Kernel] = {
    Methods.ITKWASM_GAUSSIAN: ItkwasmGaussian(),
    Methods.ITKWASM_BIN_SHRINK: ItkwasmBinShrink(),
    Methods.ITKWASM_LABEL_IMAGE: ItkwasmLabelImage(),
}


def parse_method(value: str | Methods) -> Methods:
    """The method of that name; ``InvalidOptionError`` lists the names for any other.

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
    """The kernel that computes a method's samples."""
    return _KERNELS[parse_method(method)]


def check_dtype(method: str | Methods, dtype: np.dtype[Any] | type[Any] | str) -> None:
    """``UnsupportedDtypeError`` if the method cannot give right samples for ``dtype``."""
    method, dtype = parse_method(method), np.dtype(dtype)
    reason = kernel_for(method).refusal(dtype)
    if reason is not None:
        raise UnsupportedDtypeError(
            f"method {method} cannot take {dtype} images: {reason}; {_instead(method, dtype)}"
        )


def _instead(method: Methods, dtype: np.dtype[Any]) -> str:
    advice = []
    takers = [m for m in Methods if kernel_for(m).refusal(dtype) is None]
    if takers:
        advice.append(f"use {' or '.join(takers)}")
    target = _nearest_dtype(method, dtype)
    if target is not None:
        advice.append(f"convert the image to {target}")
    return ", or ".join(advice) or "convert the image to a numeric dtype"


def _nearest_dtype(method: Methods, dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype one would convert to for ``method``, if any keeps the kind of number."""
    for candidate in (np.dtype(np.float32), np.dtype(np.complex64)):
        kept = dtype.kind in "biufc" and np.can_cast(dtype, candidate, "same_kind")
        if kept and kernel_for(method).refusal(candidate) is None:
            return candidate
    return None
