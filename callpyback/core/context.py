"""What observers see of a call: the context of one state, and the result of the body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from callpyback.core.functions import FunctionSignature
from callpyback.core.raised import Raised
from callpyback.core.shared import Shared
from callpyback.core.state_machine import ENDED_STATES, TERMINAL_STATES, ExecutionState, Outcome

if TYPE_CHECKING:
    from callpyback.core.call import Call, Noticed
    from callpyback.core.listener import Listener
    from callpyback.core.notices import ProgressNotice, RetryNotice


class _Deferred:
    """The type of `DEFERRED`: a field that is computed when it is first read."""

    def __repr__(self) -> str:
        return "<computed when read>"

    def __reduce__(self) -> str:
        return "DEFERRED"


DEFERRED: Final = cast("Any", _Deferred())


def _defer(cls: type, name: str, compute: Callable[[Any], Any]) -> None:
    """Make a field of a frozen struct compute itself at its first read, and keep what it computed."""
    stored = cls.__dict__[name]
    read, keep = stored.__get__, stored.__set__

    def value_of(self: object) -> Any:
        value = read(self)
        if value is DEFERRED:
            value = compute(self)
            keep(self, value)
        return value

    value_of.__doc__ = compute.__doc__
    setattr(cls, name, property(value_of))


class ExecutionResult(msgspec.Struct, frozen=True):
    """What a body that returned, or the observer that answered for it, gave.

    Args:
        value: The value; the return value of a generator; None for an async generator.
        execution_time: Seconds the body ran; 0.0 if it never did, nan if the clock failed.
        memory_usage: Bytes, where an observer measured them.
    """

    value: Any
    execution_time: float
    memory_usage: int | None = None

    @property
    def exception(self) -> None:
        """Always None: there was none."""
        return


class ExecutionFailure(msgspec.Struct, frozen=True, eq=False):
    """What a body that raised, or an observer that refused the call, gave.

    Args:
        exception: The exception itself while the call runs. A failure that is kept after its call has ended keeps
            no frames alive: it then gives an equal exception (same type, arguments and attributes), without
            traceback.
        exception_type: Its class.
        traceback_info: The traceback as text.
        execution_time: Seconds the body ran; 0.0 if it never did, nan if the clock failed.
    """

    exception: BaseException
    exception_type: type[BaseException] = DEFERRED
    traceback_info: str = DEFERRED
    execution_time: float = 0.0

    @property
    def value(self) -> None:
        """Always None: there is none."""
        return

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionFailure):
            return NotImplemented
        mine, theirs = self.exception, other.exception
        same = mine is theirs or (type(mine) is type(theirs) and mine.args == theirs.args)
        return same and self.execution_time == other.execution_time

    def __hash__(self) -> int:
        return hash((self.exception_type, self.execution_time))

    def __repr__(self) -> str:
        return f"ExecutionFailure(exception_type={self.exception_type.__name__}, execution_time={self.execution_time})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ExecutionFailure, (self.exception, self.exception_type, self.traceback_info, self.execution_time)


def _exception_type(failure: ExecutionFailure) -> type[BaseException]:
    return type(failure.exception)


def _traceback_info(failure: ExecutionFailure) -> str:
    return _raised_of(failure).text()


def _raised_of(failure: ExecutionFailure) -> Raised:
    held: Any = _stored_exception(failure)
    return held if isinstance(held, Raised) else Raised(held)


_stored_exception = ExecutionFailure.__dict__["exception"].__get__
ExecutionFailure.exception = property(  # type: ignore[assignment]
    lambda self: _raised_of(self).error, doc="The exception; see the class."
)
_defer(ExecutionFailure, "exception_type", _exception_type)
_defer(ExecutionFailure, "traceback_info", _traceback_info)


# `isinstance` with these classes is slow, because msgspec's metaclass is an ABCMeta; the code below compares classes.
class Ending(msgspec.Struct, frozen=True):
    """The facts of a call that a context built by hand, copied or unpickled carries with it."""

    outcome: Outcome | None = None
    returned: Any = None
    decided_by: str | None = None
    attempt: int = 1
    notice: RetryNotice | ProgressNotice | None = None
    call_id: str = ""
    parent_call_id: str | None = None
    depth: int = 0
    tags: Mapping[Any, Any] | None = None
    shared: Shared | None = None
    instance: object | None = None
    execution_time: float | None = None
    items: int | None = None
    lifetime: float | None = None
    time_to_first_item: float | None = None


_NOTHING_KNOWN: Final = Ending()


class ExecutionContext(msgspec.Struct, frozen=True, eq=False):
    """One state of one call, as one observer sees it.

    Immutable. The dictionaries are this context's own: changing them reaches neither the call nor other observers.
    Everything costly is computed when it is read, and then kept; values are the live objects of the call.

    Build one by keyword to test an observer; `callpyback.testing.build_context` fills in the rest.

    Args:
        state: Where the call is.
        function_signature: What is called.
        arguments: By name, defaults filled in, without `self` or `cls`.
        result: The `ExecutionResult` or `ExecutionFailure` from POST_SUCCESS, POST_FAILURE or the terminal state on;
            None before.
        local_variables: The captured locals by name; empty until the body has ended.
        metadata: The decorator's `metadata=`, and on top of it the tags that the body has given this call.
        timestamp: The wall clock when the call began, in seconds since the epoch.

    Example:
        >>> context = ExecutionContext(
        ...     function_signature=FunctionSignature("checkout"),
        ...     arguments={"cart": 3},
        ...     state=ExecutionState.COMPLETED,
        ...     result=ExecutionResult(value=30, execution_time=0.1),
        ... )
        >>> context.is_successful, context.outcome.name
        (True, 'SUCCESS')
    """

    state: ExecutionState
    _call: Call | Noticed | Ending = _NOTHING_KNOWN
    _listener: Listener | None = None
    function_signature: FunctionSignature = DEFERRED
    arguments: dict[str, Any] = DEFERRED
    result: ExecutionResult | ExecutionFailure | None = DEFERRED
    local_variables: dict[str, Any] = DEFERRED
    metadata: dict[str, Any] = DEFERRED
    timestamp: float = DEFERRED

    @property
    def outcome(self) -> Outcome | None:
        """How the call ended; None before the terminal state."""
        if self.state not in TERMINAL_STATES:
            return None
        known = self._call.outcome
        if known is None and self.result is not None:
            return Outcome.SUCCESS if self.is_successful else Outcome.FAILURE
        return known

    @property
    def returned(self) -> Any:
        """What the caller got when a handler or guard supplied it; None otherwise and before the terminal state."""
        return self._call.returned if self.state in TERMINAL_STATES else None

    @property
    def decided_by(self) -> str | None:
        """The name of the guard or error handler whose value or error the caller got; None if nobody decided."""
        return self._call.decided_by if self.state in TERMINAL_STATES else None

    @property
    def attempt(self) -> int:
        """Which run of the body this is: 1, unless a retry came before."""
        return self._call.attempt

    @property
    def notice(self) -> RetryNotice | ProgressNotice | None:
        """What an observer that asked for notices is told inside EXECUTING; None in every other context."""
        return self._call.notice

    @property
    def is_successful(self) -> bool:
        """Whether there is a value: the body's, or one an observer supplied."""
        return self.result.__class__ is ExecutionResult

    @property
    def is_failed(self) -> bool:
        """Whether there is an exception, other than that of a cancelled or abandoned call."""
        quiet = self._call.outcome in (Outcome.CANCELLED, Outcome.ABANDONED)
        return self.result.__class__ is ExecutionFailure and not quiet

    @property
    def execution_time(self) -> float | None:
        """Seconds the body ran, without the observers; None before it ended, nan if the clock failed."""
        return None if self.result is None else self.result.execution_time

    @property
    def call_id(self) -> str:
        """A name for this call, unique across threads and processes, the same in all its contexts."""
        return self._call.call_id

    @property
    def parent_call_id(self) -> str | None:
        """The `call_id` of the observed call that this one was made in; None if there is none around it.

        Tasks and `asyncio.to_thread` belong to the call they were started in, also once that has ended; other threads
        to none. A function to which nobody listens is left out. Known from the first call on if somebody has asked
        before: see `docs/how-to/tag-a-call.md`; otherwise reading this makes it known in the calls that follow.
        """
        return self._call.parent_call_id

    @property
    def depth(self) -> int:
        """How many observed calls are around this one: 0 at the top. Known as `parent_call_id` is."""
        return self._call.depth

    @property
    def tags(self) -> dict[Any, Any]:
        """What the body has said of this call by `current_call()`: a new dictionary, empty until the body has begun.

        A retry goes on with the tags of the attempt before. The body's end is the end of tagging.
        """
        call: Any = self._call
        return dict(call.tags or {}) if call.__class__ is Ending else call.tags_at(self.state)

    @property
    def shared(self) -> Shared:
        """Named data that all observers of this call share, from its first state to its last; see `Shared`."""
        call: Any = self._call
        shared: Shared | None = call.shared
        return Shared() if shared is None else shared

    @property
    def instance(self) -> object | None:
        """The `self` or `cls` of a method call; None for functions."""
        return self._call.instance

    @property
    def slot(self) -> dict[str, Any]:
        """A dictionary private to this observer and this call, from its first state to its last."""
        call: Any = self._call
        slot: dict[str, Any] = {} if call.__class__ is Ending else call.slot_of(self._listener)
        return slot

    @property
    def items(self) -> int | None:
        """How many items a generator has yielded; None for other functions and before the end."""
        return self._call.items if self.state in ENDED_STATES else None

    @property
    def lifetime(self) -> float | None:
        """Seconds from a generator's first step to its end, its consumer's time included; None before the end.

        Of other functions known only once an attempt has failed that may be repeated: from the beginning of the
        first attempt, waits included.
        """
        return self._call.lifetime if self.state in ENDED_STATES else None

    @property
    def time_to_first_item(self) -> float | None:
        """Seconds from a generator's first step to its first item; None elsewhere or if there was none."""
        return self._call.time_to_first_item if self.state in ENDED_STATES else None

    def with_state(self, state: ExecutionState) -> ExecutionContext:
        """Return a copy in another state."""
        return self._copy(state=state)

    def with_result(self, result: ExecutionResult | ExecutionFailure | None) -> ExecutionContext:
        """Return a copy with another result."""
        return self._copy(result=result, _call=self._ending(outcome=None))

    def with_variables(self, local_variables: Mapping[str, Any]) -> ExecutionContext:
        """Return a copy with other captured variables."""
        return self._copy(local_variables=dict(local_variables))

    def _copy(self, **changes: Any) -> ExecutionContext:
        return ExecutionContext(**{**self._shown(), "_call": self._ending(), **changes})

    def _shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SHOWN}

    def _ending(self, **changes: Any) -> Ending:
        # An outcome that follows from the result alone is to follow from the copy's result.
        known = self._call.outcome if self.state in TERMINAL_STATES else None
        facts = {name: getattr(self, name) for name in Ending.__struct_fields__}
        return Ending(**{**facts, "outcome": known, **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionContext):
            return NotImplemented
        own = (*self._shown().values(), self.outcome, self.returned, self.notice)
        return own == (*other._shown().values(), other.outcome, other.returned, other.notice)

    def __hash__(self) -> int:
        return hash((self.state, self.function_signature, self.timestamp))

    def __repr__(self) -> str:
        outcome = "" if self.outcome is None else f", outcome={self.outcome.name}"
        name = self.function_signature.qualname
        return f"<ExecutionContext of {name}: {self.state.name}{outcome}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, ({**self._shown(), "_call": self._ending()},)


_SHOWN: Final = ("state", "function_signature", "arguments", "result", "local_variables", "metadata", "timestamp")


def _restored(fields: dict[str, Any]) -> ExecutionContext:
    return ExecutionContext(**fields)


def _live(read: Callable[[Call, ExecutionState], Any], otherwise: Callable[[], Any]) -> Callable[[Any], Any]:
    """Read a field from the running call, or take a default in a context built by hand."""

    def compute(context: ExecutionContext) -> Any:
        call: Any = context._call  # noqa: SLF001 - this is a part of the class, kept beside it
        return otherwise() if call.__class__ is Ending else read(call, context.state)

    return compute


def _result(context: ExecutionContext) -> ExecutionResult | ExecutionFailure | None:
    call: Any = context._call  # noqa: SLF001
    if context.state not in ENDED_STATES or call.__class__ is Ending:
        return None
    result: ExecutionResult | ExecutionFailure = call.result_at(context.state)
    return result


_defer(ExecutionContext, "result", _result)
for _name, _read, _otherwise in (
    ("function_signature", lambda call, _: call.plan.target.signature, lambda: FunctionSignature("function")),
    ("arguments", lambda call, _: call.arguments(), dict),
    ("local_variables", lambda call, state: dict(call.variables) if state in ENDED_STATES else {}, dict),
    ("metadata", lambda call, state: call.metadata_at(state), dict),
    ("timestamp", lambda call, _: call.timestamp, float),
):
    _defer(ExecutionContext, _name, _live(_read, _otherwise))
