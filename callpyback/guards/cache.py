"""A guard that answers calls with the results of earlier ones."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import checked_count, checked_seconds, checked_switch
from callpyback.core.decorator import handle
from callpyback.core.functions import FunctionKind, full_name
from callpyback.errors import ConfigurationError
from callpyback.guards.base import GuardObserver
from callpyback.guards.cached_function import CachedFunction
from callpyback.observers.parts.keys import Key, takes_instance

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import Admit, GuardEnd


class CacheObserver(GuardObserver):
    """Answers a call with the result of an earlier call with equal arguments, without running the body.

    Around plain functions and coroutine functions. What the body returned is kept for `ttl_seconds`, None included;
    exceptions are not kept, nor values that a handler supplied, nor iterators and coroutines, which can be used only
    once. Everybody gets the same object: who changes it changes it for all. The results used least recently make room
    for new ones (cachetools' `LRUCache`).

    Arguments are compared as `functools.lru_cache` does, by `==` and `hash`, with defaults filled in and keywords in
    any order. They are kept alive with the result, but never `self` or `cls`, unless the result refers to it: methods
    have their results for each instance, compared by identity, and these go with it. A call runs uncached, and is
    counted as `uncacheable`, if an argument can't be hashed, or its instance not be weakly referenced.

    Of simultaneous calls with equal arguments one runs the body and the others wait for its result, threads and tasks
    alike. If it fails, each of them runs the body itself; if it is cancelled, one of them computes in its place. A call
    does not wait where that could not end: inside the computation it would wait for, in the tasks and threads that
    inherit its context, for one that waits for it; nor in a coroutine outside asyncio. What can't be known is a lock:
    do not call while holding one that the body needs.

    Each function has its own results. A hit takes no lock.

    Args:
        ttl_seconds: How long a result is kept, in seconds, by the decorator's clock; None for no limit.
        maxsize: How many results of each function are kept; None for no limit.
        key: What is compared in place of all arguments: called with the call's `arguments` (a dictionary by name), as
            in `key=lambda arguments: arguments["user"]`. If it has a parameter named `instance`, that gets the `self`
            or `cls`, and instances share their results.
        typed: Whether arguments of different types differ, as 1, 1.0 and True.
        priority: Higher is asked earlier.
        name: How it is shown; by default the name of the class.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CacheObserver, CallPyBack
        >>> cache = CacheObserver(ttl_seconds=60)
        >>> @CallPyBack(observers=[cache])
        ... def square(n):
        ...     print("computing")
        ...     return n * n
        >>> square(3), square(n=3)
        computing
        (9, 9)
        >>> stats = cache.get_cache_stats()
        >>> stats["hits"], stats["misses"], stats["hit_rate"]
        (1, 1, 0.5)
    """

    def __init__(
        self,
        ttl_seconds: float | None = 300,
        maxsize: int | None = 1024,
        key: Key | None = None,
        *,
        typed: bool = False,
        priority: float = 90,
        name: str | None = None,
    ) -> None:
        super().__init__(key=key, priority=priority, name=name)
        self.ttl_seconds = ttl_seconds
        self.maxsize = maxsize
        self.typed = typed
        self.validate()

    def validate(self) -> None:
        """Refuse a time or a size that is none.

        Raises:
            ConfigurationError: The message says which.
        """
        if self.ttl_seconds is not None:
            checked_seconds("ttl_seconds", self.ttl_seconds)
        if self.maxsize is not None:
            checked_count("maxsize", self.maxsize)
        checked_switch("typed", self.typed)

    def bind_guard(
        self, function_signature: FunctionSignature, clock: Callable[[], float]
    ) -> tuple[Admit, GuardEnd | None]:
        """Return what decides the calls of one function, and what hears of their ends.

        Raises:
            ConfigurationError: It is a generator function or an async generator function.
        """
        kind = function_signature.kind
        if kind not in (FunctionKind.FUNCTION, FunctionKind.COROUTINE):
            message = (
                f"CacheObserver on {function_signature.qualname}: a {kind} has no value to keep; cache a function "
                "that returns a list of the items"
            )
            raise ConfigurationError(message)
        return super().bind_guard(function_signature, clock)

    def guarding(self, function_signature: FunctionSignature, clock: Callable[[], float]) -> CachedFunction:
        """Return the cache of one function."""
        return CachedFunction(
            function_signature,
            clock,
            ttl_seconds=self.ttl_seconds,
            maxsize=self.maxsize,
            typed=self.typed,
            key=None if self.key is None else self.keyed_by(function_signature),
            shares_instances=self.key is not None and takes_instance(self.key),
        )

    def get_cache_stats(self) -> dict[str, Any]:
        """Return what is known about all functions that still exist, and in `functions` about each by its name.

        `hits` were answered with a kept result, `waits` with the result of a simultaneous call, `misses` ran the body;
        `hit_rate` is the share of hits and waits in these three, None before the first. `uncacheable` calls ran the
        body without being looked up; values that can't be kept count there too. `size` is the number of results kept
        now, `evictions` how many went for room, `expirations` how many because their time was over. `maxsize` and
        `ttl_seconds` are those of each function. Functions that share a name share their numbers.
        """
        named: dict[str, list[CachedFunction]] = {}
        for cached in self._cached():
            named.setdefault(full_name(cached.signature), []).append(cached)
        functions = {name: _added(cached) for name, cached in named.items()}
        limits = {"maxsize": self.maxsize, "ttl_seconds": self.ttl_seconds}
        return {**_added(self._cached()), **limits, "functions": functions}

    def get_metrics(self) -> dict[str, Any]:
        """Return what `get_cache_stats` does."""
        return self.get_cache_stats()

    def clear(self, function: Callable[..., Any] | None = None) -> None:
        """Throw away all results, or those of one decorated function; of a bound method, those of its instance.

        Calls under way are not kept either when they end. The numbers go on.

        Raises:
            ConfigurationError: The function is not cached by this observer.
        """
        if function is None:
            for cached in self._cached():
                cached.clear()
        else:
            self._cached_as(function).clear(*_instance_of(function))

    def invalidate(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> bool:
        """Throw away the result of one call, given as it would be made: `cache.invalidate(load, "ann")`.

        Returns:
            Whether there was one.

        Raises:
            ConfigurationError: The function is not cached by this observer.
        """
        return self._cached_as(function).invalidate((*_instance_of(function), *args), kwargs)

    def reset(self) -> None:
        """Throw away all results, and start the numbers anew."""
        for cached in self._cached():
            cached.clear()
            cached.reset()

    def _cached(self) -> list[CachedFunction]:
        guarded: Any = tuple(self._guarded)
        return list(guarded)

    def _cached_as(self, function: Callable[..., Any]) -> CachedFunction:
        signature = handle(function).signature
        for cached in self._cached():
            if cached.signature is signature:
                return cached
        message = f"{signature.qualname} is not cached by {self!r}: give it to the decorator, as in observers=[cache]"
        raise ConfigurationError(message)


def _added(many: Iterable[CachedFunction]) -> dict[str, Any]:
    total: dict[str, Any] = dict.fromkeys(
        ("hits", "waits", "misses", "uncacheable", "size", "evictions", "expirations"), 0
    )
    for cached in many:
        for name, number in cached.get_metrics().items():
            total[name] += number
    answered = total["hits"] + total["waits"]
    looked_up = answered + total["misses"]
    return {**total, "hit_rate": answered / looked_up if looked_up else None}


def _instance_of(function: Any) -> tuple[Any, ...]:
    """Return the instance of a bound method, as the arguments it stands for."""
    # Not by isinstance: the proxy around a bound method passes for one, and adds no argument.
    return (function.__self__,) if type(function) is types.MethodType else ()
