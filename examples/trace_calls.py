"""DebugObserver: a line when a call begins and when it ends, nested; ProfilingObserver: what the observers cost.

HistoryObserver keeps the newest calls to be asked afterwards. The clock is a mock one, so the durations are made up.
"""

import sys

from callpyback import (
    CallPyBack,
    DebugObserver,
    HistoryObserver,
    MockTimeSource,
    ProfilingObserver,
    Retry,
)

clock = MockTimeSource()
history, profiler = HistoryObserver(maxlen=3, text=True), ProfilingObserver()
trace = CallPyBack(
    observers=[DebugObserver(sys.stdout), history, profiler],
    time_source=clock,
    retry=Retry(attempts=2, wait=1, on=ConnectionError),
)
answers: list[str | Exception] = [ConnectionError("reset"), "sunny", ValueError("no such city\nsays the server")]


@trace
def fetch(city: str) -> str:  # noqa: ARG001
    """Ask a server."""
    clock.advance(0.02)
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


@trace
def report(cities: list[str]) -> dict[str, str]:
    """Ask for several cities."""
    return {city: fetch(city) for city in cities}


try:
    report(["Rome", "Atlantis"])
except ValueError:
    print("the caller gets the error as it was")

for record in history.find("fetch"):
    print(record.arguments, record.outcome and record.outcome.name, record.exception or record.value)
for name, part in profiler.get_performance_report()["observers"].items():
    print(name, "was told", part["total_events"], "times:", part["events_by_type"])
