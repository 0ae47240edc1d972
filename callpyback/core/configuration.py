"""Checks of what users hand to `CallPyBack`: each refusal names the parameter, the value, and the way out."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.safe_repr import safe_repr, safe_text, type_name
from callpyback.core.time_sources import clocks_of
from callpyback.errors import ConfigurationError, nearest

_PARAMETERS = {"checked_clocks": "time_source", "checked_extractor": "variable_extractor"}

P = ParamSpec("P")
T = TypeVar("T")


def refuse(parameter: str, value: Any, expected: str) -> NoReturn:
    """Raise the error of a parameter that cannot be used.

    Args:
        parameter: Its name.
        value: What was given.
        expected: What would do, and the way out.

    Raises:
        ConfigurationError: Always.
    """
    message = f"{parameter}={safe_repr(value)} ({type_name(value)}): expected {expected}"
    raise ConfigurationError(message)


def _refuse_class(parameter: str, value: Any) -> None:
    if isinstance(value, type):
        refuse(parameter, value, f"an instance, got the class; did you mean {value.__name__}()?")


@contextmanager
def looking_at(parameter: str, value: Any) -> Iterator[None]:
    """Make a refusal of whatever a hostile value raises while it is looked at."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        message = f"{parameter}={safe_repr(value)} ({type_name(value)}): looking at it raised {safe_text(error)}"
        raise ConfigurationError(message) from error


def _contained(check: Callable[P, T]) -> Callable[P, T]:
    """Make a refusal of whatever a hostile value raises while it is looked at."""

    @functools.wraps(check)
    def contained(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return check(*args, **kwargs)
        except ConfigurationError:
            raise
        except Exception as error:
            given = inspect.signature(check).bind(*args, **kwargs)
            given.apply_defaults()
            usual = _PARAMETERS.get(check.__name__, check.__name__.removeprefix("checked_"))
            parameter = given.arguments.get("parameter", usual)
            value = next(value for name, value in given.arguments.items() if name != "parameter")
            message = f"{parameter}={safe_repr(value)}: looking at it raised {safe_text(error)}"
            raise ConfigurationError(message) from error

    return contained


def refuse_unknown_keywords(function: Callable[..., Any], given: Iterable[str]) -> None:
    """Raise Python's own TypeError for an unknown keyword, with the nearest known name."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return  # a subclass that hands its keywords on
    known = [p.name for p in parameters if p.name != "self"]
    for name in given:
        if name not in known:
            hint = nearest(name, known)
            message = f"CallPyBack() got an unexpected keyword argument {name!r}{hint}; known: {', '.join(known)}"
            raise TypeError(message)


@_contained
def checked_observers(observers: Any) -> list[Any]:
    """Return the observers as a list."""
    if inspect.isroutine(observers):
        refuse("observers", observers, "observers, not the function to decorate: write @CallPyBack() with parentheses")
    looks_alone = callable(getattr(observers, "update", None)) and hasattr(observers, "priority")
    if isinstance(observers, str | bytes | type) or looks_alone or not _is_iterable(observers):
        refuse("observers", observers, "a list of observers, such as observers=[MetricsObserver()]")
    return _listed("observers", observers, "a list of observers")


@_contained
def checked_variable_names(names: Any) -> tuple[str, ...]:
    """Return the names as a tuple."""
    expected = 'a list of names, such as variable_names=["total"]'
    if isinstance(names, str | bytes) or not _is_iterable(names):
        refuse("variable_names", names, expected)
    listed = _listed("variable_names", names, expected)
    for name in listed:
        if not isinstance(name, str) or not name.isidentifier():
            refuse("variable_names", names, f"{expected}; {safe_repr(name)} is no name")
    return tuple(dict.fromkeys(listed))


@_contained
def checked_exception_classes(classes: Any, parameter: str = "exception_classes") -> tuple[type[Exception], ...]:
    """Return the classes as a tuple."""
    expected = f"Exception subclasses, such as {parameter}=(ValueError,)"
    if isinstance(classes, type):
        classes = (classes,)
    if isinstance(classes, str | bytes) or not _is_iterable(classes):
        refuse(parameter, classes, expected)
    listed = _listed(parameter, classes, expected)
    for cls in listed:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            refuse(parameter, classes, f"{expected}; {safe_repr(cls)} is no exception class")
        if not issubclass(cls, Exception):
            refuse(parameter, classes, f"{expected}; {cls.__name__} belongs to the program, not to handlers")
    return tuple(listed)


@_contained
def checked_count(parameter: str, value: Any) -> int:
    """Return a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(parameter, value, "a whole number of at least 1")
    return value


@_contained
def checked_clocks(time_source: Any) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the clocks of a time source; their readings are guarded, so only its shape is checked."""
    _refuse_class("time_source", time_source)
    if time_source is not None and not callable(getattr(time_source, "now", None)):
        refuse("time_source", time_source, "an object with now() in seconds, such as MockTimeSource()")
    sleep, sleep_async = (getattr(time_source, name, None) for name in ("sleep", "sleep_async"))
    if callable(sleep) and kind_of(sleep) is not FunctionKind.FUNCTION:
        refuse("time_source", time_source, "a plain function as its sleep(); sleep_async() is the one to be awaited")
    if callable(sleep_async) and kind_of(sleep_async) is not FunctionKind.COROUTINE:
        refuse("time_source", time_source, "a coroutine function as its sleep_async(): `async def`")
    return clocks_of(time_source)


@_contained
def checked_extractor(extractor: Any) -> Any:
    """Return the extractor; None for the best one for this Python."""
    if extractor is None:
        return None
    _refuse_class("variable_extractor", extractor)
    for name in ("setup_extraction", "extract_variables"):
        if not callable(getattr(extractor, name, None)):
            refuse("variable_extractor", extractor, f"an object with {name}(); this one lacks it")
    return extractor


@_contained
def checked_error_handler(handler: Any) -> Any:
    """Return the handler."""
    if handler is None:
        return None
    _refuse_class("error_handler", handler)
    if not callable(getattr(handler, "handle_error", None)):
        refuse("error_handler", handler, "an object with handle_error(error, context)")
    if kind_of(handler.handle_error) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
        refuse("error_handler", handler, "a handle_error() that returns or raises; remove the `yield`")
    return handler


@_contained
def checked_retry(retry: Any) -> Any:
    """Return what decides about retries."""
    if retry is None:
        return None
    _refuse_class("retry", retry)
    if not callable(getattr(retry, "next_wait", None)):
        refuse("retry", retry, "None or a Retry, such as retry=Retry(attempts=3, on=ConnectionError)")
    return retry


@_contained
def checked_seconds(parameter: str, value: Any, *, zero: bool = False) -> float:
    """Return a finite number of seconds, above 0 unless `zero` is allowed."""
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    if not (is_number and (value > 0 or (zero and value == 0)) and value <= sys.float_info.max):
        refuse(parameter, value, f"a finite number of seconds {'from 0 on' if zero else 'above 0'}, such as 60")
    return float(value)


@_contained
def checked_switch(parameter: str, value: Any) -> bool:
    """Return True or False; anything else is refused, because it was meant for another parameter."""
    if value is not True and value is not False:
        refuse(parameter, value, "True or False")
    return value is True


@_contained
def checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return a copy."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        refuse("metadata", metadata, "a mapping with names as keys, such as metadata={'team': 'shop'}")
    return dict(metadata)


@_contained
def refuse_undecoratable(target: Any) -> None:
    """Refuse classes, and what can't be called."""
    if isinstance(target, type):
        message = (
            f"CallPyBack can't decorate the class {target.__name__}: isinstance and inheritance would break; "
            f"decorate its methods, such as __init__ or __call__, one by one"
        )
        raise ConfigurationError(message)
    if not callable(target) or isinstance(target, staticmethod):
        hint = "; put @CallPyBack() below the other decorator" if hasattr(target, "__get__") else ""
        message = f"CallPyBack can't decorate {safe_repr(target)} ({type_name(target)}): expected a callable{hint}"
        raise ConfigurationError(message)


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable)


def _listed(parameter: str, values: Any, expected: str) -> list[Any]:
    try:
        return list(values)
    except Exception as error:
        message = (
            f"{parameter}={safe_repr(values)}: expected {expected}, but going through it raised {safe_text(error)}"
        )
        raise ConfigurationError(message) from error
