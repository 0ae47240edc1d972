"""What the tests of the cache share: a body that remembers its calls, and a look at what the cache counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from callpyback import CacheObserver, CallPyBack
from kinds import Ended, Kind, ended

LIMIT = 30.0  # seconds until a test that hangs says so


class Body:
    """Returns what it was called with, or what `value` gives, and remembers every call."""

    def __init__(self, value: Callable[[], Any] | None = None) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return (args, kwargs) if self.value is None else self.value()

    @property
    def ran(self) -> int:
        return len(self.calls)


def cached_body(
    cache: CacheObserver | None = None,
    parameters: str = "*args, **kwargs",
    *,
    time_source: Any = None,
    value: Callable[[], Any] | None = None,
) -> tuple[Callable[..., Any], Body]:
    """Return a cached plain function, and its body."""
    body = Body(value)
    decorator = CallPyBack([cache or CacheObserver()], time_source=time_source)
    return Kind("plain").make(body, decorator, parameters), body


def numbers(cache: CacheObserver, *names: str) -> tuple[Any, ...]:
    """Return some of the cache's numbers."""
    stats = cache.get_cache_stats()
    return tuple(stats[name] for name in names)


def waiting(cache: CacheObserver) -> int:
    """Return how many callers wait for a computation."""
    shelves = [shelf for cached in cache._cached() for shelf in cached._shelves._all()]
    flights = [flight for shelf in shelves for flight in list(shelf.flights.values())]
    return sum(len(flight._waiters) for flight in flights)


class Patience:
    """Looks at a condition until it holds, and fails if it never does."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(LIMIT * 1000)):
            if condition():
                return
            self._never.wait(0.001)
        raise AssertionError("it never came")


until = Patience().until


async def turned_until(condition: Callable[[], bool]) -> None:
    """Let other tasks have their turns until a condition holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that must come to its end."""
    return asyncio.run(asyncio.wait_for(main, LIMIT))


def in_threads(*works: Callable[[], Any]) -> Callable[[], list[Ended]]:
    """Start a thread for each; return a function that waits for them and gives what came of each."""
    pool = ThreadPoolExecutor(len(works))
    futures = [pool.submit(ended, work) for work in works]

    def join() -> list[Ended]:
        results = [future.result(LIMIT) for future in futures]
        pool.shutdown()
        return results

    return join


class Hashed:
    """Equal to all others; what is given for a number happens when it is hashed for the so-manieth time."""

    def __init__(self, happens: dict[int, Callable[[], object]] | None = None) -> None:
        self._happens = happens or {}
        self._times = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed)

    def __hash__(self) -> int:
        self._times += 1
        self._happens.get(self._times, int)()
        return 1


class Gate:
    """A body that waits inside until it is let go, and counts how often it was entered."""

    def __init__(self, value: Any = "computed") -> None:
        self.value = value
        self.entered = 0
        self.inside = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> Any:
        self.entered += 1
        self.inside.set()
        assert self.opened.wait(LIMIT)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def gated() -> tuple[CacheObserver, Gate, Callable[..., Any]]:
    """Return a cache, a gate, and a cached function that goes through the gate."""
    cache, gate = CacheObserver(), Gate()

    @CallPyBack([cache])
    def function() -> Any:
        return gate()

    return cache, gate, function
