"""The observers of this library by their short names. Each is imported when it is first made, and not before."""

from __future__ import annotations

from typing import Final

from callpyback.config.readers import Reader, read_exceptions, read_logger

BUILT_IN: Final = {
    "alert": "observers.alert:AlertObserver",
    "background": "delivery.background:BackgroundObserver",
    "batching": "delivery.batching:BatchingObserver",
    "business_metrics": "observers.business_metrics:BusinessMetricsObserver",
    "cache": "guards.cache:CacheObserver",
    "circuit_breaker": "guards.circuit_breaker:CircuitBreakerObserver",
    "concurrency_limit": "guards.concurrency_limit:ConcurrencyLimitObserver",
    "database": "sinks.database:DatabaseObserver",
    "debug": "observers.debug:DebugObserver",
    "deduplicate": "observers.deduplicate:DeduplicateObserver",
    "history": "observers.history:HistoryObserver",
    "logging": "observers.logging:LoggingObserver",
    "metrics": "observers.metrics:MetricsObserver",
    "overlap": "observers.overlap:OverlapObserver",
    "performance_profile": "observers.performance_profile:PerformanceProfileObserver",
    "profiling": "observers.profiling:ProfilingObserver",
    "progress": "observers.progress:ProgressObserver",
    "rate_limit": "guards.rate_limit:RateLimitObserver",
    "sampling": "observers.sampling:SamplingObserver",
    "security_audit": "observers.security_audit:SecurityAuditObserver",
    "timing": "observers.timing:TimingObserver",
    "webhook": "sinks.webhook:WebhookObserver",
}
"""By name, the module within this package and the class."""

READERS: Final[dict[str, Reader]] = {
    "audit_logger": read_logger,
    "logger": read_logger,
    "on": read_exceptions,
}
"""By the name of an option of any of these, what reads it."""
