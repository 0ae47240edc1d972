"""Functions that fail when they are told to, and how tests of the circuit breaker call them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from callpyback.core.functions import FunctionSignature
from callpyback.errors import CircuitOpen
from kinds import Kind

PLAIN = Kind("plain")
GENERATOR = Kind("generator")
THREADS = 16


def down() -> ConnectionError:
    """Return the failure that counts."""
    return ConnectionError("down")


def answer(given: Any = "answer", *_: object) -> Any:
    """Return what is given, or raise it."""
    if isinstance(given, BaseException):
        raise given
    return given


def ask(given: Any, user: object) -> Any:
    """Answer a user, who may be the key."""
    return answer(given)


def fail(kind: Kind, function: Callable[..., Any], times: int = 3, *rest: object) -> None:
    """Have it called, and fail, so many times."""
    for _ in range(times):
        error = down()
        assert kind.ended(function, error, *rest).exception is error


def is_refused(kind: Kind, function: Callable[..., Any], *args: object) -> bool:
    """Return whether the circuit refuses a call."""
    return type(kind.ended(function, *args).exception) is CircuitOpen


def begun(function: Callable[..., Any], *args: object) -> Any:
    """Return a call of a generator function that has made its first step."""
    call = function(*args)
    next(call)
    return call


def name_of(function: Any) -> str:
    """Return the name of a function as the breaker shows it."""
    signature = FunctionSignature.of(getattr(function, "__func__", function))
    return f"{signature.module}.{signature.qualname}"


def in_threads(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run `work(number)` in so many threads that begin together and take turns as often as they can."""
    start = threading.Barrier(threads)

    def begin(number: int) -> Any:
        start.wait(30)
        return work(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(begin, range(threads)))
    finally:
        sys.setswitchinterval(interval)


class Probed:
    """A body that fails when told to, and otherwise lasts until all other threads have been refused."""

    def __init__(self) -> None:
        self.ran = 0
        self.refused = threading.Semaphore(0)

    def __call__(self, given: Any = "answer") -> Any:
        answer(given)
        self.ran += 1
        for _ in range(THREADS - 1):
            assert self.refused.acquire(timeout=30)
        return given
