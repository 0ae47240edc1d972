"""How a listener is told no more than its observer wants to hear.

Decided now where names and states tell, else by a predicate in each call. Who was told that a call begins is told its
end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.context import ExecutionContext
from callpyback.core.interest import names_of
from callpyback.core.safe_repr import safe_text
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.interest import Interest, Predicate, Test
    from callpyback.core.listener import Listener

    Tell = Callable[[Call], Any]
    Told = ExecutionState | Notice

_PRE: Final = ExecutionState.PRE_EXECUTION


def narrow(listener: Listener, interest: Interest, signature: FunctionSignature) -> None:
    """Leave out of a listener what its observer does not want to hear of a function.

    Raises:
        ConfigurationError: What decides at once raised.
    """
    tests = _tests(listener, interest, signature)
    if listener.admit is not None:
        first = tests.get(_PRE, False)
        if first is False:
            listener.tells, listener.admit, listener.end = {}, None, None
        elif first is not True:
            listener.condition, listener.asks = first, True
        return
    listener.tells = {told: tell for told, tell in listener.tells.items() if tests[told] is not False}
    ends = not TERMINAL_STATES.isdisjoint(listener.tells)
    if listener.begin is not None and ends != (_PRE in listener.tells):
        _tell_by_contexts(listener)  # a beginning without its end, or an end without its beginning, miscounts
    if all(isinstance(test, bool) for test in tests.values()):
        return
    # No longer called with plain values, nor with a context made before the question.
    listener.is_bound = False
    listener.wants_variables = listener.asks = True
    begins = _PRE in listener.tells and (listener.begin is not None or listener.registration.guard)
    listener.update = listener.begin = listener.end = None
    listener.tells = {
        told: _if_wanted(listener, told, tests[told], tell, begins=begins) for told, tell in listener.tells.items()
    }


def _tell_by_contexts(listener: Listener) -> None:
    if callable(listener.registration.update):
        listener.is_bound, listener.begin, listener.end = False, None, None
        listener.tells = {told: listener.told_by_context(told) for told in listener.tells}
    elif _PRE not in listener.tells:
        listener.begin = None


def _tests(listener: Listener, interest: Interest, signature: FunctionSignature) -> dict[Told, Test]:
    names = names_of(signature)
    try:
        if not interest.matches(names, signature):
            return dict.fromkeys(listener.tells, False)
        return {told: interest.test_kind(names, told, signature) for told in listener.tells}
    except Exception as error:
        name = listener.registration.name
        message = f"observer {name!r}: asking what it wants to hear of {signature.qualname} raised {safe_text(error)}"
        raise ConfigurationError(message) from error


def _if_wanted(listener: Listener, told: Told, test: Test, tell: Tell, *, begins: bool) -> Tell:
    """Return how to tell a state if it is wanted.

    Args:
        listener: The listener.
        told: The state or notice.
        test: What its observer's interest says of it.
        tell: How it is told.
        begins: Whether an observer that did not hear of the beginning is to hear no more of the call.
    """
    registration = listener.registration
    shown = ExecutionState.EXECUTING if isinstance(told, Notice) else told
    is_wanted = _always if isinstance(test, bool) else _asking(listener, shown, test)

    def tell_first(call: Call) -> Any:
        if is_wanted(call):
            call.told_first = (call.told_first or frozenset()) | {registration}
            return tell(call)
        return None

    def tell_later(call: Call) -> Any:
        was_told = call.told_first is not None and registration in call.told_first
        if (was_told and told in TERMINAL_STATES) or ((was_told or not begins) and is_wanted(call)):
            return tell(call)
        return None

    return tell_first if told is _PRE else tell_later


def _asking(listener: Listener, shown: ExecutionState, test: Predicate) -> Callable[[Call], Any]:
    return lambda call: test(ExecutionContext(shown, call, listener))


def _always(_: Call) -> bool:
    return True
