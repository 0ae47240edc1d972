"""The built-in observers, alone and together, against a timer written by hand, for each kind of callable."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import structlog

from benchmarks.controls import KINDS, Kind, timer_generator
from benchmarks.measuring import Budget, Subject, in_batches, iterated, seconds_per_call
from benchmarks.table import Row
from callpyback import CallPyBack, LoggingObserver, MetricsObserver, TimingObserver

TITLE = "Built-in observers"

ITEMS = 1000


def stdlib_logger_off() -> LoggingObserver:
    """Return an observer whose logger of the standard library is not enabled for what it logs."""
    logger = logging.getLogger("benchmarks.off")
    logger.setLevel(logging.CRITICAL + 1)
    return LoggingObserver(logger)


def structlog_off() -> LoggingObserver:
    """Return an observer whose structlog logger filters everything below WARNING out."""
    filtering = structlog.make_filtering_bound_logger(logging.WARNING)
    return LoggingObserver(structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=filtering))


ALONE: dict[str, Callable[[], Any]] = {
    "MetricsObserver": MetricsObserver,
    "MetricsObserver(in_progress=True)": lambda: MetricsObserver(in_progress=True),
    "TimingObserver": TimingObserver,
    "LoggingObserver, stdlib logger off": stdlib_logger_off,
    "LoggingObserver, structlog off": structlog_off,
}


def the_three(logger_off: Callable[[], Any]) -> list[Any]:
    """Return the three built-in observers."""
    return [MetricsObserver(), TimingObserver(), logger_off()]


def rows(budget: Budget) -> list[Row]:
    """Return the rows of plain calls, of the other kinds, and of the items of generators."""
    return [*_plain_rows(budget), *_other_kinds(budget), *_items(budget)]


def _plain_rows(budget: Budget) -> list[Row]:
    kind = KINDS["function"]
    observers = {name: [make()] for name, make in ALONE.items()}
    observers["all three, stdlib logger off"] = the_three(stdlib_logger_off)
    observers["all three, structlog off"] = the_three(structlog_off)
    bars = {"MetricsObserver": 2.5, "all three, stdlib logger off": 5.0, "all three, structlog off": 5.0}
    subjects = {name: _observed(kind, told) for name, told in observers.items()}
    seconds = seconds_per_call({"timer": kind.driven(kind.timer(kind.body)), **subjects}, budget)
    return [
        Row(f"function: {name} / timer", seconds[name] / seconds["timer"], bar=bars.get(name), seconds=seconds[name])
        for name in subjects
    ]


def _other_kinds(budget: Budget) -> list[Row]:
    subjects: dict[str, Subject] = {}
    others = {name: kind for name, kind in KINDS.items() if name != "function"}
    for name, kind in others.items():
        subjects[f"{name}: timer"] = kind.driven(kind.timer(kind.body))
        subjects[f"{name}: MetricsObserver"] = _observed(kind, [MetricsObserver()])
        subjects[f"{name}: all three, stdlib logger off"] = _observed(kind, the_three(stdlib_logger_off))
    seconds = seconds_per_call(subjects, budget)
    return [
        Row(f"{what} / timer", seconds[what] / seconds[f"{what.split(': ')[0]}: timer"], seconds=seconds[what])
        for what in subjects
        if not what.endswith(": timer")
    ]


def _items(budget: Budget) -> list[Row]:
    """Return what each item of a long generator costs: observed, two clock readings more than `yield from`."""
    generator, async_generator = KINDS["generator"], KINDS["async generator"]
    subjects = {
        "generator: timer": iterated(timer_generator(generator.body), ITEMS),
        "generator": iterated(CallPyBack([MetricsObserver()])(generator.body), ITEMS),
        "async generator: timer": async_generator.driven(async_generator.timer(async_generator.body), ITEMS),
        "async generator": async_generator.driven(CallPyBack([MetricsObserver()])(async_generator.body), ITEMS),
    }
    seconds = {name: total / ITEMS for name, total in seconds_per_call(subjects, budget).items()}
    return [
        Row(
            f"{name}, each of {ITEMS:,} items: MetricsObserver / timer",
            seconds[name] / seconds[f"{name}: timer"],
            seconds=seconds[name],
            note="the timer reads no clock for an item; we time the body without its consumer",
        )
        for name in ("generator", "async generator")
    ]


def _observed(kind: Kind, observers: list[Any]) -> Subject:
    return in_batches(kind.driven(CallPyBack(observers)(kind.body)))
