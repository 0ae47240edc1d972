"""What of a plan decides about the code of its wrapper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.state_machine import ExecutionState

if TYPE_CHECKING:
    from callpyback.core.listener import Listener
    from callpyback.core.plan import Plan
    from callpyback.core.registration import Registration

_PRE, _SUCCESS, _COMPLETED = ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS, ExecutionState.COMPLETED

_UNROLLED: Final = 8
"""Up to so many listeners of one state are written out; more are told in a loop."""

_IN_A_LOOP: Final = ("loop",)

_WITHOUT_CALL: Final = {"begin", "end", "ask", "settle"}
"""The forms that are called with plain values."""

_PARTS: Final = {"update": "update", "tell": "tells", "begin": "begin", "end": "end", "ask": "admit", "settle": "end"}
"""What of a listener is called in each form."""


class Layout:
    """The sort of each listener at each state, and what else is fixed; without a plan, the general layout.

    Attributes:
        is_straight: Whether the straight path may be used.
        has_call: Whether the record of the call is needed when nothing unusual happens.
        captures: Whether local variables are captured; None in the general layout, which asks the plan.
        tracks: Whether the call is the current one while its body runs.
        retries: Whether a body that failed may run again; then the straight path may go over into the general one.
        forms: For each state of the straight path how each listener is told: "update", "tell", "begin", "end", or for
            guards "ask" and "settle"; the last four preceded by "leaf " where they call nothing.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self.is_straight = plan is not None and _is_straight(plan)
        self.has_call = True
        self.tracks = plan is not None and plan.tracks
        self.retries = plan is not None and plan.policy.retries
        self.captures: bool | None = None
        self.guards: dict[ExecutionState, dict[int, int]] = {}
        self.forms: dict[ExecutionState, tuple[str, ...]] = {}
        if plan is not None and self.is_straight:
            self.captures = plan.binding is not None
            self.forms = {state: _forms(plan, state) for state in (_PRE, _SUCCESS, _COMPLETED)}
            told = {form.removeprefix("leaf ") for forms in self.forms.values() for form in forms}
            self.has_call = self.captures or not told <= _WITHOUT_CALL
            self.guards = _guards(plan)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for plans that share code."""
        settled = self.guards.get(_COMPLETED, {})
        return (self.is_straight, self.tracks, self.retries, self.captures, *self.forms.values(), *settled.values())

    @property
    def has_record(self) -> bool:
        """Whether there is a record of the call when the body runs."""
        return self.has_call or self.tracks

    def captured(self, text: str) -> str:
        """Return a text about captured variables, if there are any to capture."""
        if self.captures is None:
            inner = "".join(f"    {line}" for line in text.splitlines(keepends=True))
            return f"if current.binding is not None:\n{inner}"
        return text if self.captures else ""

    def is_loop(self, state: ExecutionState) -> bool:
        """Return whether the listeners of this state are told in a loop."""
        return self.forms[state] == _IN_A_LOOP

    def is_marked(self, *states: ExecutionState) -> bool:
        """Return whether the thread is marked while these states are told: not if nobody can call anything."""
        return any(not form.startswith("leaf ") for state in states for form in self.forms[state])

    def counted(self, state: ExecutionState) -> str:
        """Return an expression for the number of listeners of a state."""
        if self.is_loop(state):
            return f"len(current.listeners[{state.name}])"
        return str(len(self.forms[state]))

    def unrolled(self) -> Iterator[tuple[ExecutionState, tuple[str, ...]]]:
        """Go through the states whose listeners are written out."""
        return ((state, forms) for state, forms in self.forms.items() if forms != _IN_A_LOOP)

    def to_unpack(self, plan: Plan) -> tuple[Any, ...]:
        """Return what the written-out code takes from the plan: callable, listener and registration of each."""
        parts: list[Any] = []
        for state, forms in self.unrolled():
            for form, listener in zip(forms, plan.listeners[state], strict=True):
                part = _PARTS[form.removeprefix("leaf ")]
                told = listener.tells[state] if part == "tells" else getattr(listener, part)
                parts += (told, listener, listener.registration)
        return tuple(parts)

    def loops(self, plan: Plan) -> dict[ExecutionState, tuple[Any, ...]]:
        """Return what the loops go through: registration, callable, and the listener to make a context for, if any."""
        return {
            state: tuple(_looped(listener, state) for listener in plan.listeners[state])
            for state in self.forms
            if self.is_loop(state)
        }


def _is_straight(plan: Plan) -> bool:
    unusual = plan.listeners[ExecutionState.INITIALIZED] or plan.listeners[ExecutionState.EXECUTING] or plan.deadline
    if not plan.system_time or plan.is_async or unusual:
        return False
    if any(listener.condition is not None for listener in plan.listeners[_PRE]):
        return False
    many = [listener for told in plan.listeners.values() if len(told) > _UNROLLED for listener in told]
    return all(listener.admit is None for listener in many)


def _guards(plan: Plan) -> dict[ExecutionState, dict[int, int]]:
    """Number the guards; return which listener of a state is which guard."""
    numbers = {listener: number for number, listener in enumerate(plan.listeners[_PRE]) if listener.admit is not None}
    return {
        state: {index: numbers[listener] for index, listener in enumerate(plan.listeners[state]) if listener in numbers}
        for state in (_PRE, _COMPLETED)
    }


def _forms(plan: Plan, state: ExecutionState) -> tuple[str, ...]:
    listeners = plan.listeners[state]
    return _IN_A_LOOP if len(listeners) > _UNROLLED else tuple(_form(state, listener) for listener in listeners)


def _looped(listener: Listener, state: ExecutionState) -> tuple[Registration, Any, Listener | None]:
    if listener.update is None:
        return listener.registration, listener.tells[state], None
    return listener.registration, listener.update, listener


def _form(state: ExecutionState, listener: Listener) -> str:
    if not listener.is_bound:
        return "tell" if listener.update is None else "update"
    first, last = ("begin", "end") if listener.admit is None else ("ask", "settle")
    return f"{'leaf ' if listener.registration.is_leaf else ''}{first if state is _PRE else last}"
