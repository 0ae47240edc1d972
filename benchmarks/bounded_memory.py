"""Ten million calls and events with everything on that keeps something: resident memory must not grow with them.

Run by itself (`python -m benchmarks.bounded_memory GROUP NUMBER`) it makes the calls and prints what they left.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.processes import printed_by_module
from benchmarks.ready_made_sinks import receiving
from benchmarks.resident_memory import resident_bytes
from benchmarks.streams import Nowhere, dropping_logger, unlogged
from benchmarks.table import Row
from callpyback import (
    AlertObserver,
    BusinessMetricsObserver,
    CallPyBack,
    DatabaseObserver,
    DebugObserver,
    DeduplicateObserver,
    EventBus,
    HistoryObserver,
    OverlapObserver,
    PerformanceProfileObserver,
    ProfilingObserver,
    SamplingObserver,
    SecurityAuditObserver,
    TimingObserver,
    WebhookObserver,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.measuring import Budget

TITLE = "Memory over many calls and events"

NUMBER = 10_000_000
SLOW_PART = 20
"""Of those that take long, one in so many calls is made."""

_PERIOD, _FAILING = 1000, 10
"""Of so many calls, the first so many fail: in a row, so that alerts begin and end."""

Act = Callable[[int], object]


class Group(NamedTuple):
    """What is on at once.

    Args:
        what: How it is called in the table.
        names: What is on.
        acting: Gives what is done again and again.
        part: One in so many of the full number is made.
    """

    what: str
    names: str
    acting: Callable[[], AbstractContextManager[Act]]
    part: int = 1


def bounded_observers() -> list[Any]:
    """Return one of each that keeps something and is quick enough; each keeps far less than is told."""
    return [
        HistoryObserver(1000),
        PerformanceProfileObserver(),
        BusinessMetricsObserver({"observed": {"revenue": {"source": "result"}}}),
        AlertObserver(0.01, window=0.005),
        OverlapObserver(),
        SamplingObserver(HistoryObserver(1000), rate=0.1, name="sampling"),
        DeduplicateObserver(HistoryObserver(1000), lambda context: context.arguments["number"] // 2, name="first"),
        ProfilingObserver(TimingObserver()),
        SecurityAuditObserver(dropping_logger("benchmarks.audit")),
    ]


def all_at_once() -> AbstractContextManager[Act]:
    """Give a function with every bounded observer that is quick enough for the full number."""
    return nullcontext(_watched(bounded_observers()))


@contextmanager
def slow_ones() -> Iterator[Act]:
    """Give a function with those that make text of every call, or deliver."""
    with TemporaryDirectory() as folder, receiving() as port:
        observers = [
            DebugObserver(Nowhere()),
            HistoryObserver(1000, text=True),
            SecurityAuditObserver(dropping_logger("benchmarks.audit"), {"observed"}),
            DatabaseObserver(Path(folder, "calls.db"), max_queue=1000, max_rows=1000),
        ]
        if find_spec("httpx") is not None:
            url = f"http://127.0.0.1:{port}/"
            observers.append(WebhookObserver(url, allow_http=True, allow_private=True, max_queue=100))
        yield _watched(observers)
        for observer in observers:
            observer.close()


def events() -> AbstractContextManager[Act]:
    """Give what emits an event on a bus that keeps the newest, and knows those that come again."""
    bus = EventBus(history=1000, deduplicate=10_000)

    @bus.register(match="order.*")
    def heard(_: Any) -> None:
        """Do nothing."""

    return nullcontext(lambda number: bus.emit("order.paid", number=number))


GROUPS = {
    "all_at_once": Group(
        "calls with nine bounded observers",
        "History, PerformanceProfile, BusinessMetrics, Alert, Overlap, Sampling, Deduplicate, Profiling, SecurityAudit",
        all_at_once,
    ),
    "slow_ones": Group(
        "calls with what writes every call down, a twentieth of them",
        "Debug, History of text, SecurityAudit of a sensitive function, Database, Webhook",
        slow_ones,
        SLOW_PART,
    ),
    "events": Group("events on a bus", "history, de-duplication", events),
}


def rows(budget: Budget) -> list[Row]:
    """Return a row for each group, measured in a process of its own; two run at a time, since no clock is read."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda name: _row(name, budget), GROUPS))


def _row(name: str, budget: Budget) -> Row:
    group = GROUPS[name]
    number = budget.part(NUMBER // group.part)
    printed = printed_by_module("benchmarks.bounded_memory", name, str(number)).split()
    early, late = map(float, printed)
    tenth = max(number // 10, 1)
    what = f"{group.what}: resident at {number:,}, less at {tenth:,}"
    note = f"{early / 1e6:.1f} MB, then {late / 1e6:.1f} MB; {group.names}"
    grown = max(late - early, 0.0) / 1e6
    return Row(what, grown, unit="MB", bar=5.0, note=note, is_difference=True)


def _watched(observers: list[Any]) -> Act:
    @CallPyBack(observers, default_return=None)
    def observed(number: int) -> int:
        if number % _PERIOD >= _FAILING:
            return number
        raise PermissionError(number)

    return observed


def main() -> None:
    """Print the resident bytes after a tenth of the calls or events, and after all of them."""
    name, number = sys.argv[1], int(sys.argv[2])
    with unlogged(), GROUPS[name].acting() as act:
        tenth = max(number // 10, 1)
        for first, last in ((0, tenth), (tenth, number)):
            for at in range(first, last):
                act(at)
            gc.collect()
            print(resident_bytes(), end=" ")


if __name__ == "__main__":
    main()
