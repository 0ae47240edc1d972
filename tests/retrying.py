"""Bodies that fail for a while, functions of every kind around them, and a clock by which calls wait meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callpyback import ExecutionState, MockTimeSource, Retry, on_retry
from kinds import KINDS, Forgetful, Kind, Witness
from kinds import _passed_on as passed_on


class BodyError(Exception):
    """Can be weakly referenced, as exceptions of builtin classes can't."""


class Flaky:
    """A body that raises each of some errors in turn, one for each attempt, and then returns."""

    def __init__(self, *errors: BaseException, clock: MockTimeSource | None = None, seconds: float = 1.0) -> None:
        self.errors = list(errors)
        self.clock = clock
        self.seconds = seconds
        self.ran = 0

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self.ran += 1
        if self.clock is not None:
            self.clock.advance(self.seconds)
        if self.errors:
            raise self.errors.pop(0)
        return "value"


class WaitingClock(MockTimeSource):
    """Notes how long calls wait, and first does what it is told to do meanwhile."""

    def __init__(self, meanwhile: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.meanwhile is not None:
            self.meanwhile()
        super().sleep(seconds)


_GENERATOR = "def function({parameters}):\n    value = body({passed})\n    yield value\n"
_SOURCES = {"generator": _GENERATOR + "    return value", "async generator": "async " + _GENERATOR}


def make(
    kind: Kind,
    body: Callable[..., Any],
    decorator: Callable[[Any], Any] = lambda function: function,
    parameters: str = "*args, **kwargs",
) -> Any:
    """Return a function as `kind.make` does, but of generators one that runs the body before it yields."""
    if not kind.is_generator:
        return kind.make(body, decorator, parameters)
    source = _SOURCES[kind.name].format(parameters=parameters, passed=passed_on(parameters, {}))
    namespace = {"body": body, "__name__": __name__}
    exec(compile(source, "<function under test>", "exec", dont_inherit=True), namespace)
    return decorator(namespace["function"])


def repeating(wait: Any = 0, attempts: int = 3, on: Any = BodyError) -> Retry:
    """Return a `Retry` that does not wait unless it is said."""
    return Retry(attempts, on, wait)


ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]

WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    "by nobody": dict,
    "with contexts": lambda: {"observers": [Forgetful()]},
    "by the notice": lambda: {"observers": [on_retry(lambda exception, wait: None)]},
    "with locals": lambda: {"observers": [Forgetful()], "variable_names": ["held"]},
    "in every state": lambda: {"observers": [Witness(*ExecutionState)]},
    "by another clock": lambda: {"observers": [Forgetful()], "time_source": MockTimeSource()},
    "by nobody, by another clock": lambda: {"time_source": MockTimeSource()},
}
"""Options of decorators that run different code when the body runs again."""
