"""Importing the package, against importing only what it cannot do without.

That is msgspec, whose records are what makes a context cheap, and these modules of the standard library: `inspect`,
for the kind and the signature of what is decorated; `logging`, for the logger `callpyback`; `threading`, `weakref`,
`contextvars` and `enum`. msgspec itself brings most of them.
"""

from __future__ import annotations

import math
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.processes import printed_by
from benchmarks.table import Row

if TYPE_CHECKING:
    from benchmarks.measuring import Budget

TITLE = "Import"

NEEDED = "import contextvars, enum, inspect, logging, msgspec, threading, weakref"
_FIRST_CALL = "CallPyBack([MetricsObserver()])(lambda: 1)()"
IMPORTS = {
    "import callpyback": "names are imported when they are first used",
    "from callpyback import CallPyBack": "what a program really pays that decorates something",
    f"from callpyback import CallPyBack, MetricsObserver; {_FIRST_CALL}": "and a first call, observed",
}
_TIMED = "import time; started = time.process_time(); {}; print(time.process_time() - started)"


def rows(budget: Budget) -> list[Row]:
    """Return a row for each way to begin: the shortest of many fresh imports, in turns, by processor time."""
    shortest = dict.fromkeys((NEEDED, *IMPORTS), math.inf)
    with TemporaryDirectory() as folder:
        for _ in range(1 + budget.part(30)):  # the first compiles
            for text in shortest:
                shortest[text] = min(shortest[text], float(printed_by("-c", _TIMED.format(text), compiled_in=folder)))
    needed = shortest[NEEDED]
    return [
        Row(f"{text.partition(';')[0]} / needed", shortest[text] / needed, bar=bar, seconds=shortest[text], note=note)
        for (text, note), bar in zip(IMPORTS.items(), (1.2, 1.2, None), strict=True)
    ] + [Row(f"needed: {NEEDED.partition(' ')[2]}", 1.0, seconds=needed)]
