"""Observers that steer: they refuse a call or answer it before its body runs. Imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.guards.base import GuardObserver
    from callpyback.guards.cache import CacheObserver
    from callpyback.guards.circuit_board import CircuitChange, CircuitState
    from callpyback.guards.circuit_breaker import CircuitBreakerObserver
    from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver
    from callpyback.guards.rate_limit import RateLimitObserver

__all__ = [
    "CacheObserver",
    "CircuitBreakerObserver",
    "CircuitChange",
    "CircuitState",
    "ConcurrencyLimitObserver",
    "GuardObserver",
    "RateLimitObserver",
]

_HOMES = {
    "CacheObserver": ".cache",
    "CircuitBreakerObserver": ".circuit_breaker",
    "CircuitChange": ".circuit_board",
    "CircuitState": ".circuit_board",
    "ConcurrencyLimitObserver": ".concurrency_limit",
    "GuardObserver": ".base",
    "RateLimitObserver": ".rate_limit",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
