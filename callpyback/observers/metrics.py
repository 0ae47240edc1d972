"""Counts and durations of every observed function: exact under threads, in bounded memory, without a lock on the way."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.forks import reset_after_fork
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.core.state_machine import TERMINAL_STATES, Outcome
from callpyback.core.time_sources import UNKNOWN
from callpyback.errors import ConfigurationError, nearest
from callpyback.observers.base import BaseObserver
from callpyback.observers.quantiles import QuantileSketch

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import Begin, End

OVERFLOW: Final = "<overflow>"
"""The series that counts the calls of all functions beyond the greatest number of series."""

OTHER_TYPES: Final = "<other>"
"""The entry of `failures_by_type` for all types beyond the first 100 of a function."""

_BATCH: Final = 4096  # samples of one function that wait to be folded: sorting many at once is cheaper
_SMALL_BATCH: Final = 256  # of calls that did not simply succeed, which take more room
_MAX_TYPES: Final = 100
_MAX_LEAVES: Final = 1000
_FAILURES: Final = frozenset({Outcome.FAILURE, Outcome.TIMED_OUT})
_BODY_NEVER_RAN: Final = frozenset({Outcome.VETOED, Outcome.SUPPLIED})
_COUNTS: Final = {
    "successes": (Outcome.SUCCESS,),
    "failures": tuple(_FAILURES),
    "handled": (Outcome.HANDLED,),
    "vetoed": (Outcome.VETOED,),
    "supplied": (Outcome.SUPPLIED,),
    "cancelled": (Outcome.CANCELLED,),
    "abandoned": (Outcome.ABANDONED,),
    "aborted": (Outcome.ABORTED,),
    "timed_out": (Outcome.TIMED_OUT,),
}
_leaves_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__

_Types = str | tuple[tuple[str, int], ...] | None


class _Series:
    """The numbers of one function.

    Ended calls append to `fresh` or `others`, begun ones to `started`, and nothing else happens on the way of a call:
    appending is atomic. `fold` moves what is there into the numbers; it is called by one thread at a time.
    """

    __slots__ = ("begun", "ended", "failures_by_type", "fresh", "module", "name", "others", "outcomes", "qualname")
    __slots__ += ("started", "times")

    def __init__(self, name: str, qualname: str, module: str) -> None:
        self.name = name
        self.qualname = qualname
        self.module = module
        self.fresh: list[float] = []
        self.others: list[tuple[Outcome, _Types, float]] = []
        self.started: list[None] = []
        self.begun = self.ended = 0
        self.clear()

    def clear(self) -> None:
        """Forget all but the calls in progress."""
        self.outcomes: Counter[Outcome] = Counter()
        self.failures_by_type: dict[str, int] = {}
        self.times = QuantileSketch()

    def fold(self) -> None:
        """Take as many as there are now; others may be appended meanwhile, behind them."""
        number = len(self.fresh)
        durations = self.fresh[:number]
        del self.fresh[:number]
        self.outcomes[Outcome.SUCCESS] += number
        if self.others:
            durations += self._fold_others()
        self.ended += len(durations)
        # Last: no call is then seen to have ended that was not seen to begin.
        self.begun += (begun := len(self.started))
        del self.started[:begun]
        self.times.add_many(durations)

    def _fold_others(self) -> list[float]:
        number = len(self.others)
        batch = self.others[:number]
        del self.others[:number]
        for outcome, types, _ in batch:
            self.outcomes[outcome] += 1
            if types is not None:
                self._count_types(((types, 1),) if isinstance(types, str) else types)
        return [UNKNOWN if outcome in _BODY_NEVER_RAN else elapsed for outcome, _, elapsed in batch]

    def _count_types(self, types: tuple[tuple[str, int], ...]) -> None:
        counts = self.failures_by_type
        for name, number in types:
            kept = name if name in counts or len(counts) < _MAX_TYPES else OTHER_TYPES
            counts[kept] = counts.get(kept, 0) + number

    def merge(self, other: _Series) -> None:
        self.outcomes.update(other.outcomes)
        self._count_types(tuple(other.failures_by_type.items()))
        self.times.merge(other.times)

    def stats(self) -> dict[str, Any]:
        times = self.times
        p50, p95, p99 = times.quantiles((0.5, 0.95, 0.99))
        return {
            **_counts_of(self.outcomes),
            "failures_by_type": dict(self.failures_by_type),
            "total_time": times.sum,
            "average_time": _average(times.sum, times.count),
            "min_time": times.minimum,
            "max_time": times.maximum,
            "p50": p50,
            "p95": p95,
            "p99": p99,
        }


class MetricsObserver(BaseObserver):
    """Counts calls by outcome and measures how long the bodies ran, one series for each function.

    Counts are exact, however many threads call. A call that ends only appends to a list; every 4,096 calls of a
    function one of them folds that list into the numbers, unless another thread is at it. Readers fold what is left.
    Durations are those of all calls whose body ran, failed ones too; quantiles have a relative error of at most 1 %
    (see `QuantileSketch`). Where a clock failed, a call is counted without its duration. Nothing of the calls is kept:
    no arguments, results or exceptions.

    A series belongs to a module and a qualified name; functions that share both, such as the closures one factory
    makes, share it. Beyond `max_series` functions all others share `"<overflow>"`, so totals stay right.

    In a forked child the numbers go on from those of the parent; a batch that another thread of the parent was folding
    at that moment may be missing there.

    Args:
        priority: Higher is told earlier.
        name: How it is shown.
        in_progress: Whether to count the calls that have begun and not ended, at the cost of one more append a call.
        max_series: The greatest number of functions told apart.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, MetricsObserver
        >>> metrics = MetricsObserver()
        >>> @CallPyBack(observers=[metrics], default_return=None)
        ... def number(text):
        ...     return int(text)
        >>> for text in ("1", "2", "x"):
        ...     _ = number(text)
        >>> stats = metrics.get_metrics()["function_stats"]["number"]
        >>> stats["calls"], stats["successes"], stats["handled"]
        (3, 2, 1)
    """

    states = TERMINAL_STATES

    def __init__(
        self, priority: float = 0, name: str | None = None, *, in_progress: bool = False, max_series: int = 2000
    ) -> None:
        super().__init__(priority, name)
        if not isinstance(in_progress, bool):
            message = f"in_progress={safe_repr(in_progress)} ({type_name(in_progress)}): expected True or False"
            raise ConfigurationError(message)
        if not isinstance(max_series, int) or isinstance(max_series, bool) or max_series < 1:
            message = (
                f"max_series={safe_repr(max_series)} ({type_name(max_series)}): expected a whole number from 1 on; "
                "leave it out for 2,000"
            )
            raise ConfigurationError(message)
        self._counts_progress = in_progress
        self._max_series = max_series
        self._series: dict[tuple[str, str], _Series] = {}
        self._renew_lock()
        reset_after_fork(self, "_renew_lock")

    def bind(self, function_signature: FunctionSignature) -> tuple[Begin | None, End] | None:
        """Return how to be told of one function's calls without a context.

        None for a subclass with an `update` of its own, which is then told by that.
        """
        if type(self).update is not MetricsObserver.update:
            return None
        series = self._series_of(function_signature)
        begin = partial(series.started.append, None) if self._counts_progress else None
        return begin, self._end_of(series)

    def update(self, context: ExecutionContext) -> None:
        """Count the call of a context that shows a terminal state; others are left alone."""
        outcome = context.outcome
        if context.state not in TERMINAL_STATES or outcome is None:
            return
        series = self._series_of(context.function_signature)
        if self._counts_progress:
            series.started.append(None)
        elapsed = context.execution_time
        exception = None if context.result is None else context.result.exception
        self._end_of(series)(UNKNOWN if elapsed is None else elapsed, None, exception, outcome)

    def get_metrics(self) -> dict[str, Any]:
        """Return the numbers so far, as plain dictionaries.

        `counters` has the sums over all functions: `calls`, `successes`, `failures` (`timed_out` among them),
        `handled`, `vetoed`, `supplied`, `cancelled`, `abandoned` and `aborted`; the calls are the sum of these, without
        `timed_out`. `total_executions` are the successes, `total_calls` the calls, `average_execution_time` is in
        seconds. `function_stats` has for each function the same counts, `failures_by_type` (of an exception group
        each leaf counts, while the failure counts once), and in seconds `total_time`, `average_time`, `min_time`,
        `max_time`, `p50`, `p95` and `p99`, which are None while there is no sample. With `in_progress=True` both have
        `in_progress`, as of now.

        Functions go by their bare name while only one has it, else by their qualified name; where two modules have
        the same qualified name, by `module.qualname`.
        """
        with self._lock:
            self._fold_all()
            totals: Counter[Outcome] = Counter()
            for series in self._all_series():
                totals.update(series.outcomes)
            times = [series.times for series in self._all_series()]
            counters = _counts_of(totals)
            metrics = {
                "counters": counters,
                "average_execution_time": _average(sum(t.sum for t in times), sum(t.count for t in times)),
                "total_executions": counters["successes"],
                "total_calls": counters["calls"],
                "function_stats": {name: series.stats() for name, series in self._named().items()},
            }
            if self._counts_progress:
                for name, series in self._named().items():
                    metrics["function_stats"][name]["in_progress"] = series.begun - series.ended
                metrics["in_progress"] = sum(series.begun - series.ended for series in self._all_series())
            return metrics
