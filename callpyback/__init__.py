"""See and steer every call of your functions, with one decorator.

Each name is imported when it is first used, so that nothing is paid for what a program does not touch; pytest, which
loads the plugin of every installed package, pays next to nothing (PYTEST_DONT_REWRITE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext, ExecutionFailure, ExecutionResult, RetryNotice
    from callpyback.core.decorator import CallPyBack, handle
    from callpyback.core.functions import FunctionKind, FunctionSignature
    from callpyback.core.handle import FunctionHandle
    from callpyback.core.health import ObserverHealth
    from callpyback.core.policy import factory
    from callpyback.core.state_machine import ExecutionState, Notice, Outcome, StateMachine
    from callpyback.core.time_sources import MockTimeSource, SystemTimeSource
    from callpyback.core.variable_extraction import NoOpVariableExtractor, NullVariable, TracingVariableExtractor
    from callpyback.core.waiting import Wait
    from callpyback.core.workers import late_jobs
    from callpyback.delivery.background import BackgroundObserver
    from callpyback.delivery.batching import BatchingObserver
    from callpyback.errors import (
        AccessDenied,
        CallPyBackError,
        CallVetoed,
        CircuitOpen,
        ConcurrencyLimitExceeded,
        ConfigurationError,
        ExecutionTimeout,
        RateLimitExceeded,
        StateTransitionError,
        StopProcessing,
    )
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
    from callpyback.observers.base import BaseObserver
    from callpyback.observers.callback import (
        CallbackObserver,
        create_callback_observer,
        on_call,
        on_completion,
        on_error,
        on_failure,
        on_retry,
        on_success,
    )
    from callpyback.observers.logging import LoggingObserver
    from callpyback.observers.metrics import MetricsObserver
    from callpyback.observers.timing import TimingObserver
    from callpyback.protocols import (
        BindableGuard,
        BindableObserver,
        ErrorHandler,
        Observer,
        TimeSource,
        VariableExtractor,
    )

__all__ = [
    "AccessDenied",
    "BackgroundObserver",
    "BaseObserver",
    "BatchingObserver",
    "BindableGuard",
    "BindableObserver",
    "CacheObserver",
    "CallPyBack",
    "CallPyBackError",
    "CallVetoed",
    "CallbackObserver",
    "CircuitBreakerObserver",
    "CircuitOpen",
    "ConcurrencyLimitExceeded",
    "ConcurrencyLimitObserver",
    "ConfigurationError",
    "ErrorHandler",
    "ErrorHandlerBuilder",
    "ErrorHandlerChain",
    "ExecutionContext",
    "ExecutionFailure",
    "ExecutionResult",
    "ExecutionState",
    "ExecutionTimeout",
    "FunctionHandle",
    "FunctionKind",
    "FunctionSignature",
    "Handler",
    "LoggingObserver",
    "MetricsObserver",
    "MockTimeSource",
    "NoOpVariableExtractor",
    "Notice",
    "NullVariable",
    "Observer",
    "ObserverHealth",
    "Outcome",
    "RateLimitExceeded",
    "RateLimitObserver",
    "Retry",
    "RetryNotice",
    "StateMachine",
    "StateTransitionError",
    "StopProcessing",
    "SystemTimeSource",
    "TimeSource",
    "TimingObserver",
    "TracingVariableExtractor",
    "VariableExtractor",
    "Wait",
    "create_callback_observer",
    "create_robust_error_chain",
    "create_simple_error_chain",
    "create_standard_error_chain",
    "create_user_friendly_error_chain",
    "create_validation_error_chain",
    "factory",
    "handle",
    "late_jobs",
    "on_call",
    "on_completion",
    "on_error",
    "on_failure",
    "on_retry",
    "on_success",
]

_MODULES = {
    "core.context": ("ExecutionContext", "ExecutionFailure", "ExecutionResult", "RetryNotice"),
    "core.decorator": ("CallPyBack", "handle"),
    "core.functions": ("FunctionKind", "FunctionSignature"),
    "core.handle": ("FunctionHandle",),
    "core.health": ("ObserverHealth",),
    "core.policy": ("factory",),
    "core.state_machine": ("ExecutionState", "Notice", "Outcome", "StateMachine"),
    "core.time_sources": ("MockTimeSource", "SystemTimeSource"),
    "core.variable_extraction": ("NoOpVariableExtractor", "NullVariable", "TracingVariableExtractor"),
    "core.waiting": ("Wait",),
    "core.workers": ("late_jobs",),
    "delivery.background": ("BackgroundObserver",),
    "delivery.batching": ("BatchingObserver",),
    "errors": (
        "AccessDenied",
        "CallPyBackError",
        "CallVetoed",
        "CircuitOpen",
        "ConcurrencyLimitExceeded",
        "ConfigurationError",
        "ExecutionTimeout",
        "RateLimitExceeded",
        "StateTransitionError",
        "StopProcessing",
    ),
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
    "observers.base": ("BaseObserver",),
    "observers.callback": (
        "CallbackObserver",
        "create_callback_observer",
        "on_call",
        "on_completion",
        "on_error",
        "on_failure",
        "on_retry",
        "on_success",
    ),
    "observers.logging": ("LoggingObserver",),
    "observers.metrics": ("MetricsObserver",),
    "observers.timing": ("TimingObserver",),
    "protocols": ("BindableGuard", "BindableObserver", "ErrorHandler", "Observer", "TimeSource", "VariableExtractor"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest of this module

        return version("callpyback")
    if name not in _HOMES:
        message = f"module 'callpyback' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415 - see above

    found = getattr(import_module(f"callpyback.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
