"""Adding up any number of floats without losing the small ones."""

from __future__ import annotations

import math


class CompensatedSum:
    """A sum whose error does not grow with the number of samples.

    What each addition rounds off is added up beside it: Neumaier, "Rundungsfehleranalyse einiger Verfahren zur
    Summation endlicher Summen", ZAMM 54, 1974.

    Example:
        >>> total = CompensatedSum()
        >>> for sample in (1e16, 1.0, -1e16):
        ...     _ = total.add(sample)
        >>> total.value
        1.0
    """

    __slots__ = ("_rest", "_sum")

    def __init__(self) -> None:
        self._sum = self._rest = 0.0

    def add(self, sample: float) -> bool:
        """Add a finite number; return False, and change nothing, if the sum would leave the range of a float."""
        total = self._sum + sample
        if not math.isfinite(total):
            return False
        if abs(self._sum) >= abs(sample):
            self._rest += (self._sum - total) + sample
        else:
            self._rest += (sample - total) + self._sum
        self._sum = total
        return True

    @property
    def value(self) -> float:
        """The sum."""
        return self._sum + self._rest
