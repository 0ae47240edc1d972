"""An observer that keeps what it is told, with assertions named as in unittest.mock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import ExecutionState, Outcome
from callpyback.errors import ConfigurationError
from callpyback.observers.base import BaseObserver
from callpyback.testing.calls import RecordedCall, shown_arguments
from callpyback.testing.snapshots import snapshot_of

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

E = TypeVar("E", bound=BaseException)

_SHOWN_CALLS: Final = 10
"""How many calls a message shows, the last ones."""


class RecordingObserver(BaseObserver):
    """Keeps every context it is told, as it was then, and answers for it in a test's words.

    A later change of a list, dict or set in the arguments, the locals or the value does not show; other objects are
    kept themselves. So are exceptions, with the frames in their tracebacks. Nothing is ever dropped before `reset()`:
    this is for tests, not for a program that runs for long. Any number of threads may be told of at once.

    Contexts with one `call_id` are one call. A context without any is a call of its own. Calls made in other calls are
    told apart by `parent_call_id` and `depth`; for that, every call of the process is tracked from now on.

    Args:
        priority: Higher is told earlier.
        name: How it is shown in logs; the name of the class by default.
        states: What it is told; by default what a plain observer is: all but INITIALIZED and EXECUTING.
        all_states: Be told all seven states.

    Raises:
        ConfigurationError: Both `states` and `all_states` are given, or a parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> recorder = RecordingObserver()
        >>> @CallPyBack(observers=[recorder])
        ... def double(n, *, times=1):
        ...     return 2 * n * times
        >>> double(21)
        42
        >>> recorder.assert_called_once_with(n=21)
        >>> recorder.calls[0].value
        42
        >>> [state.name for state in recorder.told_states]
        ['PRE_EXECUTION', 'POST_SUCCESS', 'COMPLETED']
    """

    traces_calls = True

    def __init__(
        self,
        priority: float = 0,
        name: str | None = None,
        *,
        states: ExecutionState | Iterable[ExecutionState] | None = None,
        all_states: bool = False,
    ) -> None:
        if all_states and states is not None:
            message = f"states={safe_repr(states)} and all_states=True: expected one of the two; drop all_states"
            raise ConfigurationError(message)
        super().__init__(priority, name, states=ExecutionState if all_states else states)
        self._contexts: list[ExecutionContext] = []

    def update(self, context: ExecutionContext) -> None:
        """Keep a snapshot of the context."""
        self._contexts.append(snapshot_of(context))

    def reset(self) -> None:
        """Forget what was recorded."""
        self._contexts = []

    def reset_mock(self) -> None:
        """Do the same as `reset()`, under the name that unittest.mock has for it."""
        self.reset()

    @property
    def contexts(self) -> list[ExecutionContext]:
        """Everything told, in order."""
        return list(self._contexts)

    @property
    def told_states(self) -> list[ExecutionState]:
        """Every state told, of all calls, in order; `states` is what this observer asks for, as with any other."""
        return [context.state for context in self.contexts]

    def states_of(self, call_id: str) -> list[ExecutionState]:
        """Return the states told of one call, in order; none if it is unknown."""
        return [context.state for context in self.contexts if context.call_id == call_id]

    @property
    def calls(self) -> list[RecordedCall]:
        """The calls, in the order in which they were first told."""
        grouped: dict[object, list[ExecutionContext]] = {}
        for context in self.contexts:
            grouped.setdefault(context.call_id or id(context), []).append(context)
        return [RecordedCall(tuple(contexts)) for contexts in grouped.values()]

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes, in the order in which the calls ended."""
        return [context.outcome for context in self.contexts if context.outcome is not None]

    @property
    def call_count(self) -> int:
        """How many calls were told of, ended or not."""
        return len(self.calls)

    @property
    def called(self) -> bool:
        """Whether any call was told of."""
        return bool(self._contexts)

    def assert_called(self) -> None:
        """Assert that there was a call."""
        __tracebackhide__ = True
        if not self.called:
            self._fail("a call")

    def assert_called_once(self) -> None:
        """Assert that there was exactly one call."""
        __tracebackhide__ = True
        if self.call_count != 1:
            self._fail("exactly one call")

    def assert_not_called(self) -> None:
        """Assert that there was no call."""
        __tracebackhide__ = True
        if self.called:
            self._fail("no call")

    def assert_called_with(self, /, **arguments: Any) -> None:
        """Assert that the call begun last had these arguments, and no others.

        An argument left out must have had its default. `*args` are given as a tuple, under their name; `**kwargs` are
        given as what they are: by name.
        """
        __tracebackhide__ = True
        calls = self.calls
        if not calls or not calls[-1].was_called_with(arguments):
            self._fail(f"the last call with ({shown_arguments(arguments)})")

    def assert_called_once_with(self, /, **arguments: Any) -> None:
        """Assert that there was exactly one call, with these arguments; see `assert_called_with`."""
        __tracebackhide__ = True
        calls = self.calls
        if len(calls) != 1 or not calls[0].was_called_with(arguments):
            self._fail(f"exactly one call, with ({shown_arguments(arguments)})")

    def assert_any_call(self, /, **arguments: Any) -> None:
        """Assert that some call had these arguments; see `assert_called_with`."""
        __tracebackhide__ = True
        if not any(call.was_called_with(arguments) for call in self.calls):
            self._fail(f"a call with ({shown_arguments(arguments)})")

    def assert_states(self, *states: ExecutionState, call_id: str | None = None) -> None:
        """Assert that these states were told, in this order and no others.

        Args:
            states: All states of one call.
            call_id: Which call; the one begun last by default.
        """
        __tracebackhide__ = True
        call = self._call(call_id)
        if call is None or call.states != list(states):
            self._fail(f"the states {' '.join(state.name for state in states)}{_of(call_id)}")

    def assert_failed_with(
        self,
        exception_type: type[E] | tuple[type[E], ...],
        match: str | None = None,
        *,
        call_id: str | None = None,
    ) -> E:
        """Assert that a call has failed, or was refused, with such an exception, and return it.

        What the caller got does not matter: an error that a handler replaced by a value is one too.

        Args:
            exception_type: The class, or several.
            match: A regular expression to be found in the exception's text.
            call_id: Which call; the one begun last by default.
        """
        __tracebackhide__ = True
        call = self._call(call_id)
        error = None if call is None else call.exception
        if isinstance(error, exception_type) and (match is None or re.search(match, str(error))):
            return error
        types = exception_type if isinstance(exception_type, tuple) else (exception_type,)
        about = "" if match is None else f" about {match!r}"
        return self._fail(f"a failure with {' or '.join(cls.__name__ for cls in types)}{about}{_of(call_id)}")

    def _call(self, call_id: str | None) -> RecordedCall | None:
        """Return one call, the last one by default."""
        calls = [call for call in self.calls if call_id is None or call.call_id == call_id]
        return calls[-1] if calls else None

    def _fail(self, expected: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"expected {expected}; {self.name} was told of {_shown_calls(self.calls)}")

    def __repr__(self) -> str:
        return f"<RecordingObserver {self.name!r} of {self.call_count} calls>"


def _of(call_id: str | None) -> str:
    return " of the last call" if call_id is None else f" of call {call_id}"


def _shown_calls(calls: list[RecordedCall]) -> str:
    if not calls:
        return "no call"
    before = len(calls) - _SHOWN_CALLS
    lines = [f"  ({before} before)"] if before > 0 else []
    lines += [f"  {call!r}" for call in calls[-_SHOWN_CALLS:]]
    return "\n".join(["one call:" if len(calls) == 1 else f"{len(calls)} calls:", *lines])
