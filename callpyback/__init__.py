"""See and steer every call of your functions, with one decorator.

Each name is imported when it is first used, so that nothing is paid for what a program does not touch; pytest, which
loads the plugin of every installed package, pays next to nothing (PYTEST_DONT_REWRITE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from callpyback.protocols import BindableObserver, ErrorHandler, Observer, TimeSource, VariableExtractor

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

_MODULES = {
    "core.context": ("ExecutionContext", "ExecutionFailure", "ExecutionResult"),
    "core.decorator": ("CallPyBack", "handle"),
    "core.functions": ("FunctionKind", "FunctionSignature"),
    "core.handle": ("FunctionHandle",),
    "core.health": ("ObserverHealth",),
    "core.policy": ("factory",),
    "core.state_machine": ("ExecutionState", "Outcome", "StateMachine"),
    "core.time_sources": ("MockTimeSource", "SystemTimeSource"),
    "core.variable_extraction": ("NoOpVariableExtractor", "NullVariable", "TracingVariableExtractor"),
    "errors": ("CallPyBackError", "CallVetoed", "ConfigurationError", "StateTransitionError", "StopProcessing"),
    "observers.base": ("BaseObserver",),
    "observers.callback": (
        "CallbackObserver",
        "create_callback_observer",
        "on_call",
        "on_completion",
        "on_error",
        "on_failure",
        "on_success",
    ),
    "observers.logging": ("LoggingObserver",),
    "observers.metrics": ("MetricsObserver",),
    "observers.timing": ("TimingObserver",),
    "protocols": ("BindableObserver", "ErrorHandler", "Observer", "TimeSource", "VariableExtractor"),
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
