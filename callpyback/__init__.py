"""See and steer every call of your functions, with one decorator.

Names that most programs never touch are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from callpyback.core.context import ExecutionContext, ExecutionFailure, ExecutionResult
from callpyback.core.decorator import CallPyBack, handle
from callpyback.core.functions import FunctionKind, FunctionSignature
from callpyback.core.handle import FunctionHandle
from callpyback.core.health import ObserverHealth
from callpyback.core.policy import factory
from callpyback.core.state_machine import ExecutionState, Outcome, StateMachine
from callpyback.core.time_sources import MockTimeSource, SystemTimeSource
from callpyback.core.variable_extraction import NoOpVariableExtractor, NullVariable, TracingVariableExtractor
from callpyback.errors import CallPyBackError, CallVetoed, ConfigurationError, StateTransitionError, StopProcessing
from callpyback.protocols import BindableObserver, ErrorHandler, Observer, TimeSource, VariableExtractor

if TYPE_CHECKING:
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
    from callpyback.observers.logging import LoggingObserver
    from callpyback.observers.metrics import MetricsObserver
    from callpyback.observers.timing import TimingObserver

__all__ = [
    "BaseObserver",
    "BindableObserver",
    "CallPyBack",
    "CallPyBackError",
    "CallVetoed",
    "CallbackObserver",
    "ConfigurationError",
    "ErrorHandler",
    "ExecutionContext",
    "ExecutionFailure",
    "ExecutionResult",
    "ExecutionState",
    "FunctionHandle",
    "FunctionKind",
    "FunctionSignature",
    "LoggingObserver",
    "MetricsObserver",
    "MockTimeSource",
    "NoOpVariableExtractor",
    "NullVariable",
    "Observer",
    "ObserverHealth",
    "Outcome",
    "StateMachine",
    "StateTransitionError",
    "StopProcessing",
    "SystemTimeSource",
    "TimeSource",
    "TimingObserver",
    "TracingVariableExtractor",
    "VariableExtractor",
    "create_callback_observer",
    "factory",
    "handle",
    "on_call",
    "on_completion",
    "on_error",
    "on_failure",
    "on_success",
]

_IMPORTED_WHEN_USED = {
    "BaseObserver": "base",
    "CallbackObserver": "callback",
    "LoggingObserver": "logging",
    "MetricsObserver": "metrics",
    "TimingObserver": "timing",
    "create_callback_observer": "callback",
    "on_call": "callback",
    "on_completion": "callback",
    "on_error": "callback",
    "on_failure": "callback",
    "on_success": "callback",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs more than all the rest of this import

        return version("callpyback")
    if name not in _IMPORTED_WHEN_USED:
        message = f"module 'callpyback' has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(f"callpyback.observers.{_IMPORTED_WHEN_USED[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
