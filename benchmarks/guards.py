"""Guards and retries on the way of a call that goes well, against a timer written by hand, beside other libraries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.controls import KINDS, Kind
from benchmarks.measuring import Budget, Subject, seconds_per_call
from benchmarks.table import Row, skipped
from callpyback import (
    CacheObserver,
    CallPyBack,
    CircuitBreakerObserver,
    ConcurrencyLimitObserver,
    MetricsObserver,
    RateLimitObserver,
    Retry,
)

TITLE = "Guards and retries"

NEVER = 10**9
"""A limit that no benchmark reaches."""

Decorator = Callable[[Any], Any]


def _one(arguments: dict[str, Any]) -> str:
    return "one"


BARRED = ("RateLimitObserver", "CacheObserver, a hit", "CircuitBreakerObserver, closed")

OURS: dict[str, Callable[[], Decorator]] = {
    "RateLimitObserver": lambda: CallPyBack([RateLimitObserver(NEVER)]),
    "RateLimitObserver(key=...)": lambda: CallPyBack([RateLimitObserver(NEVER, key=_one)]),
    "CacheObserver, a hit": lambda: CallPyBack([CacheObserver()]),
    "CircuitBreakerObserver, closed": lambda: CallPyBack([CircuitBreakerObserver()]),
    "ConcurrencyLimitObserver": lambda: CallPyBack([ConcurrencyLimitObserver(8)]),
    "Retry, nothing to retry": lambda: CallPyBack(retry=Retry()),
    "breaker, rate limit and MetricsObserver": lambda: CallPyBack(
        [CircuitBreakerObserver(), RateLimitObserver(NEVER), MetricsObserver()]
    ),
    "max_execution_time=60": lambda: CallPyBack(max_execution_time=60),
}


def _lru_cache() -> Decorator:
    return functools.lru_cache(maxsize=1024)


def _cachetools() -> Decorator:
    from threading import Lock  # noqa: PLC0415 - as its documentation says for more than one thread

    from cachetools import TTLCache, cached  # noqa: PLC0415

    return cached(TTLCache(1024, 300), lock=Lock())


def _limits() -> Decorator:
    from limits import RateLimitItemPerMinute  # noqa: PLC0415 - each only if it is installed
    from limits.storage import MemoryStorage  # noqa: PLC0415
    from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

    # Its window keeps a list of hits: a limit so high that the list's growth would not be what is measured.
    limiter, item = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(1000)

    def limited(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            limiter.hit(item, "key")
            return function(*args, **kwargs)

        return wrapper

    return limited


def _pybreaker() -> Decorator:
    from pybreaker import CircuitBreaker  # noqa: PLC0415

    return CircuitBreaker()


def _circuitbreaker() -> Decorator:
    from circuitbreaker import circuit  # noqa: PLC0415

    return circuit(failure_threshold=5, recovery_timeout=30, name="benchmarks")


def _tenacity() -> Decorator:
    import tenacity  # noqa: PLC0415

    return tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential())


OTHERS: dict[str, Callable[[], Decorator]] = {
    "functools.lru_cache, a hit": _lru_cache,
    "cachetools.cached(TTLCache, lock), a hit": _cachetools,
    "limits MovingWindowRateLimiter, in memory": _limits,
    "pybreaker, closed": _pybreaker,
    "circuitbreaker, closed": _circuitbreaker,
    "tenacity.retry, nothing to retry": _tenacity,
}


def rows(budget: Budget) -> list[Row]:
    """Return the rows of plain functions, ours and the others', and ours of coroutines."""
    decorators, missing = {name: make() for name, make in OURS.items()}, {}
    for name, make in OTHERS.items():
        try:
            decorators[name] = make()
        except ImportError as error:
            missing[name] = f"not installed ({error}); install the extra `bench`"
    plain = _rows_of("function", decorators, budget)
    coroutines = _rows_of("coroutine", {name: make() for name, make in OURS.items()}, budget)
    return [*plain, *coroutines, *(skipped(name, reason) for name, reason in missing.items())]


def _rows_of(kind_name: str, decorators: dict[str, Decorator], budget: Budget) -> list[Row]:
    kind = KINDS[kind_name]
    subjects = {"timer": kind.driven(kind.timer(kind.body))}
    subjects |= {name: _subject(kind, decorate) for name, decorate in decorators.items()}
    seconds = seconds_per_call(subjects, budget)
    return [
        Row(
            f"{kind_name}: {name} / timer",
            seconds[name] / seconds["timer"],
            bar=4.0 if kind_name == "function" and name in BARRED else None,
            seconds=seconds[name],
        )
        for name in decorators
    ]


def _subject(kind: Kind, decorate: Decorator) -> Subject:
    # A copy: what one library leaves on a function must not meet the next one.
    body = type(kind.body)(kind.body.__code__.replace(), kind.body.__globals__, kind.body.__name__)
    return kind.driven(decorate(body))
