"""The cache of one function: which calls it answers, which wait, and which compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from callpyback.core.forks import reset_after_fork
from callpyback.core.state_machine import Outcome
from callpyback.errors import StopProcessing
from callpyback.guards.cache_entries import Shelves
from callpyback.guards.cache_keys import ArgumentKeys, parameters_of
from callpyback.guards.computation import Computation, can_be_shared
from callpyback.guards.single_flight import ALONE, LATE, Flight, FlightWait
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.guards.cache_entries import Entry, Shelf


_UNFINISHED: Final = frozenset(
    {Outcome.CANCELLED, Outcome.ABANDONED, Outcome.ABORTED, Outcome.VETOED, Outcome.SUPPLIED}
)
"""The outcomes that say nothing about what the body would give."""


class Decide(Protocol):
    """Decides one call; see `BindableGuard`."""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take the arguments as given."""
        ...


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
        self._is_endless = ttl_seconds is None
        self._typed = typed
        self._key = key
        self._is_divided = not shares_instances and signature.takes_instance is not False
        parameters = parameters_of(signature)
        self._first = parameters[0].name if parameters else ""
        self._keys = ArgumentKeys(parameters, typed=typed)
        self._method_keys = ArgumentKeys(parameters[1:], typed=typed)
        self._shelves = Shelves(math.inf if maxsize is None else maxsize, clock)
        self._tallies = {name: Tally() for name in ("hits", "waits", "misses", "uncacheable")}
        self._hits, self._waits, self._misses, self._uncacheable = self._tallies.values()
        self._counted_before = dict.fromkeys(self._tallies, 0)
        has_fast_keys = key is None and (self._method_keys if signature.takes_instance else self._keys).has_plain_keys
        self.admit = self._fast() if has_fast_keys else self._admit
        reset_after_fork(self)

    def _fast(self) -> Decide:
        """Return what decides as `_admit` does, fast where a known result is asked for by positional arguments."""
        # With fewer arguments than the function has, nothing is found here: the defaults are part of every key.
        is_method, typed, is_endless, clock = self.signature.takes_instance, self._typed, self._is_endless, self._clock
        common, shelf_of = self._shelves.common.entries.get, self._shelves.find_by_number
        use, hits, otherwise = self._shelves.eviction.uses.append, self._hits, self._admit

        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs:
                return otherwise(args, kwargs)
            if is_method and args:
                shelf = shelf_of(id(args[0]))
                if shelf is None:
                    return otherwise(args, kwargs)
                find, values = shelf.entries.get, args[1:]
            else:
                find, values = common, args
            try:
                entry = find(values + tuple(map(type, values)) if typed else values)
            except Exception:  # noqa: BLE001 - a `__hash__` or `__eq__` of an argument
                return otherwise(args, kwargs)
            if entry is None or not (is_endless or clock() < entry.expires):
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
        if (present := self._shelves.attached(shelf)) is not shelf:
            computation.finish(LATE)
            return self._decide(present, key)
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
        return entry if entry is not None and (self._is_endless or self._clock() < entry.expires) else None

    def _hit(self, entry: Entry) -> StopProcessing:
        self._shelves.eviction.uses.append(entry)
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
        """Keep what a call has computed, and hand it to those who wait.

        If it failed, they all run the body, since one after the other would take too long; if it was broken off, one
        of them computes in its place.
        """
        if computation is None:
            return
        answer: Any = LATE if outcome in _UNFINISHED else ALONE
        try:
            if outcome is Outcome.SUCCESS:
                if not can_be_shared(value):
                    self._pass_by()
                else:
                    answer = StopProcessing(value)
                    computation.keep(answer, self._ttl if self._is_endless else self._clock() + self._ttl)
        except Exception:  # noqa: BLE001 - the arguments' own methods
            self._pass_by()
        finally:
            computation.finish(answer)

    def clear(self, *instance: object) -> None:
        """Throw away all results, or those of one instance."""
        if not (instance and self._is_divided):
            self._shelves.clear()
        elif (shelf := self._shelves.find_by_number(id(*instance))) is not None:
            self._shelves.clear(shelf)

    def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Throw away the result of one call; return whether there was one."""
        key = None if self._key is None else self._key(args, kwargs)
        try:
            return self._shelves.discard(*self._located(args, kwargs, key))
        except Exception:  # noqa: BLE001 - the arguments' own methods, or arguments the function does not take
            return False

    def get_metrics(self) -> dict[str, Any]:
        """Return the counts so far."""
        size = self._shelves.size()
        counts = {name: tally.count - self._counted_before[name] for name, tally in self._tallies.items()}
        eviction = self._shelves.eviction
        return {**counts, "size": size, "evictions": eviction.evictions, "expirations": eviction.expirations}

    def reset(self) -> None:
        """Count from 0."""
        self._counted_before = {name: tally.count for name, tally in self._tallies.items()}
        eviction = self._shelves.eviction
        eviction.evictions = eviction.expirations = 0

    def reset_after_fork(self) -> None:
        """Let nobody wait for threads that did not survive the fork."""
        self._shelves.reset_after_fork()
