"""The numbers of one observed function: what `MetricsObserver` keeps for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.safe_repr import type_name
from callpyback.core.state_machine import Outcome
from callpyback.observers.parts.quantiles import QuantileSketch

OTHER_TYPES: Final = "<other>"
"""The entry of `failures_by_type` for all types beyond the first 100 of a function."""

FAILURES: Final = (Outcome.FAILURE, Outcome.TIMED_OUT)

_MAX_TYPES: Final = 100
_MAX_LEAVES: Final = 1000
_BODY_NEVER_RAN: Final = (Outcome.VETOED, Outcome.SUPPLIED)
_COUNTS: Final = {
    "successes": (Outcome.SUCCESS,),
    "failures": FAILURES,
    "handled": (Outcome.HANDLED,),
    "vetoed": (Outcome.VETOED,),
    "supplied": (Outcome.SUPPLIED,),
    "cancelled": (Outcome.CANCELLED,),
    "abandoned": (Outcome.ABANDONED,),
    "aborted": (Outcome.ABORTED,),
    "timed_out": (Outcome.TIMED_OUT,),
}
_leaves_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__

Types = tuple[tuple[str, int], ...]
"""Names of exception types, and how many of each."""


class Series:
    """The numbers of one function.

    Calls that end append to `fresh` or `others`, those that begin to `started`, retries to `retried`, and do nothing
    else on their way: appending is atomic. `fold` moves what waits there into the numbers, in one thread at a time.
    """

    def __init__(self, name: str, qualname: str, module: str) -> None:
        self.name = name
        self.qualname = qualname
        self.module = module
        self.fresh: list[float] = []
        self.others: list[tuple[Outcome, Types, float]] = []
        self.started: list[None] = []
        self.retried: list[None] = []
        self.in_progress = 0
        self.clear()

    def clear(self) -> None:
        """Forget all but the calls in progress."""
        self.outcomes: Counter[Outcome] = Counter()
        self.retries = 0
        self.failures_by_type: dict[str, int] = {}
        self.times = QuantileSketch()

    def fold(self) -> None:
        """Move what waits into the numbers."""
        durations = _taken(self.fresh)
        others = _taken(self.others)
        self.retries += len(_taken(self.retried))
        self.outcomes[Outcome.SUCCESS] += len(durations)
        # What began is taken last: then no call is seen to have ended that was not seen to begin.
        self.in_progress += len(_taken(self.started)) - len(durations) - len(others)
        for (outcome, types), number in Counter([(outcome, types) for outcome, types, _ in others]).items():
            self.outcomes[outcome] += number
            self.count_types(types, number)
        durations += [elapsed for outcome, _, elapsed in others if outcome not in _BODY_NEVER_RAN]
        self.times.add_many(durations)

    def count_types(self, types: Types, times: int = 1) -> None:
        """Count failures by type, in bounded memory even if types are made as the program runs."""
        counts = self.failures_by_type
        for name, number in types:
            kept = name if name in counts or len(counts) < _MAX_TYPES else OTHER_TYPES
            counts[kept] = counts.get(kept, 0) + number * times

    def merge(self, other: Series) -> None:
        """Add the numbers of another series."""
        self.outcomes.update(other.outcomes)
        self.retries += other.retries
        self.count_types(tuple(other.failures_by_type.items()))
        self.times.merge(other.times)

    def stats(self) -> dict[str, Any]:
        """Return the numbers as a plain dictionary."""
        times = self.times
        p50, p95, p99 = times.quantiles((0.5, 0.95, 0.99))
        return {
            **counts_of(self.outcomes),
            "retries": self.retries,
            "failures_by_type": dict(self.failures_by_type),
            "total_time": times.sum,
            "average_time": average(times.sum, times.count),
            "min_time": times.minimum,
            "max_time": times.maximum,
            "p50": p50,
            "p95": p95,
            "p99": p99,
        }


def _taken(waiting: list[Any]) -> list[Any]:
    """Take what waits now; more may be appended meanwhile, behind it."""
    number = len(waiting)
    batch = waiting[:number]
    del waiting[:number]
    return batch


def types_of(exception: BaseException | None) -> Types:
    """Return the type of an exception, of a group the types of its leaves (the first 1,000)."""
    if exception is None:
        return ()
    if not isinstance(exception, BaseExceptionGroup):
        return ((type_name(exception), 1),)
    names: Counter[str] = Counter()
    pending: list[BaseException] = [exception]
    while pending and names.total() < _MAX_LEAVES:
        leaf = pending.pop()
        if isinstance(leaf, BaseExceptionGroup):
            pending.extend(_leaves_of(leaf))
        else:
            names[type_name(leaf)] += 1
    return tuple(names.items())


def counts_of(outcomes: Counter[Outcome]) -> dict[str, int]:
    """Return the counts by the names they are shown under."""
    counts = {name: sum(outcomes[outcome] for outcome in counted) for name, counted in _COUNTS.items()}
    return {"calls": outcomes.total(), **counts}


def average(total: float, number: int) -> float | None:
    """Return the average, None of nothing."""
    return total / number if number else None
