"""Observers by name: those of this library, those a program registers, and those of installed packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

from callpyback.config.catalogue import BUILT_IN, READERS
from callpyback.config.plugins import loaded, origin_of, plugin_named, plugins
from callpyback.config.schema import Schema, schema_of
from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.safe_repr import one_line, safe_repr, safe_text, type_name
from callpyback.errors import ConfigurationError, nearest

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_PACKAGE: Final = "callpyback"


class ObserverType(NamedTuple):
    """What a name stands for."""

    name: str
    origin: str
    cls: Callable[..., Any]
    schema: Schema


_registered: Final[dict[str, ObserverType]] = {}
"""Changed by single operations alone, which threads can't tear."""
_loaded: Final[dict[str, ObserverType]] = {}
"""The library's own and plug-ins, once they were asked for."""


def register_observer_type(
    name: str, cls: Callable[..., Any], schema: Mapping[str, Any] | None = None, *, replace: bool = False
) -> None:
    """Give observers a name by which `create_observer` and configuration files can ask for them.

    May be called from any thread. A name registered here goes before that of a plug-in.

    Args:
        name: Letters, digits, `_`, `-` and `.`, beginning with a letter.
        cls: The class, or any function that returns an observer when called with options as keywords. If the schema
            names options that it has no parameters for, and it has a parameter `config`, all options are handed over
            as one mapping `config`, with `enabled` among them if the schema names it. What is given for a parameter
            `observer` or `observers` is made into observers first.
        schema: The options: to each name a type (`int`, `list[str]`, `int | None`), several types as a tuple, or a
            function that says whether a value will do. None to ask the signature of `cls`: its names, defaults, and
            annotations as far as they are such types. A whole number will do for a float, and a boolean for no number.
        replace: Whether the name may be taken already, by another registration or by an observer of this library.

    Raises:
        ConfigurationError: The name is none, or taken; or the constructor can't be called with these options.

    Example:
        >>> from callpyback import BaseObserver
        >>> from callpyback.config import create_observer, register_observer_type, unregister_observer_type
        >>> class Bell(BaseObserver):
        ...     def __init__(self, times: int = 1):
        ...         super().__init__()
        ...         self.times = times
        ...     def update(self, context):
        ...         print("ding " * self.times)
        >>> register_observer_type("bell", Bell)
        >>> create_observer("bell", times=3).times
        3
        >>> create_observer("bell", time=3)
        Traceback (most recent call last):
        ...
        callpyback.errors.ConfigurationError: create_observer('bell'): 'bell' has no option 'time' - did you mean \
'times'?; it has times
        >>> unregister_observer_type("bell")
    """
    _check_name(name)
    with looking_at("cls", cls):
        if not callable(cls):
            hint = f"; did you mean {type_name(cls)}?" if hasattr(cls, "update") else ""
            refuse("cls", cls, f"a class of observers, or a function that returns one{hint}")
        own = ObserverType(name, f"registered: {_path_of(cls)}", cls, schema_of(cls, schema))
    if checked_switch("replace", replace):
        _registered[name] = own
    elif name in BUILT_IN:
        refuse("name", name, "a name of its own: this is an observer of the library; replace=True goes before it")
    elif _registered.setdefault(name, own) is not own:
        refuse("name", name, f"a name that is free; this is {_registered[name].origin}; replace=True replaces it")


def unregister_observer_type(name: str) -> None:
    """Take back what `register_observer_type` did; what the name stood for before, if anything, is back.

    Observers made by that name stay as they are.

    Raises:
        ConfigurationError: Nobody has registered it.
    """
    _check_name(name)
    if _registered.pop(name, None) is None:
        refuse("name", name, f"a name that was registered{nearest(name, _registered)}")


def registered_observer_types() -> dict[str, str]:
    """Return all names that can be used now, in order, each with where it comes from. Nothing is imported for it.

    Example:
        >>> from callpyback.config import registered_observer_types
        >>> registered_observer_types()["metrics"]
        'callpyback.observers.metrics:MetricsObserver'
    """
    own = {name: f"{_PACKAGE}.{path}" for name, path in BUILT_IN.items()}
    known = {**plugins(), **own, **{name: known.origin for name, known in _registered.items()}}
    return dict(sorted(known.items()))


def observer_type(name: str) -> ObserverType:
    """Return what a name stands for; it is imported now, if it was not.

    Raises:
        ConfigurationError: Nothing, or it can't be imported.
    """
    known = _registered.get(name) or _loaded.get(name)
    if known is not None:
        return known
    known = _built_in(name, BUILT_IN[name]) if name in BUILT_IN else _plugged_in(name)
    if known is None:
        raise ConfigurationError(_unknown(name))
    return _loaded.setdefault(name, known)


def _built_in(name: str, path: str) -> ObserverType:
    module, _, class_name = path.partition(":")
    try:
        cls = getattr(import_module(f"{_PACKAGE}.{module}"), class_name)
    except ImportError as error:
        message = f"observer type {name!r} can't be imported: {safe_text(error)}; it may need something to be installed"
        raise ConfigurationError(message) from error
    return ObserverType(name, f"{_PACKAGE}.{path}", cls, schema_of(cls, None, READERS))


def _plugged_in(name: str) -> ObserverType | None:
    plugin = plugin_named(name)
    if plugin is None:
        return None
    cls = loaded(plugin)
    if not callable(cls):
        message = (
            f"observer type {name!r} from {origin_of(plugin)} is {safe_repr(cls)}: expected a class of observers, or a "
            "function that returns one"
        )
        raise ConfigurationError(message)
    with looking_at("cls", cls):
        return ObserverType(name, origin_of(plugin), cls, schema_of(cls))


def _unknown(name: str) -> str:
    message = f"unknown observer type {safe_repr(name)}{nearest(name[:100], registered_observer_types())}"
    if _NAME.fullmatch(name) is None or "." in name:
        return f"{message}; a name is never imported, so register_observer_type() has to give it a class first"
    return f"{message}; registered_observer_types() lists all, and register_observer_type() adds one"


def _check_name(name: Any) -> None:
    with looking_at("name", name):
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            refuse("name", name, "a short text of letters, digits, '_', '-' and '.', such as 'my_custom'")


def _path_of(cls: Any) -> str:
    module, name = getattr(cls, "__module__", "?"), getattr(cls, "__qualname__", type_name(cls))
    return one_line(f"{module}.{name}")
