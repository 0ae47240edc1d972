"""How one observer is told about one function: by contexts, by what its callback names, or by plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call import Noticed
from callpyback.core.context import ExecutionContext
from callpyback.core.functions import FunctionKind
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.functions import FunctionSignature, Target
    from callpyback.core.interest import Interest, Predicate
    from callpyback.core.registration import Registration

_PRE: Final = ExecutionState.PRE_EXECUTION

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
            if callable(registration.update):  # rare enough to be told by contexts
                self.tells |= {notice: self._told_by_context(notice) for notice in registration.notices}
        else:
            self._tell_by_context()
        if registration.interest is not None:
            self._narrow(registration.interest, target.signature)

    def _narrow(self, interest: Interest, signature: FunctionSignature) -> None:
        """Tell nothing that is not wanted: decided now where names and states tell, else by a predicate in each call.

        Who was told that a call begins is told its end.
        """
        from callpyback.core.interest import names_of  # noqa: PLC0415 - loaded if there is an interest

        names = names_of(signature)
        tests = {state: interest.test(names, state, signature) for state in self.tells}
        first = tests.get(_PRE, False)
        if self.admit is not None:
            if first is False:
                self.tells, self.admit, self.end = {}, None, None
            elif first is not True:
                self.condition, self.asks = first, True
            return
        self.tells = {state: tell for state, tell in self.tells.items() if tests[state] is not False}
        asked = {state: test for state, test in tests.items() if not isinstance(test, bool)}
        if asked:
            # No longer called with plain values, nor with a context made before the question.
            self.is_bound = False
            self.wants_variables = self.asks = True
            begins = self.begin is not None
            self.update = self.begin = self.end = None
            for state, test in asked.items():
                self.tells[state] = _if_wanted(self, state, test, self.tells[state], begins=begins)
        elif _PRE not in self.tells:
            self.begin = None

    def _tell_by_context(self) -> None:
        registration = self.registration
        callback = registration.callback
        wanted: tuple[ExecutionState | Notice, ...] = (*registration.states, *registration.notices)
        if callback is not None and not callback.takes_context_only:
            self.tells = {state: callback.compiled(state, self) for state in wanted}
            self.wants_variables = callback.wants_variables
        else:
            self.update = registration.update if callback is None else callback.callback
            self.tells = {state: self._told_by_context(state) for state in wanted}

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

    def _told_by_context(self, state: ExecutionState | Notice) -> Tell:
        update: Any = self.registration.update if self.update is None else self.update
        if isinstance(state, Notice):
            return lambda call: update(ExecutionContext(ExecutionState.EXECUTING, Noticed(call), self))
        return lambda call: update(ExecutionContext(state, call, self))

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


def _if_wanted(
    listener: Listener, state: ExecutionState | Notice, test: Predicate, tell: Tell, *, begins: bool
) -> Tell:
    """Return how to tell a state if it is wanted."""
    registration = listener.registration

    def is_wanted(call: Call) -> Any:
        if isinstance(state, Notice):
            return test(ExecutionContext(ExecutionState.EXECUTING, Noticed(call), listener))
        return test(ExecutionContext(state, call, listener))

    def tell_first(call: Call) -> Any:
        if is_wanted(call):
            call.told_first = (call.told_first or frozenset()) | {registration}
            return tell(call)
        return None

    def tell_last(call: Call) -> Any:
        was_told = call.told_first is not None and registration in call.told_first
        return tell(call) if was_told or (not begins and is_wanted(call)) else None

    def tell_wanted(call: Call) -> Any:
        return tell(call) if is_wanted(call) else None

    if state is _PRE:
        return tell_first
    return tell_last if state in TERMINAL_STATES else tell_wanted


def _bound(registration: Registration, target: Target) -> tuple[Any, Any] | None:
    """Return how an observer is told by plain values, or None if it is told by contexts."""
    if not callable(registration.bind):
        return None
    bound = _asked_to_bind(registration, target, "bind", registration.bind, target.signature)
    if bound is None:
        return None
    return _pair(registration, "bind", bound, "(begin, end), each something to call or None", may_lack_first=True)


def _guarding(registration: Registration, target: Target) -> tuple[Any, Any] | None:
    """Return how a guard decides by plain values, or None if it is told by contexts."""
    if not callable(registration.bind_guard):
        return None
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
