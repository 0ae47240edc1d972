"""Race detection: two calls at once where there should be one after the other."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, checked_switch
from callpyback.core.forks import reset_after_fork
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.core.state_machine import ENDED_STATES, PLAIN_STATES, ExecutionState, Notice
from callpyback.errors import CallVetoed
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.alert_log import HIGH, Alert, AlertLog, OnAlert
from callpyback.observers.parts.call_sites import CallSite
from callpyback.observers.parts.keys import Key, checked_key, key_of, takes_instance
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import TimeSource

_PAIRS: Final = 10  # of one call with others that are looked at
_PRE: Final = ExecutionState.PRE_EXECUTION


class Running:
    """One running call, in the list of those with the same key.

    Attributes:
        key: What it has in common with them.
        instance: The name of the type of the instance, where that is the key.
        site: Who runs it.
    """

    __slots__ = ("instance", "key", "site")

    def __init__(self, key: Hashable, instance: str | None, site: CallSite) -> None:
        self.key = key
        self.instance = instance
        self.site = site


class Stay:
    """What a call holds while it runs: if it is dropped without an end, the call has left all the same."""

    __slots__ = ("_leave", "_running")

    def __init__(self, leave: Callable[[Running], None], running: Running) -> None:
        self._leave = leave
        self._running: Running | None = running

    def end(self) -> None:
        """Leave, unless that is done."""
        running, self._running = self._running, None
        if running is not None:
            self._leave(running)

    __del__ = end


class OverlapObserver(BaseObserver):
    """Reports calls that run at the same time although the functions it is put on do not allow it.

    Two calls overlap when they have the same key and one begins while the other runs. Without a `key`, the methods of
    one instance exclude each other, whichever of those observed by this observer they are; a function that is no
    method excludes itself. With a `key` all functions observed by this observer do that share it. What one thread, or
    one asyncio task, calls inside its own call is no overlap.

    An overlap of two functions from two places is reported once, and then counted in `repeats`. A report says of both
    calls which function, from where it was called (`call_site`, "file:line in function"; None where an event loop or
    a thread called it), where the function is defined, and in which thread and task. It is a dictionary: `timestamp`,
    `type` ("OVERLAP"), `severity` ("HIGH"), `message`, `key` (as text), `first` and `second` (`function`, `call_site`,
    `defined_at`, `thread`, `task`), `repeats`, `last_timestamp`, `refused`. It is kept, logged as a warning on the
    logger `callpyback`, and handed to `on_overlap`.

    A call runs from when every guard of higher priority has admitted it until its body has ended; one that failed
    from the decision to retry it again. That is why this observer comes last by default: a limit that lets one call
    in after the other is not mistaken for an overlap. Generators run from their first step to their end. Instances
    are not kept alive. A lock is held for a look at a dictionary, and while the keys' own `__eq__` runs.

    Args:
        key: Called with the call's `arguments` (a dictionary by name, without `self`); a parameter named `instance`
            gets the `self` or `cls`. Calls with equal keys exclude each other.
        on_overlap: Called with each new report, in the thread of the second call, before its body. What it raises is
            logged and goes no further.
        veto: Refuse the second call with `CallVetoed`.
        per_function: Only calls of the same function exclude each other.
        recursion: Whether what a thread or task calls inside its own call is an overlap too.
        max_reports: How many reports are kept and told apart.
        time_source: Where timestamps come from; the system's clock by default.
        priority: Higher is asked earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> overlaps = OverlapObserver(recursion=True)
        >>> class Account:
        ...     balance = 0
        ...     @CallPyBack(observers=[overlaps])
        ...     def deposit(self, amount, meanwhile=None):
        ...         balance = self.balance
        ...         if meanwhile:
        ...             meanwhile()
        ...         self.balance = balance + amount
        >>> account = Account()
        >>> account.deposit(10, meanwhile=lambda: account.deposit(5))
        >>> [report] = overlaps.reports
        >>> report["first"]["function"] == report["second"]["function"], report["key"].startswith("<Account")
        (True, True)
    """

    hears_calls_alone = True

    guard = True
    states = PLAIN_STATES
    notices = frozenset({Notice.RETRY})

    def __init__(
        self,
        key: Key | None = None,
        *,
        on_overlap: OnAlert | None = None,
        veto: bool = False,
        per_function: bool = False,
        recursion: bool = False,
        max_reports: int = 100,
        time_source: TimeSource | None = None,
        priority: float = -1000,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name)
        self._key = checked_key(key)
        self._with_instance = self._key is not None and takes_instance(self._key)
        self._veto = checked_switch("veto", veto)
        self._per_function = checked_switch("per_function", per_function)
        self._recursion = checked_switch("recursion", recursion)
        self._max_reports = checked_count("max_reports", max_reports)
        self._now, _ = checked_clocks(time_source)
        self._log = AlertLog(max_reports, on_overlap, "on_overlap")
        self._known: dict[Hashable, Alert] = {}
        self._overlaps = Tally()
        self._renew()
        reset_after_fork(self, "_renew")

    @property
    def reports(self) -> list[Alert]:
        """Copies of the reports that are kept, the newest last."""
        return self._log.kept()

    @property
    def overlaps(self) -> int:
        """How many pairs of calls have overlapped; of one call with more than ten others, ten are counted."""
        return self._overlaps.count

    @property
    def running(self) -> int:
        """How many observed calls run now."""
        with self._lock:
            return sum(map(len, self._running.values()))

    def update(self, context: ExecutionContext) -> None:
        """Note that a call begins or has ended.

        Raises:
            CallVetoed: Another call runs, and overlaps are to be refused.
        """
        if context.state not in ENDED_STATES:
            self._enter(context)
        elif (stay := context.slot.pop("stay", None)) is not None:
            stay.end()

    def get_metrics(self) -> dict[str, Any]:
        """Return how many overlaps and different ones there were, how many calls run, how often the callback failed."""
        return {
            "overlaps": self.overlaps,
            "reports": self._log.total,
            "running": self.running,
            "failed_callbacks": self._log.failed_callbacks,
        }

    def reset(self) -> None:
        """Forget reports and counts. Calls that run are still known."""
        with self._lock:
            self._log.clear()
            self._known.clear()
            self._overlaps = Tally()

    def _enter(self, context: ExecutionContext) -> None:
        signature = context.function_signature
        key, instance = self._key_of(context, signature)
        running = Running(key, instance, CallSite(signature))
        may_refuse = self._veto and context.state is _PRE
        with self._lock:
            present = self._running.setdefault(key, [])
            others = [other for other in present if self._excludes(other.site, running.site)] if present else present
            is_refused = may_refuse and bool(others)
            if not is_refused:
                others = others[:_PAIRS]
                present.append(running)
        if not is_refused:
            context.slot["stay"] = Stay(self._leave, running)
        if others:
            self._report_all(others, running, is_refused=is_refused)

    def _leave(self, running: Running) -> None:
        with self._lock:
            present = self._running.get(running.key)
            if present is not None:
                if running in present:  # compared by identity
                    present.remove(running)
                if not present:
                    del self._running[running.key]

    def _excludes(self, other: CallSite, new: CallSite) -> bool:
        return self._recursion or not other.is_same_runner(new)

    def _key_of(self, context: ExecutionContext, signature: FunctionSignature) -> tuple[Hashable, str | None]:
        """Return the key, and the type of the instance; `id` is enough, as a running call keeps its instance alive."""
        scope = id(signature) if self._per_function else None
        if self._key is not None:
            return (scope, key_of(context, self._key, with_instance=self._with_instance)), None
        instance = None if signature.takes_instance is False else context.instance
        if instance is None:
            return (id(signature), None), None
        return (scope, id(instance)), type_name(instance)

    def _shown_key(self, running: Running) -> str:
        found: Any = running.key
        if running.instance is not None:
            return f"<{running.instance} at {found[1]:#x}>"
        return running.site.function if self._key is None else safe_repr(found[1])

    def _report_all(self, others: list[Running], running: Running, *, is_refused: bool) -> None:
        for other in others:
            self._report(other, running, refused=is_refused)
        if is_refused:
            message = f"{running.site.function} is refused: {self._shown_key(running)} is in use by another call"
            raise CallVetoed(message)

    def _report(self, first: Running, second: Running, *, refused: bool) -> None:
        next(self._overlaps)
        now = self._now()
        timestamp = now if math.isfinite(now) else None
        places, key = [first.site.shown(), second.site.shown()], self._shown_key(second)
        pair = tuple(sorted((place["function"], place["call_site"] or "") for place in places))
        with self._lock:
            known = self._known.get(pair)
            if known is not None:
                known["repeats"] += 1
                known["last_timestamp"] = timestamp
                return
            report = self._known[pair] = {
                "timestamp": timestamp,
                "type": "OVERLAP",
                "severity": HIGH,
                "message": _message(places[0], places[1], key),
                "key": key,
                "first": places[0],
                "second": places[1],
                "repeats": 0,
                "last_timestamp": timestamp,
                "refused": refused,
            }
            while len(self._known) > self._max_reports:
                del self._known[next(iter(self._known))]
        self._log.report(report, f"OVERLAP: {report['message']}")

    def _renew(self) -> None:
        # In a forked child the calls of other threads do not go on.
        self._lock = threading.RLock()
        self._running: dict[Hashable, list[Running]] = {}

    def __getstate__(self) -> dict[str, Any]:
        memo: dict[int, Any] = {}
        with self._lock:
            log = self._log.copied(memo)
            known = {pair: memo.get(id(report)) or dict(report) for pair, report in self._known.items()}
            state = {**self.__dict__, "_log": log, "_known": known, "_overlaps": Tally(self.overlaps)}
        del state["_lock"], state["_running"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        reset_after_fork(self, "_renew")


def _message(first: dict[str, Any], second: dict[str, Any], key: str) -> str:
    shown = [
        f"{place['function']} called from {place['call_site'] or 'an event loop or thread'} "
        f"({place['task'] or place['thread']})"
        for place in (first, second)
    ]
    return f"{shown[1]} began while {shown[0]} ran, on {key}"
