"""A bulkhead: so many calls of a function run at a time, and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import checked_count, checked_seconds, refuse
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import full_name
from callpyback.errors import ConcurrencyLimitExceeded
from callpyback.guards.base import KeyedGuard
from callpyback.guards.keyed import KeyedStates, shown_key
from callpyback.guards.slot_wait import SlotWait
from callpyback.guards.slots import Slot, Slots
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.state_machine import Outcome
    from callpyback.observers.parts.keys import Key


class _LimitedFunction:
    """The limit on one function."""

    def __init__(self, observer: ConcurrencyLimitObserver, function: str) -> None:
        self._limit = observer.limit
        self._wait = observer.wait
        self._function = function
        self._admitted = Tally()
        self._refused = Tally()
        self._peaks: set[int] = set()
        self.start()
        reset_after_fork(self, "start")

    def start(self) -> None:
        """Start with all slots free; calls that are running do not hold any of these."""
        self._slots = self._new_slots()

    def _new_slots(self) -> Slots:
        return Slots(self._limit, self._peaks)

    def _all_slots(self) -> list[Slots]:
        return [self._slots]

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slot | SlotWait:  # noqa: ARG002 - as guards are asked
        """Return the slot of a call, or let it wait for one."""
        slot = self._slots.take()
        if slot is None:
            return self._wait_for(self._slots)
        next(self._admitted)
        return slot

    def end(
        self, _elapsed: float, _value: Any, _exception: BaseException | None, _outcome: Outcome, token: Slot | None
    ) -> None:
        """Give the slot back."""
        if token is not None:
            token.give_back()

    def _wait_for(self, slots: Slots, where: str = "") -> SlotWait:
        """Return how a call waits for a slot; refuse it if it is not to wait."""
        if not self._wait:
            raise self._refusal(where)
        return SlotWait(
            slots, self._wait, admitted=partial(next, self._admitted), refusal=partial(self._refusal, where)
        )

    def _refusal(self, where: str) -> ConcurrencyLimitExceeded:
        next(self._refused)
        calls = "1 call" if self._limit == 1 else f"{self._limit} calls"
        waited = f", and none ended within {self._wait:g} s" if self._wait else ""
        return ConcurrencyLimitExceeded(f"{self._function} is limited to {calls} at a time{where}{waited}")

    def get_metrics(self) -> dict[str, Any]:
        """Return the counts, as of now."""
        slots = self._all_slots()
        return {
            "running": sum(each.held for each in slots),
            "waiting": sum(each.waiting for each in slots),
            "admitted": self._admitted.count,
            "refused": self._refused.count,
            "max_running": max(self._peaks, default=0),
        }

    def reset(self) -> None:
        """Set the counts to 0."""
        self._admitted, self._refused = Tally(), Tally()


class _LimitedByKey(_LimitedFunction):
    """The limits on one function, one for each key."""

    def __init__(
        self,
        observer: ConcurrencyLimitObserver,
        function: str,
        key_of: Callable[[tuple[Any, ...], dict[str, Any]], Hashable],
    ) -> None:
        self._key_of = key_of
        self._max_keys = observer.max_keys
        super().__init__(observer, function)

    def start(self) -> None:
        """Start with all slots free; calls that are running do not hold any of these."""
        name = f"concurrency limit of {self._function}"
        self._keyed = KeyedStates(self._new_slots, is_idle=Slots.is_idle, max_keys=self._max_keys, name=name)

    def _all_slots(self) -> list[Slots]:
        return self._keyed.states()

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slot | SlotWait:
        """Return the slot of a call, or let it wait for one."""
        # Nothing to `keep`: slots matter only while somebody holds one or waits, and those hold them all.
        key = self._key_of(args, kwargs)
        slots = self._keyed.of(key)
        slot = slots.take()
        if slot is None:
            return self._wait_for(slots, f" for each key, and this one is {shown_key(key)}")
        next(self._admitted)
        return slot


class ConcurrencyLimitObserver(KeyedGuard):
    """Lets at most `limit` calls of a function, or of each of its keys, run at a time; refuses the others.

    With `wait`, a call that finds all slots taken waits up to so many seconds for one, first come, first served. Plain
    functions and generators block their thread; coroutines and async generators wait in their task, by asyncio or
    trio, and the event loop goes on. Threads, tasks and any number of event loops share one limit. A plain function
    that waits in the thread of an event loop keeps that loop from running.

    A call holds its slot until it ends, however it ends: also by a veto of a later guard, by cancellation, or as a
    generator that is closed or collected half way. Generators and coroutines take theirs at their first step. A
    function that calls itself takes a slot for each level. The refusal is a `ConcurrencyLimitExceeded`; when a slot
    will be free is not known, so its `retry_after` is None.

    Each decorated function has its own limit. With `key` each key has; when calls of more than `max_keys` keys run at
    once, further ones share one limit, which a warning in the log tells. A failing `key` lets the call go on, unless
    `critical` is set.

    Waiting goes by real time, whatever the decorator's time source: a `MockTimeSource` neither shortens nor lengthens
    it. Tests of a full limit should therefore have `wait=0`, or end a running call in time.

    A forked child starts with all slots free; calls that were running at the fork hold none there. A pickled observer
    starts anew.

    Args:
        limit: How many calls run at a time.
        wait: Seconds a call waits for a slot; 0 for not at all.
        key: Gives the key of a call from its `arguments`, such as `lambda arguments: arguments["host"]`.
        max_keys: How many keys of a function are told apart.
        priority: Higher is asked earlier. By default it is asked after the library's other guards, so that no call
            holds a slot that is refused or answered by one of them.
        name: How it is shown.
        critical: Refuse the call if the guard itself fails.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> from callpyback.errors import ConcurrencyLimitExceeded
        >>> from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver
        >>> @CallPyBack(observers=[ConcurrencyLimitObserver(limit=1)])
        ... def pages(first):
        ...     yield first
        ...     yield first + 1
        >>> reader = pages(1)
        >>> next(reader)
        1
        >>> try:
        ...     next(pages(7))
        ... except ConcurrencyLimitExceeded:
        ...     print("one at a time")
        one at a time
        >>> reader.close()
        >>> next(pages(7))
        7
    """

    name = "ConcurrencyLimit"

    def __init__(
        self,
        limit: int,
        wait: float = 0.0,
        key: Key | None = None,
        *,
        max_keys: int = 10_000,
        priority: float = 70,
        name: str | None = None,
        critical: bool = False,
    ) -> None:
        super().__init__(key=key, max_keys=max_keys, priority=priority, name=name, critical=critical)
        self._limit = checked_count("limit", limit)
        self._wait = checked_seconds("wait", wait, zero=True)
        if self._wait > threading.TIMEOUT_MAX:
            refuse("wait", wait, f"at most {threading.TIMEOUT_MAX:g} seconds, the longest a thread can wait")

    @property
    def limit(self) -> int:
        """How many calls run at a time."""
        return self._limit

    @property
    def wait(self) -> float:
        """Seconds a call waits for a slot."""
        return self._wait

    def guarding(
        self,
        function_signature: FunctionSignature,
        clock: Callable[[], float],  # noqa: ARG002 - nothing here depends on the time
    ) -> _LimitedFunction:
        """Return the limit on one function."""
        function = full_name(function_signature)
        if self.key is None:
            return _LimitedFunction(self, function)
        return _LimitedByKey(self, function, self.keyed_by(function_signature))

    def get_metrics(self) -> dict[str, Any]:
        """Return the counts, as of now.

        For each function that still exists, `functions` has how many calls are `running` and `waiting`, how many were
        `admitted` and `refused`, and `max_running`, the most that ran at once, with `key` the most for one key.
        Beside it are the sums of all but the last, and the greatest of that.
        """
        metrics = super().get_metrics()
        functions = metrics["functions"].values()
        summed = ("running", "waiting", "admitted", "refused")
        return {
            **{name: sum(counts[name] for counts in functions) for name in summed},
            "max_running": max((counts["max_running"] for counts in functions), default=0),
            **metrics,
        }

    def reset(self) -> None:
        """Set the counts of admitted and refused calls to 0; running calls keep their slots."""
        for limited in tuple(self._guarded):
            if isinstance(limited, _LimitedFunction):
                limited.reset()
