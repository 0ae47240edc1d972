"""The kinds of function every behaviour of the decorator is tested over, and the ways in which they are observed.

A test takes the `kind` fixture. `kind.make(body, decorator)` gives a function of that kind which calls `body`,
`kind.call(function, *args)` calls it to its end and gives the value, `kind.ended(function, *args)` the value or the
exception. The `observed` fixture is a `CallPyBack` in each of the ways that make the wrapper run different code.

The generators yield one item before the body runs and the body's value last, so that they too have one value. The
coroutine suspends once before the body runs, and is driven by hand: no event loop is needed.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from callpyback import (
    CallPyBack,
    ExecutionContext,
    ExecutionState,
    FunctionKind,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    on_call,
    on_completion,
)

FIRST_ITEM = "first item"

_FUNCTION = "def function({parameters}):\n    return body({passed})"
_GENERATOR = "def function({parameters}):\n    yield first\n    value = body({passed})\n    yield value\n"
_SOURCES = {
    "plain": _FUNCTION,
    "coroutine": "async def function({parameters}):\n    await pause()\n    return body({passed})",
    "generator": _GENERATOR + "    return value",
    "async generator": "async " + _GENERATOR,
    "method": _FUNCTION,
}
_FUNCTION_KINDS = {
    "plain": FunctionKind.FUNCTION,
    "coroutine": FunctionKind.COROUTINE,
    "generator": FunctionKind.GENERATOR,
    "async generator": FunctionKind.ASYNC_GENERATOR,
    "method": FunctionKind.FUNCTION,
}


@types.coroutine
def pause():
    """Suspend once, in any event loop or in none."""
    yield


def drive(awaitable: Awaitable[Any]) -> Any:
    """Run an awaitable to its end without an event loop; what it waits for is there at once."""
    steps = awaitable.__await__()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


async def collected(items: Any) -> list[Any]:
    """Return the items of an async iterable."""
    return [item async for item in items]


@dataclass(frozen=True)
class Ended:
    """How a call ended for its caller; one of the two is None."""

    value: Any = None
    exception: BaseException | None = None


def ended(call: Callable[[], Any]) -> Ended:
    """Call, and return what came of it."""
    try:
        return Ended(value=call())
    except BaseException as error:
        return Ended(exception=error)


@dataclass(frozen=True)
class Kind:
    """One kind of function: how it is made, and how it is called to its end."""

    name: str

    @property
    def function_kind(self) -> FunctionKind:
        return _FUNCTION_KINDS[self.name]

    @property
    def is_async(self) -> bool:
        return "async" in self.name or self.name == "coroutine"

    @property
    def is_generator(self) -> bool:
        return "generator" in self.name

    def make(
        self,
        body: Callable[..., Any],
        decorator: Callable[[Any], Any] = lambda function: function,
        parameters: str = "*args, **kwargs",
        **names: Any,
    ) -> Callable[..., Any]:
        """Return a decorated function of this kind that hands its arguments on to `body`.

        A method comes bound to an instance. `parameters` is the text between the parentheses; what its defaults and
        annotations mention is given as `names`.
        """
        is_method = self.name == "method"
        source = _SOURCES[self.name].format(
            parameters=f"self, {parameters}" if is_method else parameters, passed=_passed_on(parameters, names)
        )
        namespace = {"body": body, "pause": pause, "first": FIRST_ITEM, "__name__": __name__, **names}
        # As if written in a module without `from __future__ import annotations`, which this one would hand on.
        exec(compile(source, "<function under test>", "exec", dont_inherit=True), namespace)
        function = namespace["function"]
        if not is_method:
            return decorator(function)
        function.__qualname__ = "Host.function"
        return type("Host", (), {"function": decorator(function)})().function

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call to the end; return the value, for generators the last item."""
        begun = function(*args, **kwargs)
        if self.name == "coroutine":
            return drive(begun)
        if self.name == "generator":
            return list(begun)[-1]
        if self.name == "async generator":
            return drive(collected(begun))[-1]
        return begun

    def ended(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Ended:
        """Call to the end; return the value or the exception."""
        return ended(lambda: self.call(function, *args, **kwargs))

    def answer(self, value: Any) -> Any:
        """Return what to give `StopProcessing` so that `call` returns `value`."""
        return [value] if self.is_generator else value

    def shown(self, value: Any) -> Any:
        """Return what `context.result.value` is when the body returned `value`."""
        return None if self.name == "async generator" else value

    def __str__(self) -> str:
        return self.name


def _passed_on(parameters: str, names: dict[str, Any]) -> str:
    namespace = dict(names)
    exec(f"def shape({parameters}): ...", namespace)
    forms = {
        inspect.Parameter.VAR_POSITIONAL: "*{0}",
        inspect.Parameter.VAR_KEYWORD: "**{0}",
        inspect.Parameter.KEYWORD_ONLY: "{0}={0}",
    }
    return ", ".join(
        forms.get(parameter.kind, "{0}").format(name)
        for name, parameter in inspect.signature(namespace["shape"]).parameters.items()
    )


KINDS = tuple(Kind(name) for name in _SOURCES)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of function in turn."""
    return request.param


class Witness:
    """An observer that keeps every context it is told; `states` and options as an observer may have them."""

    def __init__(self, *states: ExecutionState, priority: float = 0, name: str = "witness", **options: Any) -> None:
        self.priority = priority
        self.name = name
        self.states = states or None
        self.contexts: list[ExecutionContext] = []
        vars(self).update(options)

    def update(self, context: ExecutionContext) -> None:
        self.contexts.append(context)

    @property
    def told(self) -> list[str]:
        """The names of the states, in the order they were told."""
        return [context.state.name for context in self.contexts]

    @property
    def last(self) -> ExecutionContext:
        return self.contexts[-1]

    @property
    def outcome(self) -> Outcome | None:
        return self.last.outcome

    def at(self, state: ExecutionState) -> ExecutionContext:
        """Return the only context of this state."""
        [context] = [context for context in self.contexts if context.state is state]
        return context


class BoundWitness:
    """An observer without contexts: keeps the value, exception and outcome of each call."""

    priority = 0

    def __init__(self) -> None:
        self.begun = 0
        self.ends: list[tuple[Any, BaseException | None, Outcome]] = []

    def bind(self, function_signature: FunctionSignature) -> tuple[Callable[[], None], Callable[..., None]]:
        def begin() -> None:
            self.begun += 1

        return begin, lambda elapsed, value, exception, outcome: self.ends.append((value, exception, outcome))


class Forgetful:
    """An observer that reads everything there is to read and keeps nothing, as most do."""

    priority = 0

    def update(self, context: ExecutionContext) -> None:
        for name in dir(ExecutionContext):
            if not name.startswith("_"):
                getattr(context, name)


class BoundTracing(BoundWitness):
    """Asks for calls to be tracked, and for no contexts."""

    traces_calls = True


class Tracing(Forgetful):
    """The same, with calls tracked: each is the current call while its body runs."""

    traces_calls = True


WAYS: dict[str, Callable[[], CallPyBack]] = {
    "by nobody": CallPyBack,
    "with contexts": lambda: CallPyBack([Forgetful()]),
    "without contexts": lambda: CallPyBack([BoundWitness()]),
    "by hooks": lambda: CallPyBack([on_call(lambda arguments: None), on_completion(lambda: None)]),
    "by many": lambda: CallPyBack([Forgetful() for _ in range(9)]),
    "with locals": lambda: CallPyBack([Forgetful()], variable_names=["value", "self"]),
    "by another clock": lambda: CallPyBack([Forgetful()], time_source=MockTimeSource()),
    "in every state": lambda: CallPyBack([Witness(*ExecutionState)]),
    "as the current call": lambda: CallPyBack([Tracing()]),
    "as the current call, without contexts": lambda: CallPyBack([BoundTracing()]),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def observed(request: pytest.FixtureRequest) -> CallPyBack:
    """A decorator with each sort of observers in turn; none of them steers, so nothing may change."""
    return request.param()
