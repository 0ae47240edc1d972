"""What capturing locals costs: ratios to the bare function, against the bars of the issue.

Run: `python benchmarks/bench_locals.py`. Everything is measured in one process, in turns of a millisecond or so, and
the minimum is taken: a machine that changes its clock changes it for all of them.
"""

from __future__ import annotations

import functools
import gc
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from callpyback.core.variable_extraction import TracingVariableExtractor

_CHUNK_SECONDS = 0.0015
_ROUNDS = 80


def _step(number: int) -> int:
    return number


def trivial(first: int) -> int:
    second = first + 1
    third = second * 2
    fourth = third - first
    return fourth  # noqa: RET504 - a local is the point


def nested_calls(count: int) -> int:
    total = 0
    for _ in range(count):
        _step(total)
    return total


def c_calls(count: int) -> int:
    total = ()
    for _ in range(count):
        len(total)
    return count


def loop(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number
    return total


def failing(first: int) -> int:
    second = first + 1
    raise ValueError(second)


async def coroutine(first: int) -> int:
    second = first + 1
    third = second * 2
    return third  # noqa: RET504 - a local is the point


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function and do nothing."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException:
            raise

    return wrapper


def capturing(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Wrap a function, capture, and drop what was captured."""
    binding = TracingVariableExtractor().bind(function, names, "function")
    begin, returned, raised = binding.begin, binding.returned, binding.raised

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        state = begin()
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            raised(state, error)
            raise
        returned(state)
        return value

    return wrapper


def passing_on_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a coroutine function and do nothing."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        try:
            return await inner
        except BaseException:
            raise

    return wrapper


def capturing_coroutine(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Wrap a coroutine function, capture, and drop what was captured."""
    binding = TracingVariableExtractor().bind(function, names, "coroutine function")
    begin, returned, raised = binding.begin, binding.returned, binding.raised

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        state = begin(inner)
        try:
            value = await inner
        except BaseException as error:
            raised(state, error)
            raise
        returned(state)
        return value

    return wrapper


def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a coroutine function without a loop."""

    def step(*args: Any) -> Any:
        try:
            function(*args).send(None)
        except StopIteration as end:
            return end.value

    return step


def caught(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a failing function and catch its error, as its caller would."""

    def catch(*args: Any) -> None:
        try:
            function(*args)
        except ValueError:
            pass

    return catch


def measure(functions: list[Callable[..., Any]], argument: Any) -> list[float]:
    """Return the seconds a call of each takes: the minimum of many short turns, taken in alternation."""
    counts = []
    for function in functions:
        count, elapsed = 1, 0.0
        while elapsed < _CHUNK_SECONDS:
            count *= 2
            elapsed = _chunk(function, argument, count)
        counts.append(count)
    best = [math.inf] * len(functions)
    for _ in range(_ROUNDS):
        for index, (function, count) in enumerate(zip(functions, counts, strict=True)):
            best[index] = min(best[index], _chunk(function, argument, count) / count)
    return best


def _chunk(function: Callable[..., Any], argument: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        function(argument)
    return time.perf_counter() - started


def _beside(function: Callable[..., Any]) -> float:
    """Return how much slower unrelated code in this thread is while another is inside a decorated call."""
    inside, leave = threading.Event(), threading.Event()

    def waiting() -> None:
        inside.set()
        leave.wait()

    (alone,) = measure([function], 1000)
    thread = threading.Thread(target=capturing(waiting, ("nothing",)))
    thread.start()
    inside.wait()
    (accompanied,) = measure([function], 1000)
    leave.set()
    thread.join()
    return accompanied / alone


def rows() -> list[tuple[str, float, float]]:
    """Return (what, measured ratio, bar) for each figure."""
    table = []

    def copy(function: Any) -> Any:
        return type(function)(function.__code__.replace(), function.__globals__, function.__name__)

    plain, wrapped, captured = measure(
        [trivial, passing_on(trivial), capturing(copy(trivial), ("second", "third", "fourth"))], 1
    )
    table.append(("three locals: added, in plain calls", (captured - wrapped) / plain, 20.0))
    for what, function, argument, bar in (
        ("1,000 nested Python calls: total", nested_calls, 1000, 1.10),
        ("1,000 C calls: total", c_calls, 1000, 1.15),
        ("200 iterations: total", loop, 200, 1.5),
    ):
        plain, captured = measure([function, capturing(copy(function), ("total", "count"))], argument)
        table.append((what, captured / plain, bar))
    plain, captured = measure([caught(failing), caught(capturing(copy(failing), ("first", "second")))], 1)
    table.append(("a call that raises: total", captured / plain, 8.0))
    plain, wrapped, captured = measure(
        [
            stepped(coroutine),
            stepped(passing_on_coroutine(coroutine)),
            stepped(capturing_coroutine(coroutine, ("first", "second", "third"))),
        ],
        1,
    )
    table.append(("coroutine, three locals: added, in plain calls", (captured - wrapped) / plain, 6.0))
    table.append(("unrelated code while a call is under way: total", _beside(nested_calls), 1.05))
    return table


def main() -> None:
    """Print the table."""
    print(f"CPython {sys.version.split()[0]}")
    for what, measured, bar in rows():
        print(f"{what:50} {measured:7.2f}   bar {bar:5.2f}   {'' if measured <= bar else 'OVER'}")


if __name__ == "__main__":
    gc.disable()
    main()
