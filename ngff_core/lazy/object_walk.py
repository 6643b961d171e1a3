"""All objects that a value holds: in containers, attributes, slots, closures and named globals.

A dask graph is such a value, in whatever form dask keeps it: legacy tuples, tasks, layers that
are not expanded yet, fused subgraphs. Only what Python's garbage collector sees is relied on.
"""

from __future__ import annotations

import gc
import sys
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from logging import Logger
from threading import Thread
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from ngff_core.lazy.dask_compat import parts_of_task

_ATOMS: frozenset[type] = frozenset(
    {int, float, complex, bool, bytes, type(None), slice, range, type(Ellipsis)}
)
"""Types of values that hold nothing; a graph has millions of them."""

_BEYOND = (
    type,
    ModuleType,
    FrameType,
    GeneratorType,
    CodeType,
    AbstractEventLoop,
    Logger,
    Thread,
    weakref.ReferenceType,
    np.dtype,
    np.generic,
)
"""Ways out of the value into the rest of the process."""

_LIBRARIES = frozenset(
    {"dask", "distributed", "numpy", "toolz", "tlz", "zarr", *sys.stdlib_module_names}
)
"""Their functions name nothing of the caller's."""


def reachable(
    roots: Iterable[object],
    of_interest: Callable[[type], bool],
    is_leaf: Callable[[Any], bool],
) -> Iterator[Any]:
    """Every text that ``roots`` hold, and every object whose type is ``of_interest``, each once.

    What such an object holds is not looked at where ``is_leaf`` is true of it. Nothing is
    computed or imported. A function's globals count where its code names them. A graph of
    11 000 tasks takes 0.2 s of processor time.
    """
    seen: set[int] = set()
    texts: set[str] = set()
    # Asking for each object whether it is of one of twenty abstract types would take minutes.
    ways: dict[type, _Way] = {}
    stack = list(roots)
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind in _ATOMS:
            continue
        if kind is str:
            if value not in texts:
                texts.add(value)  # type: ignore[arg-type]
                yield value
            continue
        if kind is tuple:
            items = [item for item in value if type(item) not in _ATOMS]  # type: ignore[attr-defined]
            if all(type(item) is str for item in items):
                # The key of a task: there are too many to remember each.
                stack.extend(item for item in items if item not in texts)
                continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        way = ways.get(kind) or ways.setdefault(kind, _way_of(kind, of_interest))
        if way.of_interest:
            yield value
            if is_leaf(value):
                continue
        stack.extend(way.held(value))


@dataclass(frozen=True)
class _Way:
    """How objects of one type are treated: whether they are yielded, and what they hold."""

    of_interest: bool
    held: Callable[[Any], Iterable[object]]


def _way_of(kind: type, of_interest: Callable[[type], bool]) -> _Way:
    return _Way(of_interest(kind), _held_by(kind))


def _held_by(kind: type) -> Callable[[Any], Iterable[object]]:
    """What gives the objects that one of ``kind`` holds."""
    if issubclass(kind, _BEYOND):
        return lambda _: ()
    if kind in (tuple, list, set, frozenset):
        return lambda value: value
    if kind is dict:
        return lambda value: (*value.keys(), *value.values())
    if issubclass(kind, FunctionType):
        return _held_by_function
    if issubclass(kind, np.ndarray):
        # A view of a file that is mapped into memory leads to it.
        return lambda a: (a.base, *(a.ravel().tolist() if a.dtype.hasobject else ()))
    return parts_of_task(kind) or gc.get_referents


def _held_by_function(function: FunctionType) -> Iterator[object]:
    yield function.__defaults__
    yield function.__kwdefaults__
    # decorators leave the function that they wrap here
    yield function.__dict__
    for cell in function.__closure__ or ():
        # of a name that has no value yet
        yield from gc.get_referents(cell)
    if (function.__module__ or "").partition(".")[0] in _LIBRARIES:
        return
    for code in _codes(function.__code__):
        yield from code.co_consts
        for name in code.co_names:
            named = function.__globals__.get(name)
            if _is_of(function, named):
                yield named


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those defined inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _is_of(function: FunctionType, named: object) -> bool:
    """Whether a global is the caller's own: a value, or a function of the same module."""
    if isinstance(named, FunctionType):
        return named.__globals__ is function.__globals__
    return not isinstance(named, _BEYOND)
