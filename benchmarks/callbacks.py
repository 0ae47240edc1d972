"""What one more callback adds, and what very many observers cost, in calls and at registration."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from benchmarks.controls import KINDS
from benchmarks.measuring import Budget, Subject, called, seconds_per_call
from benchmarks.table import Row
from callpyback import BaseObserver, CallPyBack, ExecutionContext, ExecutionState, handle, on_success

TITLE = "Many observers"

LINEAR = (100, 1000)
"""The numbers of observers that are compared, by what each of them costs."""


class Quiet(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


def takes_value(value: Any) -> None:
    """Do nothing."""


def takes_context(context: Any) -> None:
    """Do nothing."""


def rows(budget: Budget) -> list[Row]:
    """Return the rows of callbacks, of 1,000 observers, and of registering 10,000."""
    return [*_slopes(budget), _linearity(budget), *_registration(budget)]


def _slopes(budget: Budget) -> list[Row]:
    """Return the added time of a callback: the slope from the smaller number of them to the greater."""
    body, empty, _, _ = KINDS["function"]
    subjects = {"empty": called(empty(body))}
    wanting = {"value": takes_value, "context": takes_context}
    for wanted, callback in wanting.items():
        for number in (1, 8, 16, 64):
            subjects[f"{number} {wanted}"] = called(CallPyBack([on_success(callback) for _ in range(number)])(body))
    seconds = seconds_per_call(subjects, budget)
    table = []
    for wanted in wanting:
        for few, many in ((1, 8), (16, 64)):
            slope = (seconds[f"{many} {wanted}"] - seconds[f"{few} {wanted}"]) / (many - few)
            what = f"one more callback taking {wanted}, {few} to {many} of them / empty wrapper"
            table.append(Row(what, slope / seconds["empty"], bar=1.0, seconds=slope, is_difference=True))
    return table


def _linearity(budget: Budget) -> Row:
    body = KINDS["function"].body
    few, many = LINEAR
    subjects: dict[str, Subject] = {
        str(number): called(CallPyBack([Quiet() for _ in range(number)])(body)) for number in (few, many)
    }
    seconds = {number: total / int(number) for number, total in seconds_per_call(subjects, budget).items()}
    return Row(
        f"an observer among {many:,} / among {few}",
        seconds[str(many)] / seconds[str(few)],
        bar=1.2,
        seconds=seconds[str(many)],
        note="the issue says linear; 1.2 is this table's reading of it",
    )


def _registration(budget: Budget) -> list[Row]:
    number = budget.part(10_000)

    def at_once(observers: list[Any]) -> None:
        CallPyBack(observers)(KINDS["function"].body)(1)

    def one_by_one(observers: list[Any]) -> None:
        function = CallPyBack()(KINDS["function"].body)
        for observer in observers:
            handle(function).add_observer(observer)
        function(1)

    def on_a_decorated_function(observers: list[Any]) -> None:
        decorator = CallPyBack()
        function = decorator(KINDS["function"].body)
        for observer in observers:
            decorator.add_observer(observer)
        function(1)

    ways: dict[str, Callable[[list[Any]], None]] = {
        "CallPyBack(observers=...)": at_once,
        "handle(f).add_observer": one_by_one,
        "CallPyBack().add_observer": on_a_decorated_function,
    }
    return [
        Row(f"registering {number:,} observers by {way}, and one call", _wall(register, number), unit="s", bar=1.0)
        for way, register in ways.items()
    ]


def _wall(register: Callable[[list[Any]], None], number: int) -> float:
    observers = [Quiet() for _ in range(number)]
    started = perf_counter()
    register(observers)
    return perf_counter() - started
