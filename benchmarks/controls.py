"""What everything is measured against: the bare bodies, a wrapper that does nothing, and a timer written by hand."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import Any, Final, NamedTuple

from benchmarks.measuring import Subject, awaited, called, iterated, iterated_async


class Kind(NamedTuple):
    """A kind of callable: a body, what it is wrapped in to compare with, and how it is driven."""

    body: Callable[..., Any]
    empty: Callable[..., Any]
    timer: Callable[..., Any]
    driven: Callable[..., Subject]


def plain(number: int) -> int:
    return number


async def coroutine(number: int) -> int:
    return number


def generator(items: int) -> Iterator[int]:
    for item in range(items):  # noqa: UP028 - the body's own loop is what is wrapped
        yield item


async def async_generator(items: int) -> AsyncIterator[int]:
    for item in range(items):
        yield item


def failing(number: int) -> int:
    raise ValueError(number)


def empty(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a plain function and do nothing."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def empty_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a coroutine function and do nothing."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def empty_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a generator function and do nothing."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return (yield from function(*args, **kwargs))

    return wrapper


def empty_async_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async generator function and do nothing; what is sent or thrown in gets no further, as usual."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        async for item in function(*args, **kwargs):
            yield item

    return wrapper


def timer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Time a plain function, and do nothing with the time."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            _elapsed = perf_counter() - started

    return wrapper


def timer_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Time a coroutine function until it is awaited to the end."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return await function(*args, **kwargs)
        finally:
            _elapsed = perf_counter() - started

    return wrapper


def timer_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Time the life of a generator, its consumer's time included: the least that can be written by hand."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return (yield from function(*args, **kwargs))
        finally:
            _elapsed = perf_counter() - started

    return wrapper


def timer_async_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Time the life of an async generator, its consumer's time included."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            async for item in function(*args, **kwargs):
                yield item
        finally:
            _elapsed = perf_counter() - started

    return wrapper


KINDS: Final = {
    "function": Kind(plain, empty, timer, called),
    "coroutine": Kind(coroutine, empty_coroutine, timer_coroutine, awaited),
    "generator": Kind(generator, empty_generator, timer_generator, iterated),
    "async generator": Kind(async_generator, empty_async_generator, timer_async_generator, iterated_async),
}
