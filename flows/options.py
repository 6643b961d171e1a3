"""The form of a build's options, as Prefect's pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from ngff_core import BuildOptions
from ngff_core.model.selection import split_dims
from ngff_core.plan.options import Option, describe_options, option_names


def _field(option: Option, default: Any) -> Any:
    """One field of the form: its type, label, text, default and limits."""
    text = (
        f"{option.help} By default {option.default_text}." if option.default_text else option.help
    )
    field = Field(title=option.title, description=text, ge=option.at_least)
    return Annotated[option.plain_type, field], default


# Any: mypy takes no base class that is made at run time.
_OptionsOfTheCore: Any = create_model(
    "_OptionsOfTheCore",
    __config__=ConfigDict(extra="forbid"),
    __module__=__name__,
    **{
        each.name: _field(describe_options()[each.name], each.default)
        for each in fields(BuildOptions)
    },
)


class PyramidOptions(_OptionsOfTheCore):  # type: ignore[misc]
    """How a pyramid is made. Every field has a default that suits most images."""

    public_url: str | None = Field(
        default=None,
        title="Public URL",
        description="http(s) address at which browsers can read the target; the report then links "
        "to viewers. `derive` makes it from a gs:// target, whose bucket must be public.",
        pattern="^(derive|https?://.+)$",
    )

    @classmethod
    def from_core(cls, options: BuildOptions) -> PyramidOptions:
        """The form filled in with ``options``."""
        values = {name: getattr(options, name) for name in option_names()}
        limit = options.memory_limit
        names, colors = options.channel_names, options.channel_colors
        plain = {
            "chunks": _plain(options.chunks),
            "shards": _plain(options.shards),
            "memory_limit": None if limit is None else str(limit),
            "series": None if options.series is None else str(options.series),
            "dims": None if options.dims is None else ",".join(split_dims(options.dims)),
            "channel_names": None if names is None else list(names),
            "channel_colors": None if colors is None else list(colors),
        }
        form: PyramidOptions = cls.model_validate(values | plain)
        return form

    def to_core(self) -> BuildOptions:
        """The same options as `ngff_core` takes them."""
        return BuildOptions(**{name: getattr(self, name) for name in option_names()})


def _plain(sizes: Any) -> Any:
    """Sizes with one number for each axis: the first where dask's form lists every chunk."""
    if isinstance(sizes, Mapping):
        return {dim: _first(size) for dim, size in sizes.items()}
    if isinstance(sizes, str):
        return sizes
    return [_first(size) for size in sizes] if isinstance(sizes, Sequence) else sizes


def _first(size: Any) -> Any:
    return size[0] if isinstance(size, Sequence) else size
