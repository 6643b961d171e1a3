"""Names, kernels and metadata of the downsampling methods."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from importlib import import_module

import numpy as np
import pytest

from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.methods import (
    DEFAULT_METHOD,
    Methods,
    check_dtype,
    kernel_for,
    method_info,
    parse_method,
)

every_method = pytest.mark.parametrize("method", list(Methods))


@every_method
def test_a_method_may_be_given_by_value_or_member(method: Methods) -> None:
    """The value, which metadata carries as ``type``, stands for the member everywhere."""
    assert parse_method(method.value) is parse_method(method) is method
    assert kernel_for(method.value) is kernel_for(method)
    assert str(method) == method.value == method.name.lower()


def test_the_default_is_the_itkwasm_gaussian() -> None:
    """Who names no method gets the discrete Gaussian of the itkwasm back end."""
    assert DEFAULT_METHOD is Methods.ITKWASM_GAUSSIAN


@pytest.mark.parametrize("name", ["gaussian", "", "ITKWASM_GAUSSIAN", None, 3])
def test_an_unknown_method_is_an_error_with_all_names(name: object) -> None:
    """The message quotes what was given and lists every name that would work."""
    with pytest.raises(InvalidOptionError) as caught:
        parse_method(name)  # type: ignore[arg-type]
    assert repr(name) in str(caught.value)
    assert all(method.value in str(caught.value) for method in Methods)


@every_method
def test_metadata_names_a_function_that_exists(method: Methods) -> None:
    """Description, dotted name and installed version, ready for JSON."""
    metadata = method_info(method).metadata
    module, _, function = metadata["method"].rpartition(".")
    assert callable(getattr(import_module(module), function))
    assert metadata["version"] == import_module(module).__version__
    assert metadata["description"].endswith(".")
    assert json.loads(json.dumps(metadata)) == metadata
    assert list(metadata) == ["description", "method", "version"]


def test_what_is_known_of_a_method_cannot_be_changed() -> None:
    """Two builds of one process read the same facts."""
    with pytest.raises(FrozenInstanceError):
        method_info("itkwasm_gaussian").function = "other"  # type: ignore[misc]


@every_method
@pytest.mark.parametrize("dtype", [np.uint8, ">u2", "float32", np.dtype(bool)])
def test_common_dtypes_pass(method: Methods, dtype: object) -> None:
    """However the dtype is written, and in either byte order."""
    check_dtype(method, dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "dtype", "instead"),
    [
        ("itkwasm_gaussian", "uint32", "use itkwasm_bin_shrink or itkwasm_label_image, or conv"),
        ("itkwasm_gaussian", "float64", "use itkwasm_label_image, or convert the image to float32"),
        ("itkwasm_gaussian", "complex128", "; convert the image to complex64"),
        ("itkwasm_bin_shrink", "int64", "convert the image to float32"),
        ("itkwasm_label_image", "complex64", "use itkwasm_gaussian or itkwasm_bin_shrink"),
        ("itkwasm_label_image", "<U3", "convert the image to a numeric dtype"),
    ],
)
def test_a_refused_dtype_says_why_and_what_to_use(method: str, dtype: str, instead: str) -> None:
    """The error names method, dtype, the kernel's reason, and a way out."""
    with pytest.raises(UnsupportedDtypeError) as caught:
        check_dtype(method, dtype)
    reason = kernel_for(method).refusal(np.dtype(dtype))
    assert reason is not None
    for part in (method, dtype, reason, instead):
        assert part in str(caught.value)


def test_naming_methods_does_not_load_wasm() -> None:
    """Importing the enum costs numpy and no more: wasm comes with the first sample."""
    code = "import sys, ngff_core.methods; sys.exit('itkwasm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
