"""Handlers asked one after another: what each of them has, and the chain they form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.decisions import Again, Answered, Reraised
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.observer_checks import shown_name
from callpyback.core.raised import ObserverExit
from callpyback.core.safe_repr import one_line, safe_repr, type_name
from callpyback.errors import ConfigurationError
from callpyback.handlers.faults import Faults

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.decisions import Deciding, Decision

# Read by these descriptors, no code of the user's exception class runs.
_cause_of, _context_of, _hides_context = (
    vars(BaseException)[name].__get__ for name in ("__cause__", "__context__", "__suppress_context__")
)


class BaseHandler:
    """What every handler has: a name, `|`, and that a mistake in its own code hides no error.

    Subclasses define `consider`, and decide. What `consider` raises is judged: the error itself, and any exception by
    mistake, which is logged, are passed on to the next handler; an exception raised `from` the error goes to the
    caller.

    Attributes:
        name: What `context.decided_by` shows.
        retries: Whether it may have the body run again.
        is_async: Whether something may have to be awaited, so that only coroutines and async generators can use it.
        classes: The classes of the errors it may be for.
        settled: Those of which it decides every error, so that whoever comes later is never asked about them.
    """

    retries: bool = False
    is_async: bool = False
    classes: tuple[type[Exception], ...] = (Exception,)
    settled: tuple[type[Exception], ...] = ()

    def __init__(self, name: str) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            refuse("name", given, "a text that is not empty")
        self.name = name
        self.faults = Faults(name)

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Return a decision, or None to pass the error on; yield what is to be awaited for it."""
        raise NotImplementedError

    def decide(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Return the decision about an error, after yielding what is to be awaited for it; None: ask the next.

        Raises nothing but what belongs to the program, such as KeyboardInterrupt.
        """
        try:
            return (yield from self.consider(error, context))
        except Exception as raised:  # noqa: BLE001 - a mistake of a handler must not hide the user's error
            if raised is error:
                return None
            if _cause_of(raised) is error:
                return Reraised(raised, self.name)
            self.faults.report(raised, error)
            return None

    def handle_error(self, error: Exception, context: ExecutionContext) -> Any:
        """Return the value that answers for the error, or raise; of an async handler, return that to be awaited.

        For use by hand: nothing is run again here, so an error that calls for a retry is raised.
        """
        deciding = self.decide(error, context)
        return _awaited(deciding, error) if self.is_async else _outcome(self._decision(deciding), error)

    def _decision(self, deciding: Deciding) -> Decision:
        try:
            next(deciding)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        message = f"{self!r} yielded something to await, though its is_async is False"
        raise ConfigurationError(message)

    def __or__(self, other: Any) -> ErrorHandlerChain:
        return ErrorHandlerChain((self, other)) if _is_handler(other) else NotImplemented

    def __ror__(self, other: Any) -> ErrorHandlerChain:
        return ErrorHandlerChain((other, self)) if _is_handler(other) else NotImplemented

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


async def _awaited(deciding: Deciding, error: Exception) -> Any:
    return _outcome(await _awaited_decision(deciding), error)


async def _awaited_decision(deciding: Deciding) -> Decision:
    try:
        wanted = next(deciding)
        while True:
            try:
                given = await wanted
            except BaseException as raised:  # noqa: BLE001 - `decide` judges it
                wanted = deciding.throw(raised)
            else:
                wanted = deciding.send(given)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _outcome(decision: Decision, error: Exception) -> Any:
    if isinstance(decision, Answered):
        return decision.value
    raise decision.error if isinstance(decision, Reraised) else error


class ErrorHandlerChain(BaseHandler):
    """Handlers asked in order; the first that decides wins, and if none does the error goes on.

    A chain never changes, and takes chains apart that it is made of, so it can't contain itself. Besides the handlers
    of this package, any object with `handle_error(error, context)` is taken: what it returns answers; raising the
    error itself passes it on; any other exception goes to the caller, caused by the error.

    Args:
        handlers: The handlers, the one to be asked first at the front.

    Raises:
        ConfigurationError: One is no handler, or would never be asked, because those before it decide about all of
            its errors.

    Example:
        >>> from callpyback import CallPyBack
        >>> from callpyback.handlers import Handler
        >>> missing = Handler(KeyError, value="nobody") | Handler(ValueError, reraise=True)
        >>> @CallPyBack(error_handler=missing)
        ... def name_of(user):
        ...     return {"1": "ann"}[user]
        >>> name_of("2")
        'nobody'
    """

    def __init__(self, handlers: Iterable[Any] = ()) -> None:
        super().__init__("chain")
        with looking_at("handlers", handlers):
            if isinstance(handlers, str | bytes) or not isinstance(handlers, Iterable):
                refuse("handlers", handlers, "a list of error handlers, such as [DefaultErrorHandler(None)]")
            self._handlers = tuple(linked for handler in handlers for linked in _linked(handler))
            _refuse_unreachable(self._handlers)
        self.retries = any(handler.retries for handler in self._handlers)
        self.is_async = any(handler.is_async for handler in self._handlers)
        if type(self) is ErrorHandlerChain and self._handlers:  # a subclass may be for others too
            self.classes = tuple(dict.fromkeys(cls for handler in self._handlers for cls in handler.classes))

    @property
    def handlers(self) -> tuple[Any, ...]:
        """The handlers, in the order they are asked."""
        return tuple(known.handler if isinstance(known, _Adopted) else known for known in self._handlers)

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Ask each handler until one decides."""
        for handler in self._handlers:
            decision = yield from handler.decide(error, context)
            if decision is not None:
                return decision
        return None

    def __repr__(self) -> str:
        return f"<ErrorHandlerChain of {', '.join(repr(handler.name) for handler in self._handlers) or 'nobody'}>"


def adopted(parameter: str, handler: Any) -> BaseHandler:
    """Return a handler as one of ours, whatever object with `handle_error` it is.

    Raises:
        ConfigurationError: It is none.
    """
    with looking_at(parameter, handler):
        if isinstance(handler, type):
            refuse(parameter, handler, f"an instance, got the class; did you mean {handler.__name__}()?")
        if not _is_handler(handler):
            refuse(parameter, handler, "an error handler: an object with handle_error(error, context)")
        return handler if isinstance(handler, BaseHandler) else _Adopted(handler)


class _Adopted(BaseHandler):
    """Stands for a handler of the user's own."""

    def __init__(self, handler: Any) -> None:
        super().__init__(one_line(shown_name(handler)))
        self.handler = handler
        decide = getattr(handler, "decide", None)
        self._decides = callable(decide) and kind_of(decide) is FunctionKind.GENERATOR
        if self._decides:
            self.is_async = getattr(handler, "is_async", False) is True
            self.retries = getattr(handler, "retries", False) is True
            return
        kind = kind_of(handler.handle_error)
        if kind not in _ASKED:
            refuse("handlers", handler, f"a handle_error() that is a function or a coroutine function, not a {kind}")
        self.is_async = kind is FunctionKind.COROUTINE

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Ask the user's handler, by `decide` if it has one that is a generator function."""
        if self._decides:
            decision = yield from self.handler.decide(error, context)
            if not isinstance(decision, _DECISIONS):
                message = f"decide() gave {type_name(decision)}, which is no decision"
                raise TypeError(message)
            return decision
        try:
            value = self.handler.handle_error(error, context)
            if self.is_async:
                value = yield value
        except Exception as raised:
            if raised is error or isinstance(raised, ObserverExit):
                raise
            return Reraised(caused(raised, error), self.name)
        return Answered(value, self.name)

    def __repr__(self) -> str:
        return safe_repr(self.handler)


_ASKED: Final = (FunctionKind.FUNCTION, FunctionKind.COROUTINE)
_DECISIONS: Final = (Answered, Reraised, Again, type(None))


def run_again(retry: Any, error: Exception, context: ExecutionContext, by: str) -> Again | None:
    """Return the decision to run the body again; None if a `Retry` gives up, or items have been given away."""
    if context.items:
        return None
    wait = retry.next_wait(error, context.attempt, context.lifetime)
    return None if wait is None else Again(float(wait), by)


def caused(raised: BaseException, error: BaseException) -> BaseException:
    """Return an exception that goes to the caller in place of `error`, with that as its cause unless it says its own.

    One that was raised `from None` stays so, and one that led to `error` itself is no consequence of it: a cause would
    close a circle.
    """
    if _cause_of(raised) is None and not _hides_context(raised) and not _leads_to(error, raised):
        vars(BaseException)["__cause__"].__set__(raised, error)
    return raised


def _leads_to(error: BaseException | None, searched: BaseException) -> bool:
    """Return whether one exception is another, or among its causes and contexts."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is searched:
            return True
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            waiting += (_cause_of(found), _context_of(found))
    return False


def _is_handler(value: Any) -> bool:
    with looking_at("handler", value):
        return isinstance(value, BaseHandler) or callable(getattr(value, "handle_error", None))


def _linked(handler: Any) -> tuple[BaseHandler, ...]:
    # A subclass may decide by rules of its own, so it stays in one piece.
    return handler._handlers if type(handler) is ErrorHandlerChain else (adopted("handlers", handler),)  # noqa: SLF001 - its own class


def _refuse_unreachable(handlers: tuple[BaseHandler, ...]) -> None:
    for position, handler in enumerate(handlers):
        earlier = [_settling(cls, handlers[:position]) for cls in handler.classes]
        if all(earlier):
            by = " and ".join(dict.fromkeys(repr(known) for known in earlier))
            message = (
                f"handlers: {handler!r} would never be asked: {by} before it decides about every "
                f"{' and '.join(cls.__name__ for cls in handler.classes)}; put {handler!r} before it, or leave it out"
            )
            raise ConfigurationError(message)


def _settling(cls: type[Exception], handlers: tuple[BaseHandler, ...]) -> BaseHandler | None:
    return next((handler for handler in handlers if issubclass(cls, handler.settled)), None)
