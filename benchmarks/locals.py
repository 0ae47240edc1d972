"""What capturing locals costs: the rows of `bench_locals.py`, in this table's form."""

from __future__ import annotations

from benchmarks import bench_locals
from benchmarks.measuring import Budget
from benchmarks.table import Row

TITLE = "Captured locals"


def rows(budget: Budget) -> list[Row]:
    """Return a row for each figure there."""
    return [Row(what, measured, bar=bar) for what, measured, bar in bench_locals.rows()]
