"""Observers that watch, one file each; what they share is in `parts`. Imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.observers.alert import AlertObserver
    from callpyback.observers.base import BaseObserver
    from callpyback.observers.business_metrics import BusinessMetricsObserver
    from callpyback.observers.callback import (
        CallbackObserver,
        create_callback_observer,
        on_call,
        on_completion,
        on_error,
        on_failure,
        on_progress,
        on_retry,
        on_success,
    )
    from callpyback.observers.debug import DebugObserver
    from callpyback.observers.deduplicate import DeduplicateObserver
    from callpyback.observers.history import HistoryObserver
    from callpyback.observers.logging import LoggingObserver
    from callpyback.observers.metrics import MetricsObserver
    from callpyback.observers.observes import observes
    from callpyback.observers.overlap import OverlapObserver
    from callpyback.observers.parts.quantiles import QuantileSketch
    from callpyback.observers.performance_profile import PerformanceProfileObserver
    from callpyback.observers.processing import ProcessingObserver
    from callpyback.observers.profiling import ProfilingObserver
    from callpyback.observers.progress import ProgressObserver
    from callpyback.observers.sampling import SamplingObserver
    from callpyback.observers.security_audit import SecurityAuditObserver
    from callpyback.observers.state import StateObserver
    from callpyback.observers.timing import SlowExecution, TimingObserver

__all__ = [
    "AlertObserver",
    "BaseObserver",
    "BusinessMetricsObserver",
    "CallbackObserver",
    "DebugObserver",
    "DeduplicateObserver",
    "HistoryObserver",
    "LoggingObserver",
    "MetricsObserver",
    "OverlapObserver",
    "PerformanceProfileObserver",
    "ProcessingObserver",
    "ProfilingObserver",
    "ProgressObserver",
    "QuantileSketch",
    "SamplingObserver",
    "SecurityAuditObserver",
    "SlowExecution",
    "StateObserver",
    "TimingObserver",
    "create_callback_observer",
    "observes",
    "on_call",
    "on_completion",
    "on_error",
    "on_failure",
    "on_progress",
    "on_retry",
    "on_success",
]

_HOMES = {
    "AlertObserver": ".alert",
    "BaseObserver": ".base",
    "BusinessMetricsObserver": ".business_metrics",
    "CallbackObserver": ".callback",
    "DebugObserver": ".debug",
    "DeduplicateObserver": ".deduplicate",
    "HistoryObserver": ".history",
    "LoggingObserver": ".logging",
    "MetricsObserver": ".metrics",
    "OverlapObserver": ".overlap",
    "PerformanceProfileObserver": ".performance_profile",
    "ProcessingObserver": ".processing",
    "ProfilingObserver": ".profiling",
    "ProgressObserver": ".progress",
    "QuantileSketch": ".parts.quantiles",
    "SamplingObserver": ".sampling",
    "SecurityAuditObserver": ".security_audit",
    "SlowExecution": ".timing",
    "StateObserver": ".state",
    "TimingObserver": ".timing",
    "create_callback_observer": ".callback",
    "observes": ".observes",
    **dict.fromkeys(
        ("on_call", "on_completion", "on_error", "on_failure", "on_progress", "on_retry", "on_success"), ".callback"
    ),
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
