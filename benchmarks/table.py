"""One line of the result, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        what: What was measured, and against what.
        measured: The number; None if it could not be measured.
        unit: What the number is; a ratio is "x".
        bar: The most it should be, if somebody said so.
        seconds: What one call took, where that says something.
        note: What has to be known to read the number, or why there is none.
        is_difference: Whether it is what one measurement has more than another, which may be nothing.
    """

    what: str
    measured: float | None
    unit: str = "x"
    bar: float | None = None
    seconds: float | None = None
    note: str = ""
    is_difference: bool = False

    @property
    def verdict(self) -> str:
        """Whether the bar is met; empty without a bar."""
        if self.bar is None:
            return ""
        if self.measured is None:
            return "not measured"
        return "met" if self.measured <= self.bar else "MISSED"


def skipped(what: str, reason: str) -> Row:
    """Return the row of something that cannot be measured here."""
    return Row(what, None, note=reason)


def shown(title: str, rows: Iterable[Row]) -> str:
    """Return a table as text."""
    lines = [title, "-" * len(title)]
    for row in rows:
        measured = "-" if row.measured is None else f"{row.measured:.2f} {row.unit}"
        bar = "" if row.bar is None else f"<= {row.bar:g}"
        seconds = "" if row.seconds is None else _duration(row.seconds)
        lines.append(f"{row.what:<74}{measured:>12}  {bar:<8}{row.verdict:<8}{seconds:>9}  {row.note}".rstrip())
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 1e-6:
        return f"{seconds * 1e9:.0f} ns"
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
