"""How time is taken: many short turns, one subject after the other, and of each subject its shortest turn.

A machine that changes its clock changes it for all subjects alike, and the shortest of many turns is the one that
nobody disturbed. Time is the processor time of the thread, which stands still while other programs have their turn.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import repeat
from time import thread_time
from typing import Any, Final

Run = Callable[[int], None]
"""Makes so many calls."""

ARGUMENT: Final = 1
"""What the bodies are called with; a generator gives so many items."""

BATCH: Final = 4096
"""Calls in a turn of what counts in batches of so many: the shortest of shorter turns would leave the folding out."""


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Args:
        rounds: Turns of each subject.
        turn: Seconds one turn takes, about.
        scale: The part of the full number of calls, bytes or processes, where these are counted.
    """

    rounds: int = 80
    turn: float = 0.0015
    scale: float = 1.0

    def part(self, number: int) -> int:
        """Return this budget's part of a number."""
        return max(1, round(number * self.scale))


QUICK: Final = Budget(rounds=25, turn=0.0008, scale=0.1)


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Args:
        run: Makes so many calls.
        calls: How many in each turn, in place of as many as fit.
        around: Entered before each turn and left after it, untimed.
    """

    run: Run
    calls: int | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def seconds(self, count: int) -> float:
        """Return the seconds that so many calls take."""
        with self.around():
            started = thread_time()
            self.run(count)
            return thread_time() - started


def called(function: Callable[..., Any], argument: Any = ARGUMENT) -> Subject:
    """Call a plain function."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            function(argument)

    return Subject(_of_its_own(run))


def awaited(function: Callable[..., Any]) -> Subject:
    """Await a coroutine function that never suspends; no event loop is in the way."""

    async def run(count: int) -> None:
        for _ in repeat(None, count):
            await function(ARGUMENT)

    return Subject(_to_the_end(_of_its_own(run)))


def iterated(function: Callable[..., Any], items: int = ARGUMENT) -> Subject:
    """Go through the items of a generator."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            for _ in function(items):
                pass

    return Subject(_of_its_own(run))


def iterated_async(function: Callable[..., Any], items: int = ARGUMENT) -> Subject:
    """Go through the items of an async generator that never suspends."""

    async def run(count: int) -> None:
        for _ in repeat(None, count):
            async for _ in function(items):
                pass

    return Subject(_to_the_end(_of_its_own(run)))


def caught(function: Callable[..., Any], argument: Any = ARGUMENT) -> Subject:
    """Call a function that raises ValueError, and catch it as its caller would."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            try:
                function(argument)
            except ValueError:
                pass

    return Subject(_of_its_own(run))


def in_batches(subject: Subject) -> Subject:
    """Give a subject turns long enough to show what it costs once in 4,096 calls."""
    return replace(subject, calls=BATCH)


def _of_its_own(run: Callable[[int], Any]) -> Callable[[int], Any]:
    # The interpreter adapts code to what it calls: a loop that called all subjects would be adapted to none.
    return types.FunctionType(run.__code__.replace(), globals(), run.__name__, None, run.__closure__)


def _to_the_end(run: Callable[[int], Any]) -> Run:
    def drive(count: int) -> None:
        try:
            run(count).send(None)
        except StopIteration:
            return
        message = "the subject suspended: it needs an event loop, which would be measured with it"
        raise RuntimeError(message)

    return drive


def seconds_per_call(subjects: Mapping[str, Subject], budget: Budget) -> dict[str, float]:
    """Return the seconds one call of each subject takes."""
    counts = {name: subject.calls or _that_fit(subject, budget.turn) for name, subject in subjects.items()}
    shortest = dict.fromkeys(subjects, math.inf)
    for _ in range(budget.rounds):
        for name, subject in subjects.items():
            shortest[name] = min(shortest[name], subject.seconds(counts[name]))
    return {name: seconds / counts[name] for name, seconds in shortest.items()}


def _that_fit(subject: Subject, turn: float) -> int:
    """Return the number of calls that take about one turn. Finding it warms the subject up."""
    count = 1
    while (elapsed := subject.seconds(count)) < turn / 2:
        count *= 2
    return max(1, round(count * turn / max(elapsed, 1e-9)))
