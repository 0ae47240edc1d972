"""Counts and durations of every observed function: exact under threads, in bounded memory, no lock on the way."""

from __future__ import annotations

import copy
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_count, checked_switch
from callpyback.core.notices import RetryNotice
from callpyback.core.state_machine import TERMINAL_STATES, Notice, Outcome
from callpyback.core.time_sources import UNKNOWN
from callpyback.errors import nearest
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.by_function import ByFunction, FunctionName
from callpyback.observers.parts.folding import Folding
from callpyback.observers.parts.series import FAILURES, Series, average, counts_of, types_of

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import Begin, End

_BATCH: Final = 4096  # successes of one function that wait to be folded: sorting many at once is cheaper
_SMALL_BATCH: Final = 1024  # of calls that ended otherwise, which are rarer and take more room


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
    notices = frozenset({Notice.RETRY})
    is_leaf = True

    def __init__(
        self, priority: float = 0, name: str | None = None, *, in_progress: bool = False, max_series: int = 2000
    ) -> None:
        super().__init__(priority, name)
        self._counts_progress = checked_switch("in_progress", in_progress)
        self._series = ByFunction(_made_series, checked_count("max_series", max_series))
        self._folding = Folding()

    def bind(self, function_signature: FunctionSignature) -> tuple[Begin | None, End] | None:
        """Return how to be told of one function's calls without a context.

        None for a subclass with an `update` of its own, which is then told by that.
        """
        if type(self).update is not MetricsObserver.update:
            return None
        series = self._series.of(function_signature)
        begin = partial(series.started.append, None) if self._counts_progress else None
        return begin, self._end_of(series)

    def update(self, context: ExecutionContext) -> None:
        """Count the retry, or the call, of a context that shows a notice or a terminal state."""
        if context.notice is not None:
            if isinstance(context.notice, RetryNotice):
                self._series.of(context.function_signature).retried.append(None)
            return
        outcome = context.outcome
        if context.state not in TERMINAL_STATES or outcome is None:
            return
        series = self._series.of(context.function_signature)
        if self._counts_progress:
            series.started.append(None)
        elapsed = context.execution_time
        exception = None if context.result is None else context.result.exception
        self._end_of(series)(UNKNOWN if elapsed is None else elapsed, None, exception, outcome)

    def get_metrics(self) -> dict[str, Any]:
        """Return the numbers so far, as plain dictionaries.

        `counters` has the sums over all functions: `calls`, `successes`, `failures` (`timed_out` among them),
        `handled`, `vetoed`, `supplied`, `cancelled`, `abandoned` and `aborted`; the calls are the sum of these, without
        `timed_out`; and the `retries`: a call counts once, however often its body ran. `total_executions` are the
        successes, `total_calls` the calls, `average_execution_time` is in seconds. `function_stats` has for each
        function the same counts, `failures_by_type` (of an exception group each leaf counts, while the failure counts
        once), and in seconds `total_time`, `average_time`, `min_time`, `max_time`, `p50`, `p95` and `p99`; times are
        None while there is no sample. With `in_progress=True` there is an `in_progress` in each and in the whole, as
        of now: calls that begin during the reading may count already.

        Functions go by their bare name while only one has it, else by their qualified name; where functions of two
        modules share that, by `module.qualname`.
        """
        with self._folding:
            self._folding.fold(*self._series)
            named = self._series.named()
            function_stats = {name: series.stats() for name, series in named.items()}
            outcomes: Counter[Outcome] = sum((series.outcomes for series in named.values()), Counter())
            counters = {**counts_of(outcomes), "retries": sum(series.retries for series in named.values())}
            times = [series.times for series in named.values()]
            metrics: dict[str, Any] = {
                "counters": counters,
                "average_execution_time": average(sum(t.sum for t in times), sum(t.count for t in times)),
                "total_executions": counters["successes"],
                "total_calls": counters["calls"],
                "function_stats": function_stats,
            }
            if self._counts_progress:
                for name, series in named.items():
                    function_stats[name]["in_progress"] = series.in_progress
                metrics["in_progress"] = sum(series.in_progress for series in named.values())
            return metrics

    def quantile(self, name: str, q: float) -> float | None:
        """Return the q-quantile of one function's durations in seconds, or None while there are none.

        Args:
            name: As in `function_stats`.
            q: Between 0 and 1.

        Raises:
            KeyError: There is no such function.
            ConfigurationError: `q` is not between 0 and 1.
        """
        with self._folding:
            named = self._series.named()
            if name not in named:
                message = f"no function {name!r} has been observed{nearest(name, named)}"
                raise KeyError(message)
            self._folding.fold(named[name])
            return named[name].times.quantile(q)

    def merge(self, other: MetricsObserver) -> None:
        """Add the numbers of another observer, of another process say, function by function.

        The other is left as it is. Its calls in progress are not added: they are not this observer's to end.
        """
        theirs = other._snapshot()
        with self._folding:
            for series in theirs:
                self._series.of(series).merge(series)

    def reset_metrics(self) -> None:
        """Start all counts and durations anew. Calls in progress stay counted as such."""
        with self._folding:
            self._folding.fold(*self._series)
            for series in self._series:
                series.clear()

    def reset(self) -> None:
        """Do what `reset_metrics` does."""
        self.reset_metrics()

    def _end_of(self, series: Series) -> End:
        fresh, others, try_fold = series.fresh, series.others, self._folding.attempt
        note_success, note_other, success = fresh.append, others.append, Outcome.SUCCESS

        def end(elapsed: float, _value: Any, exception: BaseException | None, outcome: Outcome) -> None:
            if outcome is success:
                note_success(elapsed)
                if len(fresh) < _BATCH:
                    return
            else:
                note_other((outcome, types_of(exception) if outcome in FAILURES else (), elapsed))
                if len(others) < _SMALL_BATCH:
                    return
            try_fold(series)

        return end

    def _snapshot(self) -> ByFunction[Series]:
        with self._folding:
            self._folding.fold(*self._series)
            return copy.deepcopy(self._series)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_series": self._snapshot(), "_folding": Folding()}


def _made_series(function: FunctionName) -> Series:
    return Series(function.name, function.qualname, function.module)
