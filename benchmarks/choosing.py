"""What choosing what to hear costs: where the name of the function decides, and where a predicate does."""

from __future__ import annotations

from benchmarks.controls import KINDS, timer
from benchmarks.measuring import Budget, called, seconds_per_call
from benchmarks.table import Row
from callpyback import (
    BaseObserver,
    CallPyBack,
    ExecutionContext,
    ExecutionState,
    MetricsObserver,
    Subscription,
    add_global_observer,
    observing,
    remove_global_observer,
)

TITLE = "Choosing what to hear"


class Quiet(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


def rows(budget: Budget) -> list[Row]:
    """Return rows for filters on functions, predicates, global observers and scopes."""
    body = KINDS["function"].body
    subjects = {
        "timer": called(timer(body)),
        "nothing": called(CallPyBack()(body)),
        "left out": called(CallPyBack([Subscription(MetricsObserver(), match="shop.orders.*")])(body)),
        "metrics": called(CallPyBack([MetricsObserver()])(body)),
        "and left out": called(CallPyBack([MetricsObserver(), Subscription(MetricsObserver(), match="shop.*")])(body)),
        "context": called(CallPyBack([Quiet()])(body)),
        "predicate": called(CallPyBack([Subscription(Quiet(), when=lambda _: False)])(body)),
    }
    seconds = seconds_per_call(subjects, budget)
    watched = MetricsObserver()
    add_global_observer(watched, match="benchmarks.*")
    try:
        everywhere = seconds_per_call({"timer": subjects["timer"], "global": called(CallPyBack()(body))}, budget)
    finally:
        remove_global_observer(watched)
    with observing(MetricsObserver()):
        inside = seconds_per_call({"timer": subjects["timer"], "scoped": called(CallPyBack()(body))}, budget)
    return [
        Row(
            "function left out by `match` / nothing attached",
            seconds["left out"] / seconds["nothing"],
            bar=1.05,
            seconds=seconds["left out"],
        ),
        Row(
            "MetricsObserver, another one left out by `match` / MetricsObserver alone",
            seconds["and left out"] / seconds["metrics"],
            bar=1.05,
            seconds=seconds["and left out"],
        ),
        Row("one update(context) observer / timer", seconds["context"] / seconds["timer"], seconds=seconds["context"]),
        Row(
            "the same behind a `when` that is always false / timer",
            seconds["predicate"] / seconds["timer"],
            seconds=seconds["predicate"],
        ),
        Row(
            "global MetricsObserver / timer",
            everywhere["global"] / everywhere["timer"],
            seconds=everywhere["global"],
        ),
        Row(
            "MetricsObserver of a scope around the calls / timer",
            inside["scoped"] / inside["timer"],
            seconds=inside["scoped"],
            note="while a scope is open, calls take the general path",
        ),
    ]
