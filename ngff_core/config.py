"""Settings of this process. None of them changes a stored byte.

Each has a default, and can be set in two ways: by an environment variable, read when
`ngff_core` is imported, or in Python::

    NGFF_MEMORY_TARGET=2GiB ngff-flows build …
    ngff_core.config.memory_target = 2**31

`docs/settings.md` lists them all.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from ngff_core.errors import InvalidOptionError
from ngff_core.memory import available_memory

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PREFIX = "NGFF_"
KERNEL_BACKENDS = ("native", "itkwasm")

# Variables that start with the prefix and are read elsewhere: docs/settings.md has them too.
_READ_ELSEWHERE = ("NGFF_FLOWS_", "NGFF_RECEIVER_", "NGFF_DATA")
_LOGGERS = ("ngff_core", "tasks", "flows", "ngff_flows")

logger = logging.getLogger(__name__)

type LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def available_cores() -> int:
    """Number of cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def parse_size(value: Any) -> int:
    """Bytes, from a number or from a size such as ``2GiB`` or ``500MB``.

    Raises ValueError for anything else, and for less than one byte.
    """
    from pydantic import ByteSize, TypeAdapter

    nbytes = int(TypeAdapter(ByteSize).validate_python(value))
    if nbytes < 1:
        raise ValueError("a size must be at least one byte")
    return nbytes


def _user_cache() -> Path:
    """The folder in which this system keeps files that programs can make again."""
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "ngff-flows"


@dataclass(frozen=True)
class Setting:
    """The default of a setting, and the values that it accepts."""

    default: Callable[[], Any]
    default_text: str
    """The default as documentation shows it."""
    expected: str
    """The accepted values in words; error messages end with it."""
    above: float | None = None
    at_least: float | None = None
    parse: Callable[[Any], Any] | None = None
    """Converts a value before its type is checked; a ValueError refuses it."""


def _half_of_the_memory() -> int:
    return available_memory() // 2


def _unset() -> None:
    return None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _fixed(
    default: Any, expected: str, *, above: float | None = None, at_least: float | None = None
) -> Setting:
    """A setting whose default is the same everywhere."""
    return Setting(lambda: default, str(default), expected, above, at_least)


class Config:
    """Settings of this process; assign to an attribute to change one.

    Attributes
    ----------
    memory_target
        Bytes that a build may hold in memory where it is given no ``memory_limit``.
    task_target
        `to_multiscales` caches an array whose dask graph has more tasks than this.
    cache_store
        Where `to_multiscales` caches: a path, a URI, a zarr store or a mapping.
    kernel_backend
        Implementation of the ``itkwasm_*`` methods: ``"native"`` or ``"itkwasm"``.
    lease_seconds, receipt_seconds, region_seconds
        How long a lease lasts, how often receipts are stored, how long requests may fail.
    region_retries
        Failed requests of one region that are tried again before the build gives up.
    log_level
        Level of the log; None for the default of the program.

    Examples
    --------
    >>> import ngff_core
    >>> ngff_core.config.task_target
    50000

    An environment variable with an unusable value leaves its setting without a value:
    `check`, and every use of the setting, raise an `InvalidOptionError` that names the variable.
    """

    memory_target: Annotated[
        int,
        Setting(
            _half_of_the_memory,
            "half of the memory available at the start",
            "a size: bytes, or text such as 2GiB or 500MB",
            parse=parse_size,
        ),
    ]
    """Bytes that a build may hold in memory where it is given no ``memory_limit``."""

    task_target: Annotated[int, _fixed(50_000, "a whole number of 1 or more", at_least=1)]
    """``to_multiscales`` caches an array whose dask graph has more tasks than this."""

    cache_store: Annotated[
        Any, Setting(_user_cache, "`ngff-flows` in the user's cache folder", "a path or a URI")
    ]
    """Where ``to_multiscales`` caches: a path, a URI, a zarr store or a mapping."""

    kernel_backend: Annotated[
        Literal["native", "itkwasm"], _fixed("native", " or ".join(KERNEL_BACKENDS))
    ]
    """The implementation of the ``itkwasm_*`` methods: ``native`` code, or the ``itkwasm``
    module, which gives the same bytes, takes 8 to 250 times as long and refuses some dtypes."""

    lease_seconds: Annotated[float, _fixed(60.0, "a number of seconds above 0", above=0)]
    """A builder on another machine that has not renewed its lease for this long counts as dead."""

    receipt_seconds: Annotated[float, _fixed(2.0, "a number of seconds, 0 or more", at_least=0)]
    """Receipts are stored at least this often; a crash loses at most this much work."""

    region_retries: Annotated[int, _fixed(300, "a whole number of 0 or more", at_least=0)]
    """Failed requests of one region that are tried again before the build gives up. A region
    takes some hundred requests at most, so this is far more than 5 % of them."""

    region_seconds: Annotated[float, _fixed(300.0, "a number of seconds, 0 or more", at_least=0)]
    """Seconds for which requests of one region may keep failing before the build gives up."""

    log_level: Annotated[
        LogLevel | None,
        Setting(
            _unset,
            "that of Python's logging",
            "DEBUG, INFO, WARNING or ERROR",
            parse=_upper,
        ),
    ]
    """The least severe messages that ngff-flows' own loggers pass on."""

    def __init__(self) -> None:
        values = {name: setting.default() for name, setting in settings().items()}
        self.__dict__.update(values, _invalid={})
        given = {
            name: os.environ[variable(name)] for name in values if variable(name) in os.environ
        }
        if given:
            read = _from_environment(given)
            for name in given.keys() - read.keys():
                del self.__dict__[name]
                self.__dict__["_invalid"][name] = _refusal(variable(name), name, given[name])
            self.__dict__.update(read)
            _set_log_level(self.__dict__.get("log_level"))
        _warn_of_misspelt(os.environ)

    def check(self) -> None:
        """Raise InvalidOptionError where an environment variable has an unusable value."""
        for message in self.__dict__["_invalid"].values():
            raise InvalidOptionError(message)

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what the instance does not have.
        invalid = self.__dict__.get("_invalid", {})
        if name in invalid:
            raise InvalidOptionError(invalid[name])
        raise AttributeError(_unknown(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in settings():
            raise AttributeError(_unknown(name))
        try:
            accepted = _adapter(name).validate_python(value)
        except ValueError:
            # Without its cause, which would be a page of pydantic's.
            raise InvalidOptionError(_refusal(name, name, value)) from None
        self.__dict__[name] = accepted
        self.__dict__["_invalid"].pop(name, None)
        if name == "log_level":
            _set_log_level(accepted)

    def __repr__(self) -> str:
        values = (f"{name}={self.__dict__.get(name)!r}" for name in settings())
        return f"Config({', '.join(values)})"


def variable(name: str) -> str:
    """The environment variable of a setting.

    >>> variable("memory_target")
    'NGFF_MEMORY_TARGET'
    """
    return PREFIX + name.upper()


@cache
def settings() -> dict[str, Setting]:
    """Every setting by its name."""
    return {
        name: next(each for each in hint.__metadata__ if isinstance(each, Setting))
        for name, hint in get_type_hints(Config, include_extras=True).items()
    }


def _annotation(name: str) -> Any:
    """The type of a setting as pydantic takes it, with what the setting accepts."""
    from pydantic import BeforeValidator, Field

    hint = get_type_hints(Config)[name]
    setting = settings()[name]
    hint = Annotated[hint, Field(gt=setting.above, ge=setting.at_least)]
    return Annotated[hint, BeforeValidator(setting.parse)] if setting.parse is not None else hint


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_annotation(name))


def _from_environment(names: Collection[str]) -> dict[str, Any]:
    """The usable values among the variables of the settings ``names``."""
    # Imported only where a variable is set: it takes a third as long as the rest of `ngff_core`.
    from pydantic import ValidationError, create_model
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=PREFIX)

    fields: dict[str, Any] = {name: (_annotation(name), ...) for name in names}
    try:
        read = create_model("Environment", __base__=Environment, **fields)()
    except ValidationError as error:
        refused = {str(each["loc"][0]) for each in error.errors()}
        rest = set(names) - refused
        return _from_environment(rest) if rest else {}
    return {name: getattr(read, name) for name in names}


def _refusal(where: str, name: str, value: Any) -> str:
    return f"{where}: {value!r} is not accepted; use {settings()[name].expected}"


def _unknown(name: str) -> str:
    return f"ngff_core.config has no setting {name!r}; it has {', '.join(settings())}"


def _set_log_level(level: str | None) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level or logging.NOTSET)


def _warn_of_misspelt(environment: Iterable[str]) -> None:
    """Warn of variables that are none of ours and look like one: others use the prefix too."""
    known = [variable(name) for name in settings()]
    others = [name for name in environment if name.startswith(PREFIX) and name not in known]
    for name in others:
        if not name.startswith(_READ_ELSEWHERE):
            from difflib import get_close_matches

            for meant in get_close_matches(name, known, 1, 0.8):
                logger.warning("%s is no setting and is ignored; did you mean %s?", name, meant)


config = Config()
"""The settings of this process."""
