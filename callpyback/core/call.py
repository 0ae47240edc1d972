"""The record of one call: everything that belongs to it and to nothing else."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final, cast

from callpyback.core.context import ExecutionFailure, ExecutionResult
from callpyback.core.raised import Raised
from callpyback.core.state_machine import ExecutionState, Outcome

if TYPE_CHECKING:
    from callpyback.core.dispatch import Listener
    from callpyback.core.plan import Plan
    from callpyback.core.registration import Registration

_numbers = itertools.count(1)


class _Prefix:
    """Random text that tells this process's call ids from those of others, its forked children included."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.text = os.urandom(6).hex()


_prefix = _Prefix()
os.register_at_fork(after_in_child=_prefix.renew)


_DEFAULTS: Final[dict[str, Any]] = {
    "args": (),
    "kwargs": {},
    "state": ExecutionState.PRE_EXECUTION,
    "elapsed": 0.0,
    "decided": False,
    "vetoed": False,
    "handled": False,
    "told_enough": False,
    "closing": False,
}
"""What a call starts from, where that is not None."""


class Call:
    """One call. Made by the wrapper, filled in by the sequence, read by contexts.

    Making a call must cost next to nothing, so it has no `__init__`: an attribute that nobody has set yet is
    looked up in `_DEFAULTS`.
    """

    __slots__ = (
        "_call_id",
        "_failure",
        "_slots",
        "_success",
        "_timestamp",
        "args",
        "captured",  # the local variables, by name
        "closing",  # the coroutine is being closed: nothing can be awaited any more
        "decided",  # the body is not to run
        "elapsed",
        "failed",  # the registrations that failed in this call
        "handled",  # a value goes to the caller where the body raised
        "interrupt",  # KeyboardInterrupt, or the task's own cancellation, met in an observer
        "items",
        "kwargs",
        "lifetime",
        "outcome",
        "passed_over",  # the guards that were not asked
        "plan",
        "probed",  # the paused registrations that this call tries again
        "problem",  # what goes to the caller that the body did not raise
        "raised",
        "returned",
        "started",
        "state",  # told last, or about to be
        "time_to_first_item",
        "told_enough",  # an observer ended the telling of PRE_EXECUTION to plain observers
        "value",
        "vetoed",
    )

    if TYPE_CHECKING:
        plan: Plan
        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        state: ExecutionState
        started: float | None
        elapsed: float
        value: Any
        raised: Raised | None
        outcome: Outcome | None
        returned: Any
        captured: dict[str, Any] | None
        items: int | None
        lifetime: float | None
        time_to_first_item: float | None
        decided: bool
        vetoed: bool
        handled: bool
        told_enough: bool
        closing: bool
        problem: BaseException | None
        interrupt: BaseException | None
        failed: frozenset[Registration] | None
        probed: frozenset[Registration] | None
        passed_over: frozenset[Registration] | None
        _slots: dict[Registration, dict[str, Any]] | None
        _success: ExecutionResult | None
        _failure: ExecutionFailure | None
        _timestamp: float | None
        _call_id: str | None

    def __getattr__(self, name: str) -> Any:
        value = _DEFAULTS.get(name)
        if value is None and name not in Call.__slots__:
            raise AttributeError(name)
        setattr(self, name, value)
        return value

    @property
    def exception(self) -> BaseException | None:
        """What the body raised, or what refused the call."""
        return None if self.raised is None else self.raised.error

    @property
    def variables(self) -> dict[str, Any]:
        """The captured locals; empty where none were asked for."""
        return self.captured or {}

    def result_at(self, state: ExecutionState) -> ExecutionResult | ExecutionFailure:
        """Return the result as contexts of this state show it, made when first read, one for all of them.

        What POST_SUCCESS showed stays so, even if a critical observer makes the call fail afterwards.
        """
        if self.raised is None or state is ExecutionState.POST_SUCCESS:
            if self._success is None:
                self._success = ExecutionResult(self.value, self.elapsed)
            return self._success
        if self._failure is None:
            held: Any = self.raised
            self._failure = ExecutionFailure(held, execution_time=self.elapsed)
        return self._failure

    @property
    def timestamp(self) -> float:
        """The wall clock at the beginning.

        The system's clocks are read when this is: the wall clock now, less the monotonic time since the beginning.
        """
        if self._timestamp is None:
            now, monotonic = self.plan.clocks
            self._timestamp = now() - (0.0 if self.started is None else monotonic() - self.started)
        return self._timestamp

    @timestamp.setter
    def timestamp(self, seconds: float) -> None:
        self._timestamp = seconds

    @property
    def call_id(self) -> str:
        """Made when it is first read."""
        if self._call_id is None:
            self._call_id = f"{_prefix.text}-{next(_numbers):x}"
        return self._call_id

    @property
    def instance(self) -> object | None:
        """The `self` or `cls` of a method call."""
        return self.plan.target.bind(self.args, self.kwargs)[1]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments by name, in a new dictionary."""
        return self.plan.target.bind(self.args, self.kwargs)[0]

    def slot_of(self, listener: Listener | None) -> dict[str, Any]:
        """Return the dictionary of one observer for this call."""
        if listener is None:
            return {}
        if self._slots is None:
            self._slots = {}
            self.plan.uses_slots = True
        return self._slots.setdefault(listener.registration, {})

    def veto(self, error: BaseException) -> None:
        """Refuse the call, unless that is done; a refusal takes back an answer."""
        if not self.vetoed:
            self.decided = self.vetoed = True
            self.problem = error

    def answer(self, value: Any) -> None:
        """Answer the call in place of the body, unless it is decided."""
        if not self.decided:
            self.decided = True
            self.value = self.returned = value

    def fail(self, error: BaseException) -> None:
        """Record that this exception is the result."""
        self.raised = Raised(error)
        self._failure = None

    def without_problem(self) -> BaseException | None:
        """Set aside what goes to the caller so far, to see what comes."""
        problem, self.problem = self.problem, None
        return problem

    def taken(self) -> BaseException:
        """Return what is to be raised to the caller, and let go of it."""
        problem = self.problem
        self.release()
        return cast("BaseException", problem)

    def taken_answer(self) -> Any:
        """Return what an observer supplied.

        Raises:
            BaseException: What refused the call instead.
        """
        if self.problem is not None:
            raise self.taken()
        self.release()
        return self.value

    def release(self) -> None:
        """Let go of what only the running call needs; contexts that were kept stay readable."""
        self._slots = None
        self.problem = self.interrupt = None
        if self.raised is not None and self.plan.shows_contexts:
            self.raised.release()
