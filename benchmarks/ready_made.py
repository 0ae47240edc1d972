"""What each ready-made observer costs a call that succeeds, against a timer written by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks import ready_made_sinks
from benchmarks.controls import KINDS, timer
from benchmarks.measuring import Budget, called, in_batches, seconds_per_call
from benchmarks.streams import Nowhere, dropping_logger, unlogged
from benchmarks.table import Row, skipped
from callpyback import (
    AlertObserver,
    BaseObserver,
    BusinessMetricsObserver,
    CallPyBack,
    DebugObserver,
    DeduplicateObserver,
    ExecutionContext,
    ExecutionState,
    FunctionSignature,
    HistoryObserver,
    OverlapObserver,
    PerformanceProfileObserver,
    ProcessingObserver,
    ProfilingObserver,
    ProgressObserver,
    SamplingObserver,
    SecurityAuditObserver,
    StateObserver,
    TimingObserver,
)
from callpyback.core.decorator import handle
from callpyback.core.tracking import TRACKING

TITLE = "Ready-made observers"

REPORTS = 1000


class Quiet(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class QuietAtFiveStates(BaseObserver):
    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class OneHook(StateObserver):
    def on_success(self, context: ExecutionContext) -> None:
        """Do nothing."""


class Steps(ProcessingObserver):
    def extract(self, context: ExecutionContext) -> Any:
        """Take what the body gave."""
        return None if context.result is None else context.result.value

    def store(self, data: Any) -> None:
        """Drop it."""


class Case(NamedTuple):
    """One row: the observers of one function, and what they are around, if they pass calls on."""

    make: Callable[[], Any]
    around: str = ""
    folds: bool = False
    """Whether it folds once in 4,096 calls."""


CONTROLS: dict[str, Case] = {
    "TimingObserver": Case(TimingObserver, folds=True),
    "one at COMPLETED": Case(Quiet),
    "one at five states": Case(QuietAtFiveStates),
}
"""What others are put around."""


def another_key() -> Callable[[Any], Hashable]:
    """Return a key that is another one for each call."""
    numbers = itertools.count()
    return lambda _: next(numbers)


def same_key(_: Any) -> Hashable:
    """Say that all calls are equal."""
    return "same"


def of_plain(source: str, path: str = "") -> BusinessMetricsObserver:
    """Return an observer that adds up what is found in calls of the body."""
    return BusinessMetricsObserver({"plain": {"revenue": {"source": source, "path": path}}})


def audit(sensitive: str) -> SecurityAuditObserver:
    """Return an observer whose lines are made, logged and dropped."""
    return SecurityAuditObserver(dropping_logger("benchmarks.audit"), {sensitive})


not_sampled = partial(SamplingObserver, rate=0)

CASES: dict[str, Case] = {
    "StateObserver, on_success": Case(OneHook),
    "ProcessingObserver, its four steps": Case(Steps),
    "HistoryObserver, contexts": Case(HistoryObserver),
    "HistoryObserver, text": Case(lambda: HistoryObserver(text=True)),
    "ProfilingObserver around TimingObserver": Case(
        lambda: ProfilingObserver(TimingObserver()), "TimingObserver", folds=True
    ),
    "ProfilingObserver beside TimingObserver": Case(
        lambda: [ProfilingObserver(), TimingObserver()], "TimingObserver", folds=True
    ),
    "SamplingObserver, not sampled, plain values": Case(lambda: not_sampled(TimingObserver())),
    "SamplingObserver, not sampled, one at COMPLETED": Case(lambda: not_sampled(Quiet())),
    "SamplingObserver, not sampled, one at five states": Case(lambda: not_sampled(QuietAtFiveStates())),
    "DeduplicateObserver, no failure: passed": Case(lambda: DeduplicateObserver(Quiet()), "one at COMPLETED"),
    "DeduplicateObserver, passed, each with another key": Case(
        lambda: DeduplicateObserver(Quiet(), another_key()), "one at COMPLETED"
    ),
    "DeduplicateObserver, suppressed": Case(lambda: DeduplicateObserver(Quiet(), same_key)),
    "PerformanceProfileObserver": Case(PerformanceProfileObserver),
    "BusinessMetricsObserver, one from the result": Case(lambda: of_plain("result")),
    "BusinessMetricsObserver, one from the arguments": Case(lambda: of_plain("arguments", "number")),
    "SecurityAuditObserver, sensitive function, its line logged": Case(lambda: audit("plain")),
    "SecurityAuditObserver, not sensitive": Case(lambda: audit("another")),
    "AlertObserver": Case(AlertObserver),
    "OverlapObserver": Case(OverlapObserver),
}


def rows(budget: Budget) -> list[Row]:
    """Return rows for what stays in the process, for what follows calls inside calls, and for what delivers."""
    TRACKING.switch_off()
    with unlogged():
        return [*_plain_rows(budget), *_tracking_rows(budget), *ready_made_sinks.rows(budget)]


def _plain_rows(budget: Budget) -> list[Row]:
    body = KINDS["function"].body
    cases = {**CONTROLS, **CASES}
    observers = {what: _listed(case.make()) for what, case in cases.items()}
    functions = {what: CallPyBack(told)(body) for what, told in observers.items()}
    subjects = {what: called(function) for what, function in functions.items()}
    subjects |= {what: in_batches(subjects[what]) for what, case in cases.items() if case.folds}
    subjects["timer"] = called(timer(body))
    seconds = seconds_per_call(subjects, budget)
    timed = seconds["timer"]
    found = []
    for what, case in CASES.items():
        note = heard(functions[what], observers[what])
        if case.around:
            note += f"; {case.around} alone: {seconds[case.around] / timed:.2f} x"
        found.append(Row(f"{what} / timer", seconds[what] / timed, seconds=seconds[what], note=note))
    return found


def _tracking_rows(budget: Budget) -> list[Row]:
    """Return the rows of those for which all calls are tracked: apart, so that the others do not pay for it."""
    try:
        debug = _row_of("DebugObserver, to a stream that drops", DebugObserver(Nowhere()), budget)
        if find_spec("rich") is None:
            return [debug, skipped("ProgressObserver", "rich is not installed")]
        return [debug, *_progress_rows(budget)]
    finally:
        TRACKING.switch_off()


def _row_of(what: str, observer: Any, budget: Budget) -> Row:
    body = KINDS["function"].body
    function = CallPyBack([observer])(body)
    seconds = seconds_per_call({"timer": called(timer(body)), "observed": called(function)}, budget)
    note = heard(function, [observer])
    return Row(f"{what} / timer", seconds["observed"] / seconds["timer"], seconds=seconds["observed"], note=note)


def _progress_rows(budget: Budget) -> list[Row]:
    from rich.console import Console  # noqa: PLC0415 - an extra

    # Whoever imports it has calls tracked.
    from callpyback import current_call  # noqa: PLC0415

    def once(number: int) -> int:
        current_call().progress(number, number)
        return number

    def often(number: int) -> int:
        for _ in current_call().track(range(REPORTS)):
            pass
        return number

    bars = ProgressObserver(Console(file=Nowhere(), width=80))
    body = KINDS["function"].body
    functions = {name: CallPyBack([bars])(function) for name, function in (("silent", body), ("once", once))}
    subjects = {"timer": called(timer(body)), **{name: called(function) for name, function in functions.items()}}
    subjects["often"] = called(CallPyBack([bars])(often))
    seconds = seconds_per_call(subjects, budget)
    timed, each = seconds["timer"], (seconds["often"] - seconds["once"]) / REPORTS
    no_terminal = "the console is no terminal: a line at the end"
    return [
        Row(
            "ProgressObserver, no progress reported / timer",
            seconds["silent"] / timed,
            seconds=seconds["silent"],
            note=heard(functions["silent"], [bars]),
        ),
        Row(
            "ProgressObserver, a call that reports once / timer",
            seconds["once"] / timed,
            seconds=seconds["once"],
            note=no_terminal,
        ),
        Row(
            f"ProgressObserver, each of {REPORTS:,} more reports / timer",
            each / timed,
            seconds=each,
            is_difference=True,
        ),
    ]


def heard(function: Any, observers: Iterable[Any]) -> str:
    """Return what a function's observers are told, and whether as plain values, without a context."""
    told = "; ".join(", ".join(hearing.states) for hearing in handle(function).explain() if hearing.states)
    signature = FunctionSignature.of(KINDS["function"].body)
    binds = [getattr(observer, "bind", None) for observer in observers]
    is_plain = all(bind is not None and bind(signature) is not None for bind in binds)
    return f"hears {told or 'nothing'}{' as plain values' if is_plain else ''}"


def _listed(made: Any) -> list[Any]:
    return made if isinstance(made, list) else [made]
