"""Observers that watch: the base class, callbacks, metrics, logging, timing.

`LoggingObserver` is imported when it is first asked for, and structlog with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callpyback.observers.base import BaseObserver
from callpyback.observers.callback import (
    CallbackObserver,
    create_callback_observer,
    on_call,
    on_completion,
    on_error,
    on_failure,
    on_success,
)
from callpyback.observers.metrics import MetricsObserver
from callpyback.observers.quantiles import QuantileSketch
from callpyback.observers.timing import SlowExecution, TimingObserver

if TYPE_CHECKING:
    from callpyback.observers.logging import LoggingObserver

__all__ = [
    "BaseObserver",
    "CallbackObserver",
    "LoggingObserver",
    "MetricsObserver",
    "QuantileSketch",
    "SlowExecution",
    "TimingObserver",
    "create_callback_observer",
    "on_call",
    "on_completion",
    "on_error",
    "on_failure",
    "on_success",
]


def __getattr__(name: str) -> Any:
    if name == "LoggingObserver":
        from callpyback.observers.logging import LoggingObserver  # noqa: PLC0415 - brings structlog

        return LoggingObserver
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
