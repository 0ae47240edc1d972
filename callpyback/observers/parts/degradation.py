"""When calls have become slower: more than chance and a few outliers explain."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from callpyback.core.configuration import checked_count, checked_seconds, looking_at, refuse

_CHANCE: Final = 0.0001
_LEAST: Final = 0.001


class Degradation:
    """Compares the newest durations of a function with those before them.

    They have become slower if the mean of the newest is more than `factor` times the mean of those before, by `least`
    seconds or more (a function of a microsecond is slower whenever the machine changes its clock), and, so that one
    outlier among ten is no alarm, if their ranks are too high for chance: by the one-sided test of Mann and Whitney
    ("On a test of whether one of two random variables is stochastically larger than the other", Annals of Mathematical
    Statistics 18(1), 1947), with the normal approximation corrected for ties and continuity.

    Simulated, every 10 durations of an unchanged function, 20,000 times: where one in a hundred takes ten times as
    long, the means alone give an alarm in 96 of 1,000 comparisons, and where durations are log-normal with a standard
    deviation of 1 in the logarithm, in 123; with the ranks there is none in either case. Of durations that doubled,
    scattering by 20 %, the means find all and the ranks 998 of 1,000 at the first comparison.

    Args:
        recent: How many of the newest are compared.
        history: With how many before them.
        factor: How much greater the mean of the newest must be.
        least: Seconds by which it must be greater as well.
        chance: How probable such ranks may be at most if nothing has changed; None to compare the means alone.

    Raises:
        ConfigurationError: A parameter is none of these; or so few durations can't show a change with that certainty.

    Example:
        >>> degradation = Degradation(recent=10, history=90, factor=1.5)
        >>> degradation.is_worse([0.2] * 10, [0.1] * 90), degradation.is_worse([0.1] * 9 + [9.0], [0.1] * 90)
        (True, False)
    """

    __slots__ = ("chance", "factor", "history", "least", "recent")

    def __init__(
        self,
        recent: int = 10,
        history: int = 90,
        factor: float = 1.5,
        *,
        least: float = _LEAST,
        chance: float | None = _CHANCE,
    ) -> None:
        self.recent = checked_count("recent", recent)
        self.history = checked_count("history", history)
        self.factor = _checked_between("factor", factor, 1, math.inf, "a number greater than 1, such as 1.5")
        self.least = checked_seconds("least", least, zero=True)
        expected = "a probability, such as 0.0001, or None to compare the means alone"
        self.chance = None if chance is None else _checked_between("chance", chance, 0, 1, expected)
        if chance is not None and not self._least_chance() <= chance:
            expected = f"at least {self._least_chance():.2g}, the least that {recent} against {history} can show"
            refuse("chance", chance, f"{expected}; or greater numbers, or None to compare the means alone")

    @property
    def needed(self) -> int:
        """How many durations are looked at."""
        return self.recent + self.history

    def is_worse(self, recent: Sequence[float], history: Sequence[float]) -> bool:
        """Return whether the newest durations are slower."""
        if not self._is_above(recent, history, self.factor) or _mean(recent) - _mean(history) < self.least:
            return False
        return self.chance is None or chance_of_ranks(recent, history) <= self.chance

    def is_over(self, recent: Sequence[float], history: Sequence[float]) -> bool:
        """Return whether they are no longer slower: half of what makes the alarm is left of the difference, or less."""
        return not self._is_above(recent, history, self.factor_of_end)

    @property
    def factor_of_end(self) -> float:
        """How much greater the mean of the newest may be once it is over."""
        return (1 + self.factor) / 2

    def _is_above(self, recent: Sequence[float], history: Sequence[float], factor: float) -> bool:
        return _mean(recent) > _mean(history) * factor

    def _least_chance(self) -> float:
        return chance_of_ranks(range(self.history, self.needed), range(self.history))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.recent, self.history, self.factor, self.least, self.chance)

    def __repr__(self) -> str:
        return f"Degradation({self.recent}, {self.history}, {self.factor}, least={self.least}, chance={self.chance})"


def _restored(recent: int, history: int, factor: float, least: float, chance: float | None) -> Degradation:
    return Degradation(recent, history, factor, least=least, chance=chance)


def _mean(samples: Sequence[float]) -> float:
    return sum(samples) / len(samples)


def _checked_between(parameter: str, value: Any, least: float, greatest: float, expected: str) -> float:
    with looking_at(parameter, value):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < greatest:
            refuse(parameter, value, expected)
        return float(value)


def checked_degradation(degradation: Any) -> Degradation | None:
    """Return a `Degradation`, made of the numbers if it is given as a tuple."""
    with looking_at("degradation", degradation):
        if degradation is None or isinstance(degradation, Degradation):
            return degradation
        if not isinstance(degradation, tuple) or not 1 <= len(degradation) <= 3:  # noqa: PLR2004 - as its parameters
            refuse(
                "degradation", degradation, "(recent, history, factor), such as (10, 90, 1.5), a Degradation or None"
            )
        return Degradation(*degradation)


def chance_of_ranks(recent: Sequence[float], history: Sequence[float]) -> float:
    """Return how probable it is that the recent samples rank so high among all, if they are like the others.

    Example:
        >>> round(chance_of_ranks([6, 7, 8, 9], [1, 2, 3, 4, 5]), 3)
        0.01
    """
    ordered = sorted(history)
    # Twice the number of pairs in which the recent one is greater; ties count half.
    wins = sum(bisect_left(ordered, sample) + bisect_right(ordered, sample) for sample in recent)
    pairs, number = len(recent) * len(history), len(recent) + len(history)
    ties = sum(times**3 - times for times in Counter((*recent, *history)).values())
    variance = pairs / 12 * (number + 1 - ties / (number * (number - 1))) if number > 1 else 0.0
    if variance <= 0:  # all are alike
        return 1.0
    return math.erfc((wins / 2 - pairs / 2 - 0.5) / math.sqrt(2 * variance)) / 2
