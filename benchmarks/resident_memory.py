"""Ten million calls with the three built-ins: resident memory must not grow with the number of calls.

Run by itself (`python -m benchmarks.resident_memory CALLS`) it makes the calls and prints what they left.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.built_ins import stdlib_logger_off, the_three
from benchmarks.processes import printed_by_module
from benchmarks.table import Row
from callpyback import CallPyBack

if TYPE_CHECKING:
    from benchmarks.measuring import Budget

TITLE = "Memory over many calls"

CALLS = 10_000_000
_FAILING = 1000
"""One call in so many fails."""


def rows(budget: Budget) -> list[Row]:
    """Return one row, measured in a process of its own."""
    calls = budget.part(CALLS)
    early, late = map(float, printed_by_module("benchmarks.resident_memory", str(calls)).split())
    note = f"{early / 1e6:.1f} MB, then {late / 1e6:.1f} MB; one call in {_FAILING:,} fails"
    what = f"three built-ins: resident at {calls:,} calls, less at {calls // 10:,}"
    return [Row(what, max(late - early, 0.0) / 1e6, unit="MB", bar=5.0, note=note, is_difference=True)]


def resident_bytes() -> int:
    """Return the memory this process has in use; where there is no /proc, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # noqa: PLC0415 - not on Windows, and only where /proc is missing

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Print the resident bytes after a tenth of the calls, and after all of them."""
    calls = int(sys.argv[1])

    @CallPyBack(the_three(stdlib_logger_off), default_return=None)
    def observed(number: int) -> int:
        if number % _FAILING:
            return number
        raise ValueError(number)

    for first, last in ((0, calls // 10), (calls // 10, calls)):
        for number in range(first, last):
            observed(number)
        gc.collect()
        print(resident_bytes(), end=" ")


if __name__ == "__main__":
    main()
