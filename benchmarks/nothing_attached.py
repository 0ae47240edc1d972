"""A decorated function that nobody observes, against one in an empty wrapper."""

from __future__ import annotations

from benchmarks.controls import KINDS
from benchmarks.measuring import Budget, seconds_per_call
from benchmarks.table import Row
from callpyback import CallPyBack

TITLE = "Nothing attached"


def rows(budget: Budget) -> list[Row]:
    """Return a row for each kind of callable."""
    subjects = {}
    for name, kind in KINDS.items():
        subjects[f"empty {name}"] = kind.driven(kind.empty(kind.body))
        subjects[name] = kind.driven(CallPyBack()(kind.body))
    seconds = seconds_per_call(subjects, budget)
    return [
        Row(
            f"{name}: nothing attached / empty wrapper",
            seconds[name] / seconds[f"empty {name}"],
            bar=None if name == "async generator" else 1.2,
            seconds=seconds[name],
            note="the empty wrapper loses what is sent or thrown in; ours hands it on" * (name == "async generator"),
        )
        for name in KINDS
    ]
