"""Observers with `update(context)`: what the telling costs, and what reading the context costs."""

from __future__ import annotations

from typing import Any

from benchmarks.controls import KINDS
from benchmarks.measuring import Budget, seconds_per_call
from benchmarks.table import Row
from callpyback import BaseObserver, CallPyBack, ExecutionContext, ExecutionState

TITLE = "Observers with update(context)"


class OneState(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class ThreeStates(BaseObserver):
    """A plain observer: told PRE_EXECUTION, POST_SUCCESS and COMPLETED of a call that succeeds."""

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class ReadsResult(OneState):
    def update(self, context: ExecutionContext) -> Any:
        """Read what most observers read at the end."""
        return context.result, context.execution_time, context.outcome


class ReadsArguments(OneState):
    def update(self, context: ExecutionContext) -> Any:
        """Have the arguments bound."""
        return context.arguments


class UsesSlot(ThreeStates):
    def update(self, context: ExecutionContext) -> None:
        """Remember something from the first state to the last."""
        context.slot["state"] = context.state


OBSERVERS = {
    "one, told COMPLETED": (OneState, 3.5),
    "one plain, told three states": (ThreeStates, 3.5),
    "one, told COMPLETED, reading result, time and outcome": (ReadsResult, None),
    "one, told COMPLETED, reading arguments": (ReadsArguments, None),
    "one plain, using its slot at three states": (UsesSlot, None),
}


def rows(budget: Budget) -> list[Row]:
    """Return a row for each sort of observer."""
    kind = KINDS["function"]
    subjects = {what: kind.driven(CallPyBack([make()])(kind.body)) for what, (make, _) in OBSERVERS.items()}
    seconds = seconds_per_call({"timer": kind.driven(kind.timer(kind.body)), **subjects}, budget)
    return [
        Row(f"{what} / timer", seconds[what] / seconds["timer"], bar=bar, seconds=seconds[what])
        for what, (_, bar) in OBSERVERS.items()
    ]
