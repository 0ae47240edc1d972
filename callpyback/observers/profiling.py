"""What each observer itself costs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.notices import RetryNotice
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.time_sources import elapsed_between
from callpyback.errors import CallVetoed, StopProcessing
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.folding import Folding
from callpyback.observers.parts.quantiles import QuantileSketch
from callpyback.observers.parts.relay import RelayObserver

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.events.event import Event
    from callpyback.protocols import Begin, End, TimeSource

OVERFLOW: Final = "<overflow>"
"""In the report, the observer and the event that stand for all beyond the greatest number told apart."""

_BATCH: Final = 4096
_MAX_OBSERVERS: Final = 1000
_BEGIN, _END = "begin", "end"


class Measured:
    """What telling one observer one thing took, and how often it failed.

    Those who tell append to `waiting` and `failed`, and do nothing else: appending is atomic.
    """

    def __init__(self) -> None:
        self.waiting: list[float] = []
        self.failed: list[None] = []
        self.clear()

    def clear(self) -> None:
        """Forget what was folded."""
        self.events = self.failures = 0
        self.times = QuantileSketch()

    def fold(self) -> None:
        """Move what waits into the numbers."""
        failed, number = len(self.failed), len(self.waiting)
        taken = self.waiting[:number]
        del self.waiting[:number], self.failed[:failed]
        self.events += number
        self.failures += failed
        self.times.add_many(taken)


class ProfilingObserver(RelayObserver):
    """Measures what telling observers takes, and how often they fail.

    Among `observers=[...]` it measures the other observers there, guards included, and is told nothing itself.
    Given an observer, it stands in its place and measures that one alone: it takes over its states, notices, filters,
    priority and name, and hands everything on; then guards and critical observers are refused.

    On an event bus the observer it is given is told events, and `events_by_type` has their names.

    Measured is what the program pays for telling an observer: its own code, without what the library does around it.
    An async observer is measured until it has been awaited. `CallVetoed` and `StopProcessing` at the beginning of a
    call are decisions and no failures. Measuring costs two readings of a clock, about half a microsecond. Numbers are
    exact under threads, without a lock on the way; quantiles have a relative error of at most 1 % (`QuantileSketch`).

    Args:
        observer: The only observer to be measured; None for those it is registered with.
        time_source: Where durations come from; the system's clock by default.
        priority: Higher is told earlier; by default that of the observer, or 0.
        name: How it is shown; by default as the observer.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, on_success
        >>> profiler = ProfilingObserver(on_success(print, name="printer"))
        >>> @CallPyBack(observers=[profiler])
        ... def double(n):
        ...     return 2 * n
        >>> double(4) # doctest: +ELLIPSIS
        <ExecutionContext of double: POST_SUCCESS>
        8
        >>> report = profiler.get_performance_report()
        >>> report["total_events"], report["events_by_type"], list(report["observers"])
        (1, {'POST_SUCCESS': 1}, ['printer'])
        >>> 0 < report["max_processing_time"] < 1
        True
    """

    def __init__(
        self,
        observer: Any = None,
        *,
        time_source: TimeSource | None = None,
        priority: float | None = None,
        name: str | None = None,
    ) -> None:
        if observer is None:
            BaseObserver.__init__(self, 0 if priority is None else priority, name)
            self.observer, self.is_async = None, False
            self.states = frozenset()
        else:
            super().__init__(observer, priority=priority, name=name)
        _, self._clock = checked_clocks(time_source)
        self._folding = Folding()
        self._measured: dict[tuple[str, str], Measured] = {}
        self._tells: dict[str, Callable[..., Any]] = {}

    @property
    def profiles_observers(self) -> bool:
        """Whether it measures the observers that it is registered with."""
        return self.observer is None

    def timed(self, name: str, told: str, tell: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callable that does what `tell` does, and measures it.

        Args:
            name: The observer that is told.
            told: What it is told: the name of a state or notice, or `begin` or `end` where it is told plain values.
            tell: Takes any positional arguments; a coroutine function, or what returns an awaitable, is measured until
                it has been awaited.
        """
        measured = self._measured_of(name, told)
        clock, folding, waiting = self._clock, self._folding, measured.waiting
        note, note_failure = waiting.append, measured.failed.append
        decides = told in (ExecutionState.PRE_EXECUTION.name, _BEGIN)

        def finished(started: float, error: BaseException | None) -> None:
            note(elapsed_between(started, clock()))
            if error is not None and not (decides and isinstance(error, CallVetoed | StopProcessing)):
                note_failure(None)
            if len(waiting) >= _BATCH:
                folding.attempt(measured)

        async def awaited(started: float, returned: Awaitable[Any]) -> Any:
            try:
                value = await returned
            except BaseException as error:
                finished(started, error)
                raise
            finished(started, None)
            return value

        def tell_timed(*given: Any) -> Any:
            started = clock()
            try:
                returned = tell(*given)
            except BaseException as error:
                finished(started, error)
                raise
            if returned is not None and hasattr(returned, "__await__"):
                return awaited(started, returned)
            note(elapsed_between(started, clock()))
            if len(waiting) >= _BATCH:
                folding.attempt(measured)
            return returned

        if kind_of(tell) is not FunctionKind.COROUTINE:
            return tell_timed

        async def tell_async(*given: Any) -> Any:
            return await awaited(clock(), tell(*given))

        return tell_async

    def _update(self, context: ExecutionContext) -> Any:
        told = context.state.name if context.notice is None else _name_of(context.notice)
        return self._measured_tell(told, self.observer.update)(context)

    def _measured_tell(self, told: str, tell: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._tells.get(told)
        if timed is None:
            timed = self.timed(self.name, told, tell)
            if len(self._tells) < _MAX_OBSERVERS:
                self._tells[told] = timed
        return timed

    async def _update_async(self, context: ExecutionContext) -> None:
        await self._update(context)

    def _on_event(self, event: Event) -> Any:
        return self._measured_tell(event.name, self._handler)(event)

    async def _on_event_async(self, event: Event) -> Any:
        return await self._on_event(event)

    def _bound_by(self) -> Callable[[FunctionSignature], tuple[Begin | None, End | None] | None]:
        """Have the observer be told of one function's calls without a context, if it can be."""
        if self.observer is not None and not callable(getattr(self.observer, "bind", None)):
            message = f"observer {self.name!r} has no bind(function_signature)"
            raise AttributeError(message)
        return self._bind

    bind: Any = property(_bound_by)

    def _bind(self, function_signature: FunctionSignature) -> tuple[Begin | None, End | None] | None:
        if self.observer is None:
            return None, None
        bound = self.observer.bind(function_signature)
        if bound is None:
            return None
        begin, end = bound
        return (
            None if begin is None else self.timed(self.name, _BEGIN, begin),
            None if end is None else self.timed(self.name, _END, end),
        )

    def get_performance_report(self, name: str | None = None) -> dict[str, Any]:
        """Return what telling the observers took so far, times in seconds.

        `total_events` is how often observers were told something, `avg_processing_time`, `median_processing_time` and
        `max_processing_time` are None while that is 0, `total_processing_time` is their sum, `error_rate` the part that
        failed, `events_by_type` the number by state or notice, or `begin` and `end` for observers told plain values.
        `observers` has the same for each observer.

        Args:
            name: Of one observer: then its part alone is returned, an empty dictionary if it was never told anything.
        """
        with self._folding:
            self._folding.fold(*self._measured.values())
            of_observers: dict[str, dict[str, Measured]] = {}
            for (observer, told), measured in sorted(self._measured.items()):
                if measured.events:
                    of_observers.setdefault(observer, {})[told] = measured
            if name is not None:
                return _summary([of_observers[name]]) if name in of_observers else {}
            parts = {observer: _summary([told]) for observer, told in of_observers.items()}
            return {**_summary(list(of_observers.values())), "observers": parts}

    def get_metrics(self) -> dict[str, Any]:
        """Return the report; with the metrics of the observer it was given, if that has any, under `observer`."""
        return self._with_observer(self.get_performance_report())

    def reset(self) -> None:
        """Start the measurements anew, and have the observer it was given forget what it collected."""
        with self._folding:
            for measured in self._measured.values():
                measured.fold()
                measured.clear()  # in place: what measures holds on to it
        super().reset()

    def validate(self) -> None:
        """Ask the observer it was given whether it is ready."""
        if self.observer is not None:
            super().validate()

    def _measured_of(self, name: str, told: str) -> Measured:
        found = self._measured.get((name, told))
        if found is None:
            with self._folding:
                if len(self._measured) >= _MAX_OBSERVERS:
                    name = told = OVERFLOW
                found = self._measured.setdefault((name, told), Measured())
        return found

    def __getstate__(self) -> dict[str, Any]:
        with self._folding:
            self._folding.fold(*self._measured.values())
            return {**self.__dict__, "_measured": copy.deepcopy(self._measured), "_tells": {}, "_folding": Folding()}


def _name_of(notice: object) -> str:
    return (Notice.RETRY if isinstance(notice, RetryNotice) else Notice.PROGRESS).name


def _summary(many: list[dict[str, Measured]]) -> dict[str, Any]:
    """Return the numbers of all that was told, of one observer or several."""
    times, failures = QuantileSketch(), 0
    events: Counter[str] = Counter()
    for of_observer in many:
        for told, measured in of_observer.items():
            times.merge(measured.times)
            failures += measured.failures
            events[told] += measured.events
    total = events.total()
    return {
        "total_events": total,
        "avg_processing_time": times.sum / times.count if times.count else None,
        "median_processing_time": times.quantile(0.5),
        "max_processing_time": times.maximum,
        "total_processing_time": times.sum,
        "error_rate": failures / total if total else 0.0,
        "events_by_type": dict(events),
    }
