"""The record of one call: everything that belongs to it and to nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call_ids import new_call_id
from callpyback.core.context import ExecutionFailure, ExecutionResult
from callpyback.core.raised import Raised
from callpyback.core.shared import Shared
from callpyback.core.state_machine import ExecutionState, Outcome
from callpyback.core.tracking import TRACKING

if TYPE_CHECKING:
    from callpyback.core.current import CurrentCall
    from callpyback.core.decisions import Again
    from callpyback.core.listener import Listener
    from callpyback.core.notices import ProgressNotice, RetryNotice
    from callpyback.core.plan import Plan
    from callpyback.core.registration import Registration


class _NotAsked:
    def __repr__(self) -> str:
        return "<not asked>"


NOT_ASKED: Final = _NotAsked()
"""In place of the token of a guard that was not asked about a call."""

_UNTAGGED_STATES: Final = frozenset({ExecutionState.INITIALIZED, ExecutionState.PRE_EXECUTION})

_OF_ONE_ATTEMPT: Final = frozenset(
    {
        "again",
        "problem",
        "captured",
        "expired",
        "stands_in",
        "items",
        "lifetime",
        "time_to_first_item",
        "_success",
        "_failure",
    }
)


class _Unset:
    """What a call starts from. Most calls never set most of these, so making a call does not either."""

    state = ExecutionState.PRE_EXECUTION  # told last, or about to be
    returned: Any = None
    captured: dict[str, Any] | None = None
    decided_by: str | None = None  # the guard or handler whose value or error the caller gets
    items: int | None = None
    lifetime: float | None = None
    time_to_first_item: float | None = None

    decided = False  # the body is not to run
    vetoed = False
    spoiled = False  # the body returned, and a critical observer failed then
    handled = False  # a value goes to the caller where the body raised
    told_enough = False  # an observer ended the telling of PRE_EXECUTION to plain observers
    closing = False  # the coroutine is being closed: nothing can be awaited any more
    problem: BaseException | None = None  # what goes to the caller that the body did not raise
    expired: BaseException | None = None  # the error of a body whose deadline passed
    stands_in: BaseException | None = None  # what the caller gets in place of the cancellation that its body raised
    interrupt: BaseException | None = None  # KeyboardInterrupt, or the task's own cancellation, met in an observer

    failed: frozenset[Registration] | None = None
    probed: frozenset[Registration] | None = None  # paused ones that this call tries again
    passed_over: frozenset[Registration] | None = None  # guards that were not asked
    told_first: frozenset[Registration] | None = None  # those that wanted to be told of the beginning

    attempt = 1
    earlier = 0.0  # seconds the body ran in earlier attempts
    began: float | None = None  # when the first attempt did
    last_error: BaseException | None = None  # what the attempt before raised
    was_late = False  # the deadline of the attempt before passed
    again: Again | None = None  # the body is to run again
    notice: RetryNotice | ProgressNotice | None = None  # of a `Noticed` alone

    held: dict[Registration, Any] | None = None  # the tokens of the guards that were asked
    _slots: dict[Registration | None, Any] | None = None  # of each observer, and under None what all of them share
    _success: ExecutionResult | None = None
    _failure: ExecutionFailure | None = None
    _timestamp: float | None = None
    _call_id: str | None = None


class Noticed:
    """A call as it is told of in a notice, and read in the notice's contexts: the call, and the notice."""

    __slots__ = ("_call", "notice")

    if TYPE_CHECKING:
        _call: Call
        notice: RetryNotice | ProgressNotice

    def __init__(self, call: Call, notice: RetryNotice | ProgressNotice) -> None:
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "notice", notice)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._call, name, value)


class Call(_Unset):
    """One call. Made by the wrapper, filled in by the sequence, read by contexts.

    The slots are what every call has; the rest goes to the instance dictionary, in the calls that need one.
    `here` and `outer` are there if the plan tracks calls: where this call is made, for calls made in it, and the same
    of the call that this one is made in; `tags` too, from the end of the body on.
    """

    __slots__ = ("args", "elapsed", "here", "kwargs", "outcome", "outer", "plan", "raised", "started", "tags", "value")

    if TYPE_CHECKING:
        plan: Plan
        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        started: float | None
        elapsed: float
        value: Any
        outcome: Outcome | None
        raised: Raised | None
        here: CurrentCall | None
        outer: CurrentCall | None
        tags: dict[Any, Any] | None

    def __getattr__(self, name: str) -> Any:
        if name in Call.__slots__:
            return None  # a slot that nobody has filled yet
        raise AttributeError(name)

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

    def begin_at(self, seconds: float) -> None:
        """Take the time of the beginning from a time source of the user's."""
        self._timestamp = seconds

    @property
    def call_id(self) -> str:
        """Made when it is first read."""
        if self._call_id is None:
            here = self.here if self.plan.tracks else None
            self._call_id = new_call_id() if here is None else here.call_id
        return self._call_id  # type: ignore[return-value]

    @property
    def parent_call_id(self) -> str | None:
        """The id of the call that this one is made in; from the next call on, if nobody has asked for such before."""
        if not self.plan.tracks:
            TRACKING.switch_on()
            return None
        return None if self.outer is None else self.outer.call_id

    @property
    def depth(self) -> int:
        """How many calls are around this one, as far as that is tracked."""
        if not self.plan.tracks:
            TRACKING.switch_on()
            return 0
        return 0 if self.here is None else self.here.depth

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
        return self._slots.setdefault(listener.registration, {})  # type: ignore[no-any-return]

    @property
    def shared(self) -> Shared:
        """What the observers of this call tell each other."""
        if self._slots is None:
            self._slots = {}
            self.plan.uses_slots = True
        shared: Shared = self._slots.setdefault(None, Shared())  # one step: another thread may read it too
        return shared

    def tags_at(self, state: ExecutionState) -> dict[Any, Any]:
        """Return the tags as contexts of this state show them: none until the body has begun."""
        if not self.plan.tracks or state in _UNTAGGED_STATES:
            return {}
        here = self.here
        tags = self.tags if here is None or not here else here.tags
        return {} if tags is None else dict(tags)

    def metadata_at(self, state: ExecutionState) -> dict[Any, Any]:
        """Return the decorator's metadata, and the tags on top of it."""
        metadata = self.plan.target.metadata
        return {**metadata, **self.tags_at(state)} if self.plan.tracks else dict(metadata)

    def token_of(self, registration: Registration) -> Any:
        """Return what a guard keeps for this call; `NOT_ASKED` if it was not asked."""
        return NOT_ASKED if self.held is None else self.held.get(registration, NOT_ASKED)

    def hold(self, *tokens: tuple[Registration, Any]) -> None:
        """Take over the tokens of the guards that were asked."""
        if self.held is None:
            self.held = {registration: token for registration, token in tokens if token is not NOT_ASKED}

    def veto(self, error: BaseException, by: str) -> None:
        """Refuse the call, unless that is done; a refusal takes back an answer."""
        if not self.vetoed:
            self.decided_by = by
            # Decided last: a fault on the way must not leave a decision without what was decided.
            self.problem = error
            self.value = self.returned = None
            self.decided = self.vetoed = True

    def answer(self, value: Any, by: str) -> None:
        """Answer the call in place of the body, unless it is decided."""
        if not self.decided:
            self.decided_by = by
            self.value = self.returned = value
            self.decided = True

    def fail(self, error: BaseException) -> None:
        """Record that this exception is the result."""
        self.raised = Raised(error)
        self._failure = None

    def next_attempt(self) -> Call:
        """Return the record of the next attempt; this one stays as contexts of this attempt have seen it."""
        own = {name: value for name, value in self.__dict__.items() if name not in _OF_ONE_ATTEMPT}
        call = Call()
        call.plan, call.args, call.kwargs = self.plan, self.args, self.kwargs
        call.elapsed, call.value, call.outcome = 0.0, None, None
        call.__dict__.update(
            own,
            attempt=self.attempt + 1,
            earlier=self.elapsed,
            began=self.started if self.began is None else self.began,
            _call_id=self.call_id,
            _timestamp=self.timestamp,
            last_error=self.exception,
            was_late=self.exception is self.expired,
        )
        if self.plan.tracks and self.here is not None:
            call.outer, call.here = self.outer, self.here.again(self.call_id)
            call.tags = None if self.tags is None else dict(self.tags)
        if self.raised is not None:
            self.raised.release()
        self.expired = self.stands_in = None
        if not self.plan.keeps_slots:
            self._slots = None
        return call

    def without_problem(self) -> BaseException | None:
        """Set aside what goes to the caller so far, to see what comes."""
        problem, self.problem = self.problem, None
        return problem

    def release(self) -> None:
        """Let go of what only the running call needs; contexts that were kept stay readable."""
        self.interrupt = self.expired = self.stands_in = self.held = None
        if not self.plan.keeps_slots:
            self._slots = None
        if self.raised is not None and (self.plan.shows_contexts or self.vetoed):
            self.raised.release()
