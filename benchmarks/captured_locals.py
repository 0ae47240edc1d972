"""What capturing locals costs: the rows of `bench_locals.py`, in this table's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import bench_locals
from benchmarks.table import Row

if TYPE_CHECKING:
    from benchmarks.measuring import Budget

TITLE = "Captured locals"


def rows(budget: Budget) -> list[Row]:
    """Return a row for each figure there."""
    return [Row(what, measured, bar=bar) for what, measured, bar in bench_locals.rows()]
