"""See and steer every call of your functions, with one decorator."""

from __future__ import annotations

from callpyback.core.context import ExecutionContext, ExecutionFailure, ExecutionResult
from callpyback.core.decorator import CallPyBack, handle
from callpyback.core.state_machine import ExecutionState, Outcome, StateMachine
from callpyback.errors import CallPyBackError, CallVetoed, ConfigurationError, StateTransitionError, StopProcessing
