"""Names, kernels and metadata of the downsampling methods."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest

from ngff_core.config import config
from ngff_core.errors import InvalidOptionError, UnsupportedDtypeError
from ngff_core.kernels import itkwasm
from ngff_core.kernels.methods import (
    DEFAULT_METHOD,
    Methods,
    check_dtype,
    kernel_for,
    method_info,
    parse_method,
    warm,
)

every_method = pytest.mark.parametrize("method", list(Methods))
installed = [m for m in Methods if not m.startswith("itk_") or find_spec("itk")]
every_installed = pytest.mark.parametrize("method", installed)


@pytest.fixture
def itkwasm_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The itkwasm module computes what it can."""
    monkeypatch.setattr(config, "kernel_backend", "itkwasm")


@every_method
def test_a_method_may_be_given_by_value_or_member(method: Methods) -> None:
    """The value, which metadata carries as ``type``, stands for the member everywhere."""
    assert parse_method(method.value) is parse_method(method) is method
    assert kernel_for(method.value) is kernel_for(method)
    assert str(method) == method.value == method.name.lower()


def test_the_methods_are_those_of_the_api() -> None:
    """All nine, by the values that ``type`` has in metadata."""
    assert {str(method) for method in Methods} == {
        "itkwasm_gaussian",
        "itkwasm_bin_shrink",
        "itkwasm_label_image",
        "itk_gaussian",
        "itk_bin_shrink",
        "dask_image_gaussian",
        "dask_image_mode",
        "dask_image_nearest",
        "dask_bin_shrink",
    }


def test_the_default_is_the_itkwasm_gaussian() -> None:
    """A call that names no method uses the discrete Gaussian."""
    assert DEFAULT_METHOD is Methods.ITKWASM_GAUSSIAN


@pytest.mark.parametrize("name", ["gaussian", "", "ITKWASM_GAUSSIAN", None, 3])
def test_an_unknown_method_is_an_error_with_all_names(name: object) -> None:
    """The message quotes what was given and lists every name that would work."""
    with pytest.raises(InvalidOptionError) as caught:
        parse_method(name)  # type: ignore[arg-type]
    assert repr(name) in str(caught.value)
    assert all(method.value in str(caught.value) for method in Methods)


@every_installed
def test_metadata_names_a_function_that_exists(method: Methods) -> None:
    """Description, dotted name and installed version, ready for JSON."""
    metadata = method_info(method).metadata
    module, _, function = metadata["method"].rpartition(".")
    with warnings.catch_warnings():
        # SWIG's types have no module; where that warning is an error, loading itk crashes.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = import_module(module)
        assert callable(getattr(found, function))
    assert metadata["version"] == version(method_info(method).package)
    assert metadata["description"].endswith(".")
    assert json.loads(json.dumps(metadata)) == metadata
    assert list(metadata) == ["description", "method", "version"]


def test_what_is_known_of_a_method_cannot_be_changed() -> None:
    """Two builds of one process read the same facts."""
    with pytest.raises(FrozenInstanceError):
        method_info("itkwasm_gaussian").function = "other"  # type: ignore[misc]


@every_installed
@pytest.mark.parametrize("dtype", [np.uint8, ">u2", "float32", np.dtype(bool)])
def test_common_dtypes_pass(method: Methods, dtype: object) -> None:
    """However the dtype is written, and in either byte order."""
    check_dtype(method, dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "dtype", "instead"),
    [
        ("itkwasm_gaussian", "uint32", "kernel_backend"),
        ("itkwasm_gaussian", "float64", "or convert the image to float32"),
        ("itkwasm_gaussian", "complex128", "or convert the image to complex64"),
        ("itkwasm_bin_shrink", "int64", "convert the image to float32"),
    ],
)
@pytest.mark.usefixtures("itkwasm_backend")
def test_what_the_module_cannot_do_the_native_code_can(
    method: str, dtype: str, instead: str
) -> None:
    """The error names both ways out: the other back end, and another dtype."""
    with pytest.raises(UnsupportedDtypeError, match=r'set .*kernel_backend = "native"') as caught:
        check_dtype(method, dtype)
    assert instead in str(caught.value)
    config.kernel_backend = "native"
    check_dtype(method, dtype)


@pytest.mark.parametrize(
    ("method", "dtype", "instead"),
    [
        ("itkwasm_label_image", "complex64", "use itkwasm_gaussian or itkwasm_bin_shrink"),
        ("dask_image_mode", "complex128", "dask_image_nearest"),
        ("itkwasm_label_image", "<U3", "convert the image to a numeric dtype"),
        ("dask_image_nearest", "datetime64[s]", "convert the image to a numeric dtype"),
        ("itkwasm_bin_shrink", "longdouble", "; convert the image to float32"),
    ],
)
def test_a_refused_dtype_says_why_and_what_to_use(method: str, dtype: str, instead: str) -> None:
    """The error names method, dtype, the kernel's reason, and a way out."""
    with pytest.raises(UnsupportedDtypeError) as caught:
        check_dtype(method, dtype)
    reason = kernel_for(method).refusal(np.dtype(dtype))
    assert reason is not None
    for part in (method, str(np.dtype(dtype)), reason, instead):
        assert part in str(caught.value)


@pytest.mark.skipif(find_spec("itk") is not None, reason="itk is installed")
@pytest.mark.parametrize("method", ["itk_gaussian", "itk_bin_shrink"])
def test_a_missing_package_is_an_error_that_says_what_to_install(method: str) -> None:
    """Before anything is read; and so is asking for its version."""
    with pytest.raises(InvalidOptionError, match=r"ngff-flows\[itk\]"):
        check_dtype(method, "uint8")
    with pytest.raises(InvalidOptionError, match="itk is not installed"):
        _ = method_info(method).metadata


def test_the_back_end_is_chosen_by_the_setting() -> None:
    """Native code by default; itkwasm by the setting, for the methods that it has."""
    native = {method: kernel_for(method) for method in Methods}
    modules = [type(kernel).__module__ for kernel in native.values()]
    assert not any(module.startswith(itkwasm.__name__) for module in modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "kernel_backend", "itkwasm")
        for method in Methods:
            module = type(kernel_for(method)).__module__
            assert module.startswith(itkwasm.__name__) == method.startswith("itkwasm_")


@pytest.mark.parametrize("name", ["wasm", "", None, "Native"])
def test_an_unknown_back_end_is_refused_when_it_is_set(name: object) -> None:
    """The setting keeps its value, and the error names those that there are."""
    with pytest.raises(InvalidOptionError, match="use native or itkwasm"):
        config.kernel_backend = name  # type: ignore[assignment]
    assert config.kernel_backend == "native"


def test_warming_leaves_nothing_to_compile() -> None:
    """After it the common dtypes need no compiler: numba knows their signatures."""
    from ngff_core.kernels import gaussian_passes

    warm(["itkwasm_gaussian"], ["uint16"])
    before = list(gaussian_passes.filter_and_sample.dispatcher.signatures)
    image = np.zeros((3, 7, 50, 60), np.uint16)
    kernel_for("itkwasm_gaussian").reduce(image, (0, 0, 0, 0), (1, 1, 4, 3), (3, 7, 12, 20))
    assert gaussian_passes.filter_and_sample.dispatcher.signatures == before


def test_naming_methods_loads_neither_wasm_nor_numba() -> None:
    """Importing the enum costs numpy and no more: the others come with the first sample."""
    code = (
        "import sys, ngff_core.kernels.methods\n"
        "sys.exit(bool({'itkwasm', 'numba'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
