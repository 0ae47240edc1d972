"""Calls that raise: what observing adds, and that a huge argument adds nothing."""

from __future__ import annotations

import io
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.built_ins import stdlib_logger_off, the_three
from benchmarks.contexts import ThreeStates
from benchmarks.controls import empty, failing, timer
from benchmarks.measuring import Budget, caught, seconds_per_call
from benchmarks.table import Row
from callpyback import BaseObserver, CallPyBack, ExecutionContext, LoggingObserver, MetricsObserver, TimingObserver

TITLE = "Calls that fail"

HUGE = 100_000_000
"""Bytes."""


class LocalsObserver(BaseObserver):
    """Reads the captured locals of calls that failed, and keeps their types."""

    types: dict[str, type] | None = None

    def update(self, context: ExecutionContext) -> None:
        """Have the locals copied out of the frame."""
        if context.is_failed:
            self.types = {name: type(value) for name, value in context.local_variables.items()}


def rows(budget: Budget) -> list[Row]:
    """Return the rows of small calls, then those of huge arguments."""
    return [*_small(budget), *_huge(budget)]


def _small(budget: Budget) -> list[Row]:
    observers = {
        "nothing attached": [],
        "MetricsObserver": [MetricsObserver()],
        "all three, stdlib logger off": the_three(stdlib_logger_off),
        "one plain observer with update(context)": [ThreeStates()],
    }
    subjects = {what: caught(CallPyBack(told)(failing)) for what, told in observers.items()}
    controls = {"empty": caught(empty(failing)), "timer": caught(timer(failing))}
    seconds = seconds_per_call({**controls, **subjects}, budget)
    return [
        Row(f"a call that raises: {what} / timer", seconds[what] / seconds["timer"], seconds=seconds[what])
        for what in subjects
    ]


def _observed() -> Callable[[Any], Any]:
    """Return a failing function with all that may look at its argument: three built-ins and captured locals."""
    logger = logging.getLogger("benchmarks.failures")
    logger.handlers, logger.propagate = [logging.StreamHandler(io.StringIO())], False
    observers = [
        MetricsObserver(),
        TimingObserver(threshold=0.0, arguments=True),
        LoggingObserver(logger, arguments=True),
        LocalsObserver(),
    ]

    @CallPyBack(observers, variable_names=["given", "copy"])
    def fail(given: Any) -> None:
        copy = given
        raise ValueError(len(copy))

    return fail


def _huge(budget: Budget) -> list[Row]:
    size = budget.part(HUGE)
    logging.getLogger("callpyback").addHandler(logging.NullHandler())
    table = []
    for what, make in (
        ("bytes", lambda: b"x" * size),
        ("text", lambda: "x" * size),
        ("list", lambda: [1] * (size // 8)),
        ("dict", lambda: {"rows": {"all": [b"x" * (size // 10)] * 10}}),
    ):
        huge, small = make(), make()[:1] if what != "dict" else {"rows": {"all": [b"x"]}}
        seconds = seconds_per_call({"small": caught(_observed(), small), "huge": caught(_observed(), huge)}, budget)
        memory = (_peak(huge) - _peak(small)) / 1e6
        for added, unit, note in (
            ((seconds["huge"] - seconds["small"]) * 1e3, "ms", f"a small one takes {seconds['small'] * 1e6:.0f} us"),
            (memory, "MB", ""),
        ):
            asked = f"a call that raises with {size / 1e6:g} MB of {what}: added"
            table.append(Row(f"{asked} {unit}", max(added, 0.0), unit=unit, bar=1.0, note=note, is_difference=True))
    return table


def _peak(argument: Any) -> float:
    """Return the bytes that were in use at most during one failing call, and what was kept after it."""
    fail = _observed()
    caught(fail, b"x").run(3)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        caught(fail, argument).run(1)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
