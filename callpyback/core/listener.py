"""How one observer is told about one function: by contexts, by what its callback names, or by plain values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.context import ExecutionContext
from callpyback.core.functions import FunctionKind
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.functions import Target
    from callpyback.core.interest import Predicate
    from callpyback.core.registration import Registration

_PRE: Final = ExecutionState.PRE_EXECUTION
_OF_PLAIN_VALUES: Final = TERMINAL_STATES | {_PRE}

Tell = Callable[["Call"], Any]


class Listener:
    """One registration on one function: how it is told each state it asked for."""

    __slots__ = (
        "admit",
        "asks",
        "begin",
        "condition",
        "end",
        "is_async",
        "is_bound",
        "registration",
        "tells",
        "update",
        "wants_variables",
    )

    def __init__(self, registration: Registration, target: Target) -> None:
        self.registration = registration
        self.admit: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None
        self.begin: Callable[[], Any] | None = None
        self.end: Callable[..., Any] | None = None
        self.update: Callable[..., Any] | None = None
        self.tells: dict[ExecutionState | Notice, Tell] = {}
        self.condition: Predicate | None = None
        self.asks = False
        guarding = _guarding(registration, target)
        bound = None if guarding is not None else _bound(registration, target)
        self.is_bound = bound is not None or guarding is not None
        self.is_async = not self.is_bound and registration.awaited
        self.wants_variables = not self.is_bound
        if self.is_async and target.kind in (FunctionKind.FUNCTION, FunctionKind.GENERATOR):
            message = (
                f"observer {registration.name!r} is async, and {target.signature.qualname} is a {target.kind}: there "
                "is nothing to await it; make its update() a plain function, or observe a coroutine function"
            )
            raise ConfigurationError(message)
        if guarding is not None:
            self._ask_by_plain_values(guarding)
        elif bound is not None:
            self._tell_plain_values(bound)
            if registration.chooses_states:
                # Whoever hears of the beginning hears of the end.
                begins = _PRE in self.tells and _PRE in registration.states
                told = _OF_PLAIN_VALUES if begins else registration.states - {_PRE}
                self.tells = {state: tell for state, tell in self.tells.items() if state in told}
                self.begin = self.begin if begins else None
            if callable(registration.update):  # rare enough to be told by contexts
                self.tells |= {notice: self.told_by_context(notice) for notice in registration.notices}
        else:
            self._tell_by_context()
        if registration.interest is not None:
            from callpyback.core.narrowing import narrow  # noqa: PLC0415 - loaded if there is an interest

            narrow(self, registration.interest, target.signature)

    def _tell_by_context(self) -> None:
        registration = self.registration
        callback = registration.callback
        wanted: tuple[ExecutionState | Notice, ...] = (*registration.states, *registration.notices)
        if callback is not None and not callback.takes_context_only:
            self.tells = {state: callback.compiled(state, self) for state in wanted}
            self.wants_variables = callback.wants_variables
        else:
            self.update = registration.update if callback is None else callback.callback
            self.tells = {state: self.told_by_context(state) for state in wanted}

    def _ask_by_plain_values(self, guarding: tuple[Any, Any]) -> None:
        registration = self.registration
        self.admit, self.end = admit, end = guarding
        self.tells[_PRE] = lambda call: admit(call.args, call.kwargs)
        if end is not None:
            for state in TERMINAL_STATES:
                self.tells[state] = lambda call: end(
                    call.elapsed,
                    call.value,
                    None if call.spoiled else call.exception,  # a guard judges the body alone
                    call.outcome,
                    call.token_of(registration),
                )

    def _tell_plain_values(self, bound: tuple[Callable[[], Any] | None, Callable[..., Any] | None]) -> None:
        begin, end = bound
        self.begin, self.end = begin, end
        if begin is not None:
            self.tells[ExecutionState.PRE_EXECUTION] = lambda _: begin()
        if end is not None:
            for state in TERMINAL_STATES:
                self.tells[state] = lambda call: end(call.elapsed, call.value, call.exception, call.outcome)

    def profiled(self, timed: Callable[[str, str, Callable[..., Any]], Callable[..., Any]]) -> Listener:
        """Return a listener that is told the same, and measured.

        Args:
            timed: Takes the observer's name, what it is told and how, and returns what does that and measures it.
        """
        name, measured = self.registration.name, copy.copy(self)
        if self.is_bound:
            measured.begin, measured.end, measured.admit = (
                None if told is None else timed(name, label, told)
                for label, told in (("begin", self.begin), ("end", self.end), ("begin", self.admit))
            )
        measured.tells = {
            state: timed(name, _label(state, is_bound=self.is_bound), tell) for state, tell in self.tells.items()
        }
        if self.update is not None:
            measured.update = None
            for state in self.tells:
                measured.tells[state] = measured.told_by_context(state, timed(name, state.name, self.update))
        return measured

    def told_by_context(self, state: ExecutionState | Notice, timed: Any = None) -> Tell:
        """Return how a state is told by a context, to what is given in place of the observer's own `update`."""
        update: Any = timed or (self.registration.update if self.update is None else self.update)
        shown = _shown_in(state)
        return lambda call: update(ExecutionContext(shown, call, self))

    def is_told(self, call: Call, state: ExecutionState | Notice) -> bool:
        """Return whether to tell this observer: active, or paused and this is the call that tries it again."""
        registration = self.registration
        if self.admit is not None and state is not _PRE:
            # What a guard holds for a call it is to give back, paused and removed or not.
            return call.held is not None and registration in call.held
        if registration.active:
            return call.passed_over is None or registration not in call.passed_over
        if call.probed is not None and registration in call.probed:
            return registration.condition.paused
        if registration.may_retry():
            call.probed = (call.probed or frozenset()) | {registration}
            return True
        return False


def _shown_in(told: ExecutionState | Notice) -> ExecutionState:
    return ExecutionState.EXECUTING if isinstance(told, Notice) else told


def _label(state: ExecutionState | Notice, *, is_bound: bool) -> str:
    if not is_bound or isinstance(state, Notice):
        return state.name
    return "begin" if state is _PRE else "end"


def _bound(registration: Registration, target: Target) -> tuple[Any, Any] | None:
    """Return how an observer is told by plain values, or None if it is told by contexts."""
    if not callable(registration.bind):
        return None
    chooses = registration.chooses_states and callable(registration.update)
    if chooses and not registration.states <= _OF_PLAIN_VALUES:
        return None  # plain values tell nothing of other states
    bound = _asked_to_bind(registration, target, "bind", registration.bind, target.signature)
    if bound is None:
        return None
    expected = "(begin, end), each something to call or None"
    pair = _pair(registration, "bind", bound, expected, may_lack_first=True)
    # One that counts beginnings by plain values can't do without them; by contexts it can.
    return None if chooses and pair[0] is not None and _PRE not in registration.states else pair


def _guarding(registration: Registration, target: Target) -> tuple[Any, Any] | None:
    """Return how a guard decides by plain values, or None if it is told by contexts."""
    if not callable(registration.bind_guard):
        return None
    if registration.chooses_states and _PRE not in registration.states:
        message = f"states of guard {registration.name!r}: it decides at PRE_EXECUTION, so that has to be among them"
        raise ConfigurationError(message)
    bind, clock = registration.bind_guard, registration.clock
    bound = _asked_to_bind(registration, target, "bind_guard", bind, target.signature, clock)
    if bound is None:
        return None
    expected = "(admit, end), the first something to call, the second too or None"
    return _pair(registration, "bind_guard", bound, expected, may_lack_first=False)


def _asked_to_bind(registration: Registration, target: Target, name: str, bind: Any, *given: Any) -> Any:
    try:
        bound = bind(*given)
    except ConfigurationError:
        raise
    except Exception as error:
        where = target.signature.qualname
        message = f"observer {registration.name!r}: {name}() raised {safe_text(error)} for {where}"
        raise ConfigurationError(message) from error
    if bound is None and not callable(registration.update):
        message = f"observer {registration.name!r}: {name}() gave None, and there is no update(context) to use instead"
        raise ConfigurationError(message)
    return bound


def _pair(registration: Registration, name: str, bound: Any, expected: str, *, may_lack_first: bool) -> tuple[Any, Any]:
    parts = bound if isinstance(bound, tuple) else ()
    if len(parts) == 2 and all(part is None or callable(part) for part in parts):  # noqa: PLR2004 - a pair
        first, second = parts
        if may_lack_first or first is not None:
            return first, second
    message = (
        f"observer {registration.name!r}: {name}() gave {safe_repr(bound)}; expected {expected}, or None to be told by "
        "update(context)"
    )
    raise ConfigurationError(message)
