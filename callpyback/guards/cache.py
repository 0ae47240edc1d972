"""A guard that answers calls with the results of earlier ones."""

from __future__ import annotations

import itertools
import math
import sys
import types
from collections.abc import Callable, Hashable, Iterable
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import refuse
from callpyback.core.decorator import handle
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import FunctionKind
from callpyback.core.state_machine import Outcome
from callpyback.errors import NO_VALUE, ConfigurationError, StopProcessing
from callpyback.guards.base import GuardObserver, Key, _takes_instance
from callpyback.guards.cache_entries import Shelves
from callpyback.guards.cache_keys import ArgumentKeys, parameters_of
from callpyback.guards.single_flight import ALONE, LATE, Flight, FlightWait, left
from callpyback.observers.base import checked_switch, full_name, looking_at

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.guards.cache_entries import Shelf
    from callpyback.protocols import Admit, GuardEnd

_SUCCESS: Final = Outcome.SUCCESS


class CacheObserver(GuardObserver):
    """Answers a call with the result of an earlier call with equal arguments, without running the body.

    Around plain functions and coroutine functions. What the body returned is kept for `ttl_seconds`, None included;
    exceptions are not kept, nor values that a handler supplied, nor iterators and coroutines, which can be used only
    once. Everybody gets the same object: who changes it changes it for all. The results used least recently make room
    for new ones (cachetools' `LRUCache`).

    Arguments are compared as `functools.lru_cache` does, by `==` and `hash`, with defaults filled in and keywords in
    any order. They are kept alive with the result, but never `self` or `cls`: methods have their results for each
    instance, compared by identity, and these go with it. A call runs uncached, and is counted as `uncacheable`, if an
    argument can't be hashed, or its instance not be weakly referenced.

    Of simultaneous calls with equal arguments one runs the body and the others wait for its result, threads and tasks
    alike. If it fails or is cancelled, each of them runs the body itself. A call does not wait where that could not
    end: inside the computation it would wait for, in the tasks and threads that inherit its context, for one that
    waits for it; nor in a coroutine outside asyncio. What can't be known is a lock: do not call while holding one that
    the body needs.

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
        self.typed = checked_switch("typed", typed)
        self.validate()

    def validate(self) -> None:
        """Refuse a time or a size that is none.

        Raises:
            ConfigurationError: The message says which.
        """
        with looking_at("ttl_seconds", self.ttl_seconds):
            if self.ttl_seconds is not None and not _is_positive(self.ttl_seconds, int | float):
                refuse("ttl_seconds", self.ttl_seconds, "a finite number of seconds above 0, or None for no limit")
        with looking_at("maxsize", self.maxsize):
            if self.maxsize is not None and not _is_positive(self.maxsize, int):
                refuse("maxsize", self.maxsize, "a whole number of at least 1, or None for no limit")

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
        return CachedFunction(function_signature, clock, self)

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


class CachedFunction:
    """The results of one function, and the calls that wait for some.

    Attributes:
        signature: Of the function.
        admit: Decides one call, as `BindableGuard` has it.
    """

    def __init__(self, signature: FunctionSignature, clock: Callable[[], float], settings: CacheObserver) -> None:
        self.signature = signature
        self._clock = clock
        self._ttl = math.inf if settings.ttl_seconds is None else float(settings.ttl_seconds)
        self._typed = settings.typed
        self._shelves = Shelves(math.inf if settings.maxsize is None else settings.maxsize, clock)
        parameters = parameters_of(signature)
        self._keys = ArgumentKeys(parameters, typed=settings.typed)
        self._method_keys = ArgumentKeys(parameters[1:], typed=settings.typed)
        self._first = parameters[0].name if parameters else ""
        self._key = None if settings.key is None else settings.keyed_by(signature)
        self._has_own_instance = signature.bind((), {})[1] is not None  # a bound method is decorated
        self._is_shared = self._has_own_instance or (settings.key is not None and _takes_instance(settings.key))
        self._hits, self._waits, self._misses, self._uncacheable = (itertools.count() for _ in range(4))
        self._before = [0, 0, 0, 0]
        self.admit = self._admitting()
        reset_after_fork(self)

    def _admitting(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        if self._key is not None:
            return self._admit
        anything = object()
        is_method = not self._has_own_instance and self.signature.bind((anything,), {})[1] is anything
        return self._admit_method() if is_method else self._admit_function()

    def _admit_function(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """Return what decides a call of a function fast if all arguments are given by position, and are known."""
        arity, typed, endless, clock = self._keys.arity, self._typed, self._ttl == math.inf, self._clock
        find, use, hits, otherwise = self._shelves.common.entries.get, self._shelves.uses.append, self._hits, self._admit

        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs or len(args) != arity:
                return otherwise(args, kwargs)
            try:
                entry = find((args, tuple(map(type, args))) if typed else args)
            except Exception:  # noqa: BLE001 - a `__hash__` or `__eq__` of an argument
                return self._count_uncacheable()
            if entry is None or not (endless or clock() < entry.expires):
                return otherwise(args, kwargs)
            use(entry)
            next(hits)
            return entry.answer

        return admit

    def _admit_method(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """Return what does the same for a method."""
        arity, typed, endless, clock = self._method_keys.arity + 1, self._typed, self._ttl == math.inf, self._clock
        shelf_of, use, hits, otherwise = self._shelves.find_by_number, self._shelves.uses.append, self._hits, self._admit

        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs or len(args) != arity or not args:
                return otherwise(args, kwargs)
            shelf = shelf_of(id(args[0]))
            if shelf is None:
                return otherwise(args, kwargs)
            key = args[1:]
            try:
                entry = shelf.entries.get((key, tuple(map(type, key))) if typed else key)
            except Exception:  # noqa: BLE001 - a `__hash__` or `__eq__` of an argument
                return self._count_uncacheable()
            if entry is None or not (endless or clock() < entry.expires):
                return otherwise(args, kwargs)
            use(entry)
            next(hits)
            return entry.answer

        return admit

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            key = None if self._key is None else self._key(args, kwargs)
        except BaseException:
            self._count_uncacheable()
            raise
        try:
            return self._decide(*self._located(args, kwargs, key))
        except Exception:  # noqa: BLE001 - the arguments' own methods, or no arguments for this function
            return self._count_uncacheable()

    def _located(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable) -> tuple[Shelf, Hashable]:
        """Return the shelf and the key of a call."""
        instance = None if self._is_shared else self.signature.bind(args, kwargs)[1]
        shelf = self._shelves.common if instance is None else self._shelves.of(instance)
        if self._key is not None:
            return shelf, (key, type(key)) if self._typed else key
        if instance is None:
            return shelf, self._keys.of(args, kwargs)
        others = kwargs if args else {name: value for name, value in kwargs.items() if name != self._first}
        return shelf, self._method_keys.of(args[1:], others)

    def _decide(self, shelf: Shelf, key: Hashable) -> Any:
        """Answer the call, let it wait, or have it compute."""
        if (entry := self._valid(shelf, key)) is not None:
            return self._hit(entry)
        computation = Computation(self, shelf, key)
        own = computation.flight
        flight = shelf.flights.setdefault(key, own)
        if flight.landed:  # its key had another hash when it was over
            flight = shelf.flights[key] = own
        if flight is not own:
            return FlightWait(flight, partial(self._decide_after_waiting, shelf, key))
        # Another one may have been kept, and its flight removed, since the first look.
        if (entry := self._valid(shelf, key)) is not None:
            computation.land(entry.answer)
            return self._hit(entry)
        next(self._misses)
        computation.take_off()
        return computation

    def _decide_after_waiting(self, shelf: Shelf, key: Hashable, came: Any) -> Any:
        if came is LATE:
            return self._decide(shelf, key)
        if came is ALONE:
            next(self._misses)
            return Computation(self, shelf, key)
        next(self._waits)
        return came

    def _valid(self, shelf: Shelf, key: Hashable) -> Any:
        entry = shelf.entries.get(key)
        return entry if entry is not None and (self._ttl == math.inf or self._clock() < entry.expires) else None
