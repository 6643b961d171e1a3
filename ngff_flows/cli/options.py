"""The parameters of the commands; those of a build are made from `BuildOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from ngff_core import BuildOptions
from ngff_core.plan.options import Option, describe_options, option_names
from ngff_flows.cli.parsing import SWITCHED_ON, parse_names, parse_pairs, parse_sizes, parse_switch

Source = Annotated[
    str,
    typer.Argument(
        help="Path or URI of an image file, a folder of one, a zarr array or an OME-Zarr image; "
        "with ::NAME at its end for one image in a file.",
        show_default=False,
    ),
]
Target = Annotated[str, typer.Argument(help="Path or URI of the pyramid, usually NAME.ome.zarr.")]
Throughput = Annotated[
    float,
    typer.Option(
        help="MB/s of uncompressed voxels that a worker reads and writes.", metavar="MB/S"
    ),
]
Compression = Annotated[
    float, typer.Option(help="Expected ratio of uncompressed to stored bytes.", metavar="RATIO")
]
StorageOptionsText = Annotated[
    str | None,
    typer.Option(
        "--storage-options",
        help="Options for fsspec's filesystems, such as credentials: a JSON object, or @FILE to "
        'read one from a file. By protocol where source and target differ: {"gs": {...}, "s3": '
        "{...}}. [default: from the environment and ~/.config/fsspec]",
        show_default=False,
        metavar="JSON",
    ),
]
Block = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-block",
        help="A saved Prefect block with the credentials, such as gcs-bucket/lab. Repeat it where "
        "source and target need different blocks.",
        show_default=False,
        metavar="KIND/NAME",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def with_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options ``names`` of a build, by default all of them.

    They take the place of the command's parameter ``options``, which receives a `BuildOptions`.
    """
    shared = {name: _parameter(name) for name in names or option_names()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)

        @wraps(command)
        def parsed(**given: Any) -> None:
            values = {name: _parsed(name, given.pop(name)) for name in shared}
            command(options=BuildOptions(**values), **given)

        parameters: list[inspect.Parameter] = []
        for name, parameter in own.parameters.items():
            parameters += shared.values() if name == "options" else [parameter]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        # Typer reads both; without them it would see the parameters of `command`.
        parsed.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        parsed.__annotations__ = {p.name: p.annotation for p in parameters}
        return parsed

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    """The parameter of a command for one option of a build."""
    option = describe_options()[name]
    default = next(field.default for field in fields(BuildOptions) if field.name == name)
    kind = _kind(option)
    switched_on = kind is bool and default is True
    if switched_on:
        # What is on can only be switched off by a value.
        kind, default = str, SWITCHED_ON
    if default is not None and kind is str:
        default = str(getattr(default, "value", default))
    info = typer.Option(
        _flag(name),
        help=_help(option),
        show_default=default is not None and kind is not bool,
        metavar="on|off" if switched_on else _metavar(option),
        min=option.at_least,
    )
    given = kind if default is not None else kind | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[given, info]
    )


def _parsed(name: str, value: Any) -> Any:
    """An option's value from how the command line spells it."""
    option = describe_options()[name]
    flag = _flag(name).removeprefix("--")
    if _is_sizes(option):
        return value if value in _words(option) else parse_sizes(flag, value)
    if option.plain_type is bool and isinstance(value, str):
        return parse_switch(flag, value)
    if _is_pairs(option):
        return parse_pairs(flag, value, _value_type(option), alone=_may_be_alone(option))
    if _is_names(option):
        return parse_names(value)
    return value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kind(option: Option) -> Any:
    """The type that typer parses. Names are plain text: `ngff_core` has better errors for them."""
    members = {option.plain_type, *get_args(option.plain_type)}
    if _is_sizes(option) or _is_pairs(option) or _is_names(option):
        return str
    return next((kind for kind in (bool, int, float) if kind in members), str)


def _is_sizes(option: Option) -> bool:
    """Whether the option takes numbers by axis or by level."""
    return _has(option, lambda each: get_origin(each) is list and get_args(each) != (str,))


def _words(option: Option) -> tuple[str, ...]:
    """Words that stand for a value which is no number."""
    literal = [each for each in get_args(option.plain_type) if get_origin(each) is Literal]
    return tuple(word for each in literal for word in get_args(each))


def _is_names(option: Option) -> bool:
    """Whether the option takes a list of names."""
    return _has(option, lambda each: get_origin(each) is list and get_args(each) == (str,))


def _is_pairs(option: Option) -> bool:
    """Whether the option takes values by axis and nothing else, or else one text."""
    return not _is_sizes(option) and _has(option, lambda each: get_origin(each) is dict)


def _has(option: Option, test: Callable[[Any], bool]) -> bool:
    return any(test(each) for each in get_args(option.plain_type))


def _value_type(option: Option) -> Any:
    pairs = next(each for each in get_args(option.plain_type) if get_origin(each) is dict)
    return get_args(pairs)[1]


def _may_be_alone(option: Option) -> bool:
    return str in get_args(option.plain_type)


def _help(option: Option) -> str:
    default = f" [default: {option.default_text}]" if option.default_text else ""
    spelling = " Write a number, numbers separated by commas, or JSON." if _is_sizes(option) else ""
    return f"{option.help}{spelling}{default}"


def _metavar(option: Option) -> str | None:
    if get_origin(option.plain_type) is Literal:
        return "|".join(get_args(option.plain_type))
    members = (option.plain_type, *get_args(option.plain_type))
    if any(isinstance(each, type) and issubclass(each, Enum) for each in members):
        return "NAME"
    if _is_pairs(option):
        return "AXIS=VALUE,…"
    if _is_names(option):
        return "NAME,…"
    if _is_sizes(option):
        return "|".join(("SIZES", *_words(option)))
    return None
