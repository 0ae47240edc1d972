"""The states of one call, the outcomes it can have, and the table of the steps between the states."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

from callpyback.errors import StateTransitionError


class ExecutionState(enum.Enum):
    """Where a call is. Every call ends in COMPLETED or in ERROR, exactly once."""

    INITIALIZED = "initialized"
    PRE_EXECUTION = "pre_execution"
    EXECUTING = "executing"
    POST_SUCCESS = "post_success"
    POST_FAILURE = "post_failure"
    COMPLETED = "completed"
    ERROR = "error"

    __hash__ = object.__hash__  # members are singletons; Enum's own hashes the name, in Python

    @property
    def is_terminal(self) -> bool:
        """Whether a call ends here."""
        return not TRANSITIONS[self]


class Notice(enum.Enum):
    """What is told inside EXECUTING to observers that ask for it by `notices`. Not a state."""

    RETRY = "retry"  # an attempt failed, and after a wait the body runs again
    PROGRESS = "progress"  # the body has come so far

    __hash__ = object.__hash__


class Outcome(enum.Enum):
    """How a call ended, as its caller saw it."""

    SUCCESS = "success"  # the body returned, and the caller got its value
    FAILURE = "failure"  # an error went on to the caller
    HANDLED = "handled"  # the body raised; a handler's value went to the caller instead
    SUPPLIED = "supplied"  # an observer answered; the body never ran
    VETOED = "vetoed"  # an observer refused the call; the body never ran
    TIMED_OUT = "timed_out"  # the deadline passed
    CANCELLED = "cancelled"  # the task was cancelled
    ABANDONED = "abandoned"  # a generator or coroutine was closed half way
    ABORTED = "aborted"  # KeyboardInterrupt, SystemExit or another BaseException

    __hash__ = object.__hash__


_S = ExecutionState

TRANSITIONS: Final = MappingProxyType(
    {
        _S.INITIALIZED: frozenset({_S.PRE_EXECUTION}),
        _S.PRE_EXECUTION: frozenset({_S.EXECUTING, _S.COMPLETED, _S.ERROR}),
        _S.EXECUTING: frozenset({_S.POST_SUCCESS, _S.POST_FAILURE, _S.COMPLETED, _S.ERROR}),
        _S.POST_SUCCESS: frozenset({_S.COMPLETED, _S.ERROR}),
        _S.POST_FAILURE: frozenset({_S.COMPLETED, _S.ERROR, _S.EXECUTING}),
        _S.COMPLETED: frozenset[ExecutionState](),
        _S.ERROR: frozenset[ExecutionState](),
    }
)
"""From each state, the states that may follow it. `docs/reference/states.md` says when each step is taken."""

PLAIN_STATES: Final = frozenset(
    {_S.PRE_EXECUTION, _S.POST_SUCCESS, _S.POST_FAILURE, _S.COMPLETED, _S.ERROR},
)
"""What an observer that names no states is told."""

TERMINAL_STATES: Final = frozenset({_S.COMPLETED, _S.ERROR})

ENDED_STATES: Final = PLAIN_STATES - {_S.PRE_EXECUTION}
"""The states in which the body is over, or never ran: there is a result to show."""


class StateMachine:
    """A walk over the table of states: what one call does, as an object to hold and to ask.

    The call path itself keeps no such object; this one serves tests, simulations and people who
    drive a call by hand.

    Example:
        >>> machine = StateMachine()
        >>> machine.transition_to(ExecutionState.PRE_EXECUTION)
        >>> machine.can_transition_to(ExecutionState.POST_SUCCESS)
        False
        >>> machine.is_terminal
        False
    """

    __slots__ = ("_history",)

    def __init__(self) -> None:
        self._history = [ExecutionState.INITIALIZED]

    @property
    def current_state(self) -> ExecutionState:
        """The state reached last."""
        return self._history[-1]

    @property
    def state_history(self) -> tuple[ExecutionState, ...]:
        """Every state so far, oldest first, the current one included."""
        return tuple(self._history)

    @property
    def is_terminal(self) -> bool:
        """Whether no state follows the current one."""
        return self.current_state.is_terminal

    def can_transition_to(self, state: ExecutionState) -> bool:
        """Return whether the table leads from the current state to this one."""
        return state in TRANSITIONS[self.current_state]

    def transition_to(self, state: ExecutionState) -> None:
        """Take one step.

        Raises:
            StateTransitionError: The table has no such step; the message lists those it has.
        """
        if not self.can_transition_to(state):
            allowed = sorted(follower.name for follower in TRANSITIONS[self.current_state])
            steps = ", ".join(allowed) if allowed else "none: it is terminal"
            message = f"cannot go from {self.current_state.name} to {state!r}; possible steps: {steps}"
            raise StateTransitionError(message)
        self._history.append(state)

    def __repr__(self) -> str:
        return f"<StateMachine at {self.current_state.name}>"
