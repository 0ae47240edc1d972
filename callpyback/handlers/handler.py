"""One handler: which errors it is for, and what it does about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_retry, checked_switch, looking_at, refuse
from callpyback.core.decisions import Answered, Reraised
from callpyback.core.policy import Default
from callpyback.core.safe_repr import one_line, type_name
from callpyback.errors import NO_VALUE
from callpyback.handlers.chain import BaseHandler, caused, run_again
from callpyback.handlers.matching import Classes, Matching, Predicate, Question

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.decisions import Deciding


class Handler(BaseHandler):
    """Deals with some errors in one way; of `value`, `answer`, `raises` and `reraise` at most one is given.

    A function given here takes `(error, context)`, or the error alone, and may be a coroutine function around
    coroutine functions and async generators. If it fails itself, that is logged and the next handler is asked. It
    may raise the error itself to pass it on, and another exception `from` it to send that to the caller.

    Args:
        on: The exception classes it is for, as after `except`; or a predicate, a function that says whether it is for
            an error.
        when: A predicate that narrows the classes.
        value: The caller gets this value. A list, dict or set is copied each time; `factory(make)` makes it anew.
        answer: The caller gets what this function returns.
        raises: The caller gets another exception, caused by the error: an exception class, called without arguments,
            or a function that returns the exception.
        reraise: The caller gets the error, and no handler after this one is asked.
        retry: The body is run again, as this `Retry` says; when it gives up, the above follows, or without any of it
            the next handler.
        name: What `context.decided_by` shows.

    Raises:
        ConfigurationError: An argument is none of these, or it would do nothing, or two things at once.

    Example:
        >>> from callpyback import CallPyBack
        >>> class UnknownUser(Exception): ...
        >>> @CallPyBack(error_handler=Handler(KeyError, raises=lambda error: UnknownUser(error.args[0])))
        ... def name_of(user):
        ...     return {"1": "ann"}[user]
        >>> name_of("2")
        Traceback (most recent call last):
        ...
        callpyback.handlers.handler.UnknownUser: 2
    """

    def __init__(
        self,
        on: Classes | Predicate = Exception,
        *,
        when: Predicate | None = None,
        value: Any = NO_VALUE,
        answer: Callable[..., Any] | None = None,
        raises: type[Exception] | Callable[..., Any] | None = None,
        reraise: bool = False,
        retry: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(_described(on) if name is None else name)
        self._matching = Matching(on, None if when is None else Question("when", when), self.faults)
        self._value = Default(value, "value")
        self._answer = None if answer is None else Question("answer", answer)
        self._raises = None if raises is None else _raising(raises)
        self._reraise = checked_switch("reraise", reraise)
        self._retry = checked_retry(retry)
        _refuse_nothing_and_several(retry, value=value, answer=answer, raises=raises, reraise=reraise)
        self.classes = self._matching.classes
        self.is_async = self._matching.is_async or _is_async(self._answer) or _is_async(self._raises)
        self.retries = self._retry is not None
        # An answering function may fail or pass the error on, so whoever comes after it may be asked.
        acts = self._value.is_given or self._raises is not None or self._reraise
        self.settled = self.classes if acts and self._matching.when is None else ()

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """If it is for this error, have the body run again as long as that is wanted; then act."""
        if not (yield from self._matching.holds(error, context)):
            return None
        if self._retry is not None:
            again = run_again(self._retry, error, context, self.name)
            if again is not None:
                return again
        return (yield from self.act(error, context))

    def act(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Return what is decided about an error it is for, when it is not to be retried."""
        if self._reraise:
            return Reraised(error, self.name)
        if self._value.is_given:
            return Answered(self._value.get(), self.name)
        if self._answer is not None:
            return Answered((yield from self._answer.ask(error, context)), self.name)
        if self._raises is not None:
            raised = yield from self._raises.ask(error, context)
            if not isinstance(raised, Exception):
                message = f"raises= gave {type_name(raised)}, which is no exception"
                raise TypeError(message)
            return Reraised(caused(raised, error), self.name)
        return None


_NOT_GIVEN: Final = {"value": NO_VALUE, "answer": None, "raises": None, "reraise": False}


def _refuse_nothing_and_several(retry: Any, **actions: Any) -> None:
    given = [name for name, action in actions.items() if action is not _NOT_GIVEN[name]]
    if len(given) > 1:
        refuse(given[1], actions[given[1]], f"nothing beside {given[0]}: a handler does one thing")
    if not given and retry is None:
        refuse("value", NO_VALUE, "one of value, answer, raises, reraise=True and retry: this handler does nothing")


class _Made:
    """Makes an exception of a class."""

    def __init__(self, cls: type[Exception]) -> None:
        self._cls = cls

    def __call__(self, _: Exception) -> Exception:
        return self._cls()


def _raising(raises: Any) -> Question:
    expected = "an exception class that needs no arguments, or a function of (error, context) that returns an exception"
    with looking_at("raises", raises):
        if isinstance(raises, BaseException):
            refuse("raises", raises, f"{expected}: one exception for all calls would grow with each of them")
        if not isinstance(raises, type):
            return Question("raises", raises)
        if not issubclass(raises, Exception):
            refuse("raises", raises, f"{expected}; {raises.__name__} is no Exception")
        try:
            raises()
        except Exception:  # noqa: BLE001 - whatever it is that the class wants
            refuse("raises", raises, f"{expected}; {raises.__name__}() fails")
        return Question("raises", _Made(raises))


def _is_async(question: Question | None) -> bool:
    return question is not None and question.is_async


def _described(on: Any) -> str:
    """Return a name for a handler that was given none."""
    with looking_at("on", on):
        several = on if isinstance(on, tuple | list | set | frozenset) else (on,)
        names = " | ".join(getattr(one, "__name__", None) or type_name(one) for one in several)
        return one_line(f"handler of {names}")
