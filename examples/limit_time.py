"""max_execution_time: what a deadline does to a coroutine, to a plain function, and to a generator."""

import asyncio
import threading
from collections.abc import Iterator

from callpyback import CallPyBack, ExecutionTimeout, MockTimeSource, late_jobs, on_completion

clock = MockTimeSource()
told = on_completion(lambda outcome: print(f"  [{outcome.name}]"))


@CallPyBack(observers=[told], max_execution_time=60, time_source=clock)
async def fetch() -> str:
    """Hang; the clock says when a minute is over."""
    try:
        clock.advance(61)
        await asyncio.sleep(3600)
    finally:
        print("  the coroutine is cancelled, and cleans up")
    return "never"


try:
    asyncio.run(fetch())
except TimeoutError as error:
    print(f"{type(error).__name__}: {error}")

released = threading.Event()
ended = threading.Event()


@CallPyBack(max_execution_time=0.05, default_return="no answer")
def compute() -> str:
    """Hang in a thread, which nobody can stop."""
    released.wait()
    ended.set()
    return "too late"


print("the plain function:", compute(), "- still running:", late_jobs())
released.set()
print("it ended by itself, and nobody asked for its value:", ended.wait(10))


@CallPyBack(max_execution_time=10, time_source=clock)
def lines() -> Iterator[str]:
    """Take longer for the second line; the time of the consumer does not count."""
    clock.advance(4)
    yield "first"
    clock.advance(8)
    yield "second"


try:
    for line in lines():
        print(line)
        clock.advance(100)
except ExecutionTimeout as error:
    print(error)
