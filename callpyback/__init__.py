"""See and steer every call of your functions, with one decorator.

Each name is imported when it is first used, so that nothing is paid for what a program does not touch; pytest, which
loads the plugin of every installed package, pays next to nothing (PYTEST_DONT_REWRITE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.config.loading import create_observer, describe_observers, load_observers
    from callpyback.config.registry import register_observer_type, registered_observer_types, unregister_observer_type
    from callpyback.core.audience import Hearing
    from callpyback.core.context import ExecutionContext, ExecutionFailure, ExecutionResult
    from callpyback.core.current import CurrentCall
    from callpyback.core.current_call import current_call
    from callpyback.core.decorator import CallPyBack, handle
    from callpyback.core.functions import FunctionKind, FunctionSignature
    from callpyback.core.handle import FunctionHandle
    from callpyback.core.health import ObserverHealth
    from callpyback.core.interest import want
    from callpyback.core.masking import Masking
    from callpyback.core.notices import ProgressNotice, RetryNotice
    from callpyback.core.ordering import required_by, requires
    from callpyback.core.policy import factory
    from callpyback.core.shared import Shared
    from callpyback.core.state_machine import ExecutionState, Notice, Outcome, StateMachine
    from callpyback.core.subscription import Subscription
    from callpyback.core.time_sources import MockTimeSource, SystemTimeSource
    from callpyback.core.variable_extraction import NoOpVariableExtractor, NullVariable, TracingVariableExtractor
    from callpyback.core.visitors import add_global_observer, observing, remove_global_observer
    from callpyback.core.waiting import Wait
    from callpyback.core.workers import late_jobs
    from callpyback.delivery.background import BackgroundObserver
    from callpyback.delivery.batching import BatchingObserver
    from callpyback.delivery.partial import PartlyFailed
    from callpyback.errors import (
        AccessDenied,
        CallPyBackError,
        CallVetoed,
        CircuitOpen,
        ConcurrencyLimitExceeded,
        ConfigurationError,
        EndlessEvents,
        ExecutionTimeout,
        RateLimitExceeded,
        StateTransitionError,
        StopProcessing,
    )
    from callpyback.events.bridges import bridge
    from callpyback.events.bridges.base import Bridge
    from callpyback.events.bus import EventBus
    from callpyback.events.calls import CallEvent, CallEvents
    from callpyback.events.event import Event
    from callpyback.events.explaining import Explanation
    from callpyback.events.hook import EventHook
    from callpyback.events.registry import get_event_bus
    from callpyback.events.typed_observer import TypedObserver
    from callpyback.guards.cache import CacheObserver
    from callpyback.guards.circuit_breaker import CircuitBreakerObserver
    from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver
    from callpyback.guards.rate_limit import RateLimitObserver
    from callpyback.handlers.builder import ErrorHandlerBuilder
    from callpyback.handlers.chain import ErrorHandlerChain
    from callpyback.handlers.chains import (
        create_robust_error_chain,
        create_simple_error_chain,
        create_standard_error_chain,
        create_user_friendly_error_chain,
        create_validation_error_chain,
    )
    from callpyback.handlers.handler import Handler
    from callpyback.handlers.retry import Retry
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
    from callpyback.observers.parts.degradation import Degradation
    from callpyback.observers.performance_profile import PerformanceProfileObserver
    from callpyback.observers.processing import ProcessingObserver
    from callpyback.observers.profiling import ProfilingObserver
    from callpyback.observers.progress import ProgressObserver
    from callpyback.observers.sampling import SamplingObserver
    from callpyback.observers.security_audit import SecurityAuditObserver
    from callpyback.observers.state import StateObserver
    from callpyback.observers.timing import TimingObserver
    from callpyback.protocols import (
        BindableGuard,
        BindableObserver,
        ErrorHandler,
        Observer,
        TimeSource,
        VariableExtractor,
    )
    from callpyback.sinks.database import DatabaseObserver
    from callpyback.sinks.webhook import WebhookObserver

__all__ = [
    "AccessDenied",
    "AlertObserver",
    "BackgroundObserver",
    "BaseObserver",
    "BatchingObserver",
    "BindableGuard",
    "BindableObserver",
    "Bridge",
    "BusinessMetricsObserver",
    "CacheObserver",
    "CallEvent",
    "CallEvents",
    "CallPyBack",
    "CallPyBackError",
    "CallVetoed",
    "CallbackObserver",
    "CircuitBreakerObserver",
    "CircuitOpen",
    "ConcurrencyLimitExceeded",
    "ConcurrencyLimitObserver",
    "ConfigurationError",
    "CurrentCall",
    "DatabaseObserver",
    "DebugObserver",
    "DeduplicateObserver",
    "Degradation",
    "EndlessEvents",
    "ErrorHandler",
    "ErrorHandlerBuilder",
    "ErrorHandlerChain",
    "Event",
    "EventBus",
    "EventHook",
    "ExecutionContext",
    "ExecutionFailure",
    "ExecutionResult",
    "ExecutionState",
    "ExecutionTimeout",
    "Explanation",
    "FunctionHandle",
    "FunctionKind",
    "FunctionSignature",
    "Handler",
    "Hearing",
    "HistoryObserver",
    "LoggingObserver",
    "Masking",
    "MetricsObserver",
    "MockTimeSource",
    "NoOpVariableExtractor",
    "Notice",
    "NullVariable",
    "Observer",
    "ObserverHealth",
    "Outcome",
    "OverlapObserver",
    "PartlyFailed",
    "PerformanceProfileObserver",
    "ProcessingObserver",
    "ProfilingObserver",
    "ProgressNotice",
    "ProgressObserver",
    "RateLimitExceeded",
    "RateLimitObserver",
    "Retry",
    "RetryNotice",
    "SamplingObserver",
    "SecurityAuditObserver",
    "Shared",
    "StateMachine",
    "StateObserver",
    "StateTransitionError",
    "StopProcessing",
    "Subscription",
    "SystemTimeSource",
    "TimeSource",
    "TimingObserver",
    "TracingVariableExtractor",
    "TypedObserver",
    "VariableExtractor",
    "Wait",
    "WebhookObserver",
    "add_global_observer",
    "bridge",
    "create_callback_observer",
    "create_observer",
    "create_robust_error_chain",
    "create_simple_error_chain",
    "create_standard_error_chain",
    "create_user_friendly_error_chain",
    "create_validation_error_chain",
    "current_call",
    "describe_observers",
    "factory",
    "get_event_bus",
    "handle",
    "late_jobs",
    "load_observers",
    "observes",
    "observing",
    "on_call",
    "on_completion",
    "on_error",
    "on_failure",
    "on_progress",
    "on_retry",
    "on_success",
    "register_observer_type",
    "registered_observer_types",
    "remove_global_observer",
    "required_by",
    "requires",
    "unregister_observer_type",
    "want",
]

_MODULES = {
    "config.loading": ("create_observer", "describe_observers", "load_observers"),
    "config.registry": ("register_observer_type", "registered_observer_types", "unregister_observer_type"),
    "core.audience": ("Hearing",),
    "core.context": ("ExecutionContext", "ExecutionFailure", "ExecutionResult"),
    "core.current": ("CurrentCall",),
    "core.current_call": ("current_call",),
    "core.decorator": ("CallPyBack", "handle"),
    "core.functions": ("FunctionKind", "FunctionSignature"),
    "core.handle": ("FunctionHandle",),
    "core.health": ("ObserverHealth",),
    "core.interest": ("want",),
    "core.masking": ("Masking",),
    "core.notices": ("ProgressNotice", "RetryNotice"),
    "core.ordering": ("required_by", "requires"),
    "core.policy": ("factory",),
    "core.shared": ("Shared",),
    "core.state_machine": ("ExecutionState", "Notice", "Outcome", "StateMachine"),
    "core.subscription": ("Subscription",),
    "core.time_sources": ("MockTimeSource", "SystemTimeSource"),
    "core.variable_extraction": ("NoOpVariableExtractor", "NullVariable", "TracingVariableExtractor"),
    "core.visitors": ("add_global_observer", "observing", "remove_global_observer"),
    "core.waiting": ("Wait",),
    "core.workers": ("late_jobs",),
    "delivery.background": ("BackgroundObserver",),
    "delivery.batching": ("BatchingObserver",),
    "delivery.partial": ("PartlyFailed",),
    "errors": (
        "AccessDenied",
        "CallPyBackError",
        "CallVetoed",
        "CircuitOpen",
        "ConcurrencyLimitExceeded",
        "ConfigurationError",
        "EndlessEvents",
        "ExecutionTimeout",
        "RateLimitExceeded",
        "StateTransitionError",
        "StopProcessing",
    ),
    "events.bridges": ("bridge",),
    "events.bridges.base": ("Bridge",),
    "events.bus": ("EventBus",),
    "events.calls": ("CallEvent", "CallEvents"),
    "events.event": ("Event",),
    "events.explaining": ("Explanation",),
    "events.hook": ("EventHook",),
    "events.registry": ("get_event_bus",),
    "events.typed_observer": ("TypedObserver",),
    "guards.cache": ("CacheObserver",),
    "guards.circuit_breaker": ("CircuitBreakerObserver",),
    "guards.concurrency_limit": ("ConcurrencyLimitObserver",),
    "guards.rate_limit": ("RateLimitObserver",),
    "handlers.builder": ("ErrorHandlerBuilder",),
    "handlers.chain": ("ErrorHandlerChain",),
    "handlers.chains": (
        "create_robust_error_chain",
        "create_simple_error_chain",
        "create_standard_error_chain",
        "create_user_friendly_error_chain",
        "create_validation_error_chain",
    ),
    "handlers.handler": ("Handler",),
    "handlers.retry": ("Retry",),
    "observers.alert": ("AlertObserver",),
    "observers.base": ("BaseObserver",),
    "observers.business_metrics": ("BusinessMetricsObserver",),
    "observers.callback": (
        "CallbackObserver",
        "create_callback_observer",
        "on_call",
        "on_completion",
        "on_error",
        "on_failure",
        "on_progress",
        "on_retry",
        "on_success",
    ),
    "observers.debug": ("DebugObserver",),
    "observers.deduplicate": ("DeduplicateObserver",),
    "observers.history": ("HistoryObserver",),
    "observers.logging": ("LoggingObserver",),
    "observers.metrics": ("MetricsObserver",),
    "observers.observes": ("observes",),
    "observers.overlap": ("OverlapObserver",),
    "observers.parts.degradation": ("Degradation",),
    "observers.performance_profile": ("PerformanceProfileObserver",),
    "observers.processing": ("ProcessingObserver",),
    "observers.profiling": ("ProfilingObserver",),
    "observers.progress": ("ProgressObserver",),
    "observers.sampling": ("SamplingObserver",),
    "observers.security_audit": ("SecurityAuditObserver",),
    "observers.state": ("StateObserver",),
    "observers.timing": ("TimingObserver",),
    "protocols": ("BindableGuard", "BindableObserver", "ErrorHandler", "Observer", "TimeSource", "VariableExtractor"),
    "sinks.database": ("DatabaseObserver",),
    "sinks.webhook": ("WebhookObserver",),
}
_HOMES = {name: f".{module}" for module, names in _MODULES.items() for name in names}

_lazily, __dir__ = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest of this module

        return version("callpyback")
    return _lazily(name)
