"""`import callpyback`, against importing only what it cannot do without.

That is msgspec, whose records are what makes a context cheap, and these modules of the standard library: `inspect`, for the
kind and the signature of what is decorated; `logging`, for the logger `callpyback`; `threading`, `weakref`,
`contextvars` and `enum`. msgspec itself brings most of them.
"""

from __future__ import annotations

import math
from tempfile import TemporaryDirectory

from benchmarks.measuring import Budget
from benchmarks.processes import printed_by
from benchmarks.table import Row

TITLE = "Import"

NEEDED = ("contextvars", "enum", "inspect", "logging", "msgspec", "threading", "weakref")
_TIMED = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"


def rows(budget: Budget) -> list[Row]:
    """Return one row: the shortest of many fresh imports of each, in turns, by processor time."""
    texts = {"callpyback": _TIMED.format("callpyback"), "needed": _TIMED.format(", ".join(NEEDED))}
    shortest = dict.fromkeys(texts, math.inf)
    with TemporaryDirectory() as folder:
        for _ in range(1 + budget.part(40)):  # the first compiles
            for name, text in texts.items():
                shortest[name] = min(shortest[name], float(printed_by("-c", text, compiled_in=folder)))
    note = f"{shortest['callpyback'] * 1e3:.1f} ms; {', '.join(NEEDED)} alone {shortest['needed'] * 1e3:.1f} ms"
    ratio = shortest["callpyback"] / shortest["needed"]
    return [Row("import callpyback / what it cannot do without", ratio, bar=1.2, note=note)]
