"""Arrays in memory, lazy arrays of other packages, and images made of them."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import zarr

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.image import NgffImage
from ngff_core.sources.base import check_array, whole_unit
from ngff_core.sources.contract import (
    ImageDescription,
    Pins,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.ome_zarr.arrays import zarr_array_identity
from ngff_core.sources.ome_zarr.nodes import array_unit, named_dims


def array_images(source: Any) -> SourceImages:
    """An array, or the array of an `NgffImage`, as a source. The caller's object is not changed.

    A numpy array is identified by its content, a dask array by its name, a zarr array by
    where it is stored and by what is stored there. Axes that an array does not name are the
    documented defaults of `NgffImage`.
    """
    data = source.data if isinstance(source, NgffImage) else source
    name = source.name if isinstance(source, NgffImage) else "image"
    _check_is_array(data, f"array:{name}")
    image = source if isinstance(source, NgffImage) else NgffImage(data, dims=_dims(data))
    return SourceImages(
        identity=_identity(data, name),
        kind="array",
        format="an array",
        images=(_described(image, of_caller=isinstance(source, NgffImage)),),
        open_image=lambda _: Samples(data, _unit(data)),
    )


def _described(image: NgffImage, *, of_caller: bool) -> ImageDescription:
    origin = "the NgffImage" if of_caller else "the default for arrays"
    sizes = {"scale": origin, "translation": origin} if of_caller else {}
    return ImageDescription(
        name=image.name,
        axes=tuple(image.dims),
        shape=tuple(int(n) for n in image.data.shape),
        dtype=np.dtype(image.data.dtype).str,
        # What an NgffImage says is known, also where it says 1.
        placement=Placement(
            dict(image.scale) if of_caller else {},
            dict(image.axes_units or {}),
            dict(image.translation) if of_caller else {},
            dict(image.axes_orientations or {}),
        ),
        origins={"axes": origin, **sizes},
    )


def _check_is_array(data: Any, uri: str) -> None:
    if not all(hasattr(data, a) for a in ("shape", "dtype", "__getitem__")):
        raise InvalidOptionError(
            f"source: a {type(data).__name__} cannot be read; give a path, a URI, an NgffImage, "
            "or an array with shape, dtype and slicing"
        )
    if any(not float(n).is_integer() for n in data.shape):
        raise SourceFormatError(f"{uri}: the shape {data.shape} is not fully known")
    check_array(data.shape, np.dtype(data.dtype), uri)


def _dims(data: Any) -> tuple[str, ...]:
    return (named_dims(data) or ()) if isinstance(data, zarr.Array) else ()


def _is_dask(data: Any) -> bool:
    # By the name of the class's module, so that dask is not imported where it is not used.
    return type(data).__module__.partition(".")[0] == "dask"


def _identity(data: Any, name: str) -> SourceIdentity:
    if isinstance(data, zarr.Array):
        return zarr_array_identity(data, name)
    if _is_dask(data):
        return SourceIdentity(f"array:{name}", (("dask", str(data.name)),))
    return SourceIdentity(f"array:{name}", _token(data))


def _token(data: Any) -> Pins:
    from dask.base import tokenize

    try:
        return (("token", tokenize(data)),)
    except Exception:  # noqa: BLE001 - any kind of object may be here, with any error
        # An array that cannot be identified is never taken for an earlier one.
        return (("token", uuid.uuid4().hex),)


def _unit(data: Any) -> Shape:
    if isinstance(data, zarr.Array):
        return array_unit(data)
    if _is_dask(data):
        return tuple(max(sizes) for sizes in data.chunks)
    chunks: Any = getattr(data, "chunks", None)
    if _is_chunk_shape(chunks, len(data.shape)):
        return whole_unit(chunks)
    return (1,) * len(data.shape)


def _is_chunk_shape(chunks: Any, ndim: int) -> bool:
    # Arrays of h5py and others have chunk shapes as zarr has; other objects may mean anything
    # by an attribute of this name.
    return (
        isinstance(chunks, tuple)
        and len(chunks) == ndim
        and all(isinstance(c, int) and c > 0 for c in chunks)
    )
