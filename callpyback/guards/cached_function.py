"""The cache of one function: which calls it answers, which wait, and which compute."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from callpyback.core.forks import reset_after_fork
from callpyback.core.state_machine import Outcome
from callpyback.errors import NO_VALUE, StopProcessing
from callpyback.guards.cache_entries import Shelves
from callpyback.guards.cache_keys import ArgumentKeys, parameters_of
from callpyback.guards.single_flight import ALONE, LATE, Flight, FlightWait, left

if TYPE_CHECKING:
    from contextvars import Token

    from callpyback.core.functions import FunctionSignature
    from callpyback.guards.cache_entries import Entry, Shelf

    Decide = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class CachedFunction:
    """The results of one function, and who waits for one.

    Args:
        signature: Of the function.
        clock: Monotonic, in seconds.
        ttl_seconds: How long a result is kept; None for no limit.
        maxsize: How many are kept; None for no limit.
        typed: Whether arguments of different types differ.
        key: Gives what is compared in place of the arguments.
        shares_instances: Whether a method has the same results for all instances.

    Attributes:
        admit: Decides one call, as `BindableGuard` has it.
    """

    def __init__(
        self,
        signature: FunctionSignature,
        clock: Callable[[], float],
        *,
        ttl_seconds: float | None,
        maxsize: int | None,
        typed: bool,
        key: Callable[[tuple[Any, ...], dict[str, Any]], Hashable] | None,
        shares_instances: bool,
    ) -> None:
        self.signature = signature
        self._clock = clock
        self._ttl = math.inf if ttl_seconds is None else float(ttl_seconds)
        self._typed = typed
        self._key = key
        self._is_bound = signature.bind((), {})[1] is not None  # a bound method is decorated: it has one instance
        self._is_divided = not (self._is_bound or shares_instances)
        parameters = parameters_of(signature)
        self._first = parameters[0].name if parameters else ""
        self._keys = ArgumentKeys(parameters, typed=typed)
        self._method_keys = ArgumentKeys(parameters[1:], typed=typed)
        self._shelves = Shelves(math.inf if maxsize is None else maxsize, clock)
        self._counters = tuple(itertools.count() for _ in range(4))
        self._hits, self._waits, self._misses, self._uncacheable = self._counters
        self._counted_before = (0, 0, 0, 0)
        self.admit = self._fastest()
        reset_after_fork(self)

    def _fastest(self) -> Decide:
        if self._key is not None:
            return self._admit
        anything = object()
        is_method = not self._is_bound and self.signature.bind((anything,), {})[1] is anything
        return self._fast_for_methods() if is_method else self._fast_for_functions()

    def _fast_for_functions(self) -> Decide:
        """Return what decides like `_admit`, and fast where all arguments are given by position and known."""
        arity, typed, endless, clock = self._keys.arity, self._typed, self._ttl == math.inf, self._clock
        find, use, hits, otherwise = (
            self._shelves.common.entries.get,
            self._shelves.uses.append,
            self._hits,
            self._admit,
        )

        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs or len(args) != arity:
                return otherwise(args, kwargs)
            try:
                entry = find((args, tuple(map(type, args))) if typed else args)
            except Exception:  # noqa: BLE001 - a `__hash__` or `__eq__` of an argument
                return self._pass_by()
            if entry is None or not (endless or clock() < entry.expires):
                return otherwise(args, kwargs)
            use(entry)
            next(hits)
            return entry.answer

        return admit

    def _fast_for_methods(self) -> Decide:
        """Return what does the same for methods."""
        arity, typed, endless, clock = self._method_keys.arity + 1, self._typed, self._ttl == math.inf, self._clock
        shelf_of, use, hits, otherwise = (
            self._shelves.find_by_number,
            self._shelves.uses.append,
            self._hits,
            self._admit,
        )

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
                return self._pass_by()
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
            self._pass_by()
            raise
        try:
            return self._decide(*self._located(args, kwargs, key))
        except Exception:  # noqa: BLE001 - the arguments' own methods, or arguments the function does not take
            return self._pass_by()

    def _located(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable) -> tuple[Shelf, Hashable]:
        """Return the shelf and the key of a call."""
        instance = self.signature.bind(args, kwargs)[1] if self._is_divided else None
        shelf = self._shelves.common if instance is None else self._shelves.of(instance)
        if self._key is not None:
            return shelf, (key, type(key)) if self._typed else key
        if instance is None:
            return shelf, self._keys.of(args, kwargs)
        others = kwargs if args else {name: value for name, value in kwargs.items() if name != self._first}
        return shelf, self._method_keys.of(args[1:], others)

    def _decide(self, shelf: Shelf, key: Hashable) -> Any:
        """Answer a call, let it wait, or let it compute."""
        if (entry := self._valid(shelf, key)) is not None:
            return self._hit(entry)
        computation = Computation(self._shelves, shelf, key, Flight())
        flight = computation.announce()
        if flight is not computation.flight:
            return FlightWait(flight, partial(self._decide_after_waiting, shelf, key))
        # A result may have come, and its flight gone, since the first look.
        if (entry := self._valid(shelf, key)) is not None:
            computation.finish(entry.answer)
            return self._hit(entry)
        next(self._misses)
        computation.begin()
        return computation

    def _decide_after_waiting(self, shelf: Shelf, key: Hashable, came: Any) -> Any:
        if came is LATE:
            try:
                return self._decide(shelf, key)
            except Exception:  # noqa: BLE001 - the arguments' own methods
                return self._pass_by()
        if came is ALONE:
            next(self._misses)
            return Computation(self._shelves, shelf, key)
        next(self._waits)
        return came

    def _valid(self, shelf: Shelf, key: Hashable) -> Entry | None:
        entry = shelf.entries.get(key)
        return entry if entry is not None and self._clock() < entry.expires else None

    def _hit(self, entry: Entry) -> StopProcessing:
        self._shelves.uses.append(entry)
        next(self._hits)
        return entry.answer

    def _pass_by(self) -> None:
        """Let a call run uncached."""
        next(self._uncacheable)

    def end(
        self,
        _elapsed: float,
        value: Any,
        _exception: BaseException | None,
        outcome: Outcome,
        computation: Computation | None,
    ) -> None:
        """Keep what a call has computed, and hand it to those who wait."""
        if computation is None:
            return
        answer: StopProcessing | None = ALONE
        try:
            if outcome is Outcome.SUCCESS:
                if not _can_be_shared(value):
                    self._pass_by()
                else:
                    answer = StopProcessing(value)
                    computation.keep(answer, self._clock() + self._ttl)
        except Exception:  # noqa: BLE001 - the arguments' own methods
            self._pass_by()
        finally:
            computation.finish(answer)

    def clear(self, *instance: object) -> None:
        """Throw away all results, or those of one instance."""
        shelf = self._shelves.of(*instance) if instance and self._is_divided else None
        self._shelves.clear(shelf)

    def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Throw away the result of one call; return whether there was one."""
        key = None if self._key is None else self._key(args, kwargs)
        try:
            return self._shelves.discard(*self._located(args, kwargs, key))
        except Exception:  # noqa: BLE001 - the arguments' own methods, or arguments the function does not take
            return False

    def numbers(self) -> dict[str, int]:
        """Return the counts so far."""
        size = self._shelves.size()
        hits, waits, misses, uncacheable = (
            _reading(counter) - before for counter, before in zip(self._counters, self._counted_before, strict=True)
        )
        return {
            "hits": hits,
            "waits": waits,
            "misses": misses,
            "uncacheable": uncacheable,
            "size": size,
            "evictions": self._shelves.evictions,
            "expirations": self._shelves.expirations,
        }

    def reset(self) -> None:
        """Count from 0."""
        self._counted_before = tuple(_reading(counter) for counter in self._counters)
        self._shelves.evictions = self._shelves.expirations = 0

    def reset_after_fork(self) -> None:
        """Let nobody wait for threads that did not survive the fork."""
        self._shelves.forget_flights()


class Computation:
    """The token of a call that computes: if the call is lost, so is this, and nobody waits any more.

    Args:
        shelves: Where its result goes.
        shelf: Of its instance.
        key: Of its arguments.
        flight: What others may wait for; None if nobody may.
    """

    __slots__ = ("_before", "_generation", "_key", "_shelf", "_shelves", "flight")

    def __init__(self, shelves: Shelves, shelf: Shelf, key: Hashable, flight: Flight | None = None) -> None:
        self.flight = flight
        self._shelves = shelves
        self._shelf = shelf
        self._key = key
        self._generation = shelves.generation
        self._before: Token[Flight | None] | None = None

    def announce(self) -> Flight:
        """Let others wait for this one, unless there is one for which to wait; return which it is."""
        own: Any = self.flight
        flights = self._shelf.flights
        flight = flights.setdefault(self._key, own)
        if flight.landed:  # its key had another hash when it was over
            flight = flights[self._key] = own
        return flight

    def begin(self) -> None:
        """Note in the context that what runs now is a part of this computation."""
        if self.flight is not None:
            self._before = self.flight.take_off()

    def keep(self, answer: StopProcessing, expires: float) -> None:
        """Keep the result, unless it is out of date already or its instance is gone."""
        is_current = self._generation == self._shelves.generation and not self._shelf.is_orphaned
        if is_current and not math.isnan(expires):
            self._shelves.put(self._shelf, self._key, answer, expires)

    def finish(self, answer: StopProcessing | None) -> None:
        """Let nobody join any more, and hand an answer to those who wait."""
        before, self._before = self._before, None
        if before is not None:
            left(before)
        if self.flight is None:
            return
        flights = self._shelf.flights
        try:
            if flights.get(self._key) is self.flight:
                del flights[self._key]
            elif before is not None and self._generation == self._shelves.generation:
                flights.clear()  # its hash is no longer what it was: it could be removed only with all others
        except Exception:  # noqa: BLE001 - the key's own methods
            flights.clear()
        finally:
            self.flight.land(answer)

    def __del__(self) -> None:
        flight = self.flight
        if flight is not None and (not flight.landed or flight.is_awaited):
            self.finish(ALONE)


def _can_be_shared(value: Any) -> bool:
    """Return whether a value can be used more than once."""
    if isinstance(value, Coroutine | AsyncGenerator) or value is NO_VALUE:
        return False
    return not (isinstance(value, Iterator) and iter(value) is value)


def _reading(counter: itertools.count[int]) -> int:
    # Counted by C in one step, so that threads lose nothing. It shows its number nowhere else: copying, the other way
    # to look without counting on, is deprecated.
    return int(repr(counter)[len("count(") : -1])
