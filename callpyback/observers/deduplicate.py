"""Passes on the first of equal calls, and counts the others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds, looking_at, refuse
from callpyback.core.functions import FunctionKind, full_name, kind_of, signature_of
from callpyback.core.raised import OfOneCall
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.core.state_machine import (
    ENDED_STATES,
    PLAIN_STATES,
    TERMINAL_STATES,
    ExecutionState,
    Outcome,
)
from callpyback.observers.parts.bounded import RecentKeys
from callpyback.observers.parts.relay import RelayObserver
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.events.event import Event
    from callpyback.observers.base import States
    from callpyback.protocols import TimeSource

SUPPRESSED: Final = "suppressed"
"""The entry of `context.metadata` that says how many equal calls were suppressed since the last one passed on."""

_SHOWN_KEYS: Final = 10
_WITHOUT_EXCEPTION: Final = (Outcome.SUCCESS, Outcome.SUPPLIED)


def failure_of(context: ExecutionContext) -> Hashable:
    """Return what makes two failures equal: the function, the exception's type and its text; None without exception.

    Example:
        >>> from callpyback.testing import build_context
        >>> failure_of(build_context("pay", exception=ValueError("no money")))
        ('pay', 'ValueError: no money')
    """
    if context.outcome in _WITHOUT_EXCEPTION or context.state is ExecutionState.POST_SUCCESS:
        return None  # without making a result
    exception = None if context.result is None else context.result.exception
    return None if exception is None else (full_name(context.function_signature), safe_text(exception))


def call_of(context: ExecutionContext) -> Hashable:
    """Return what makes two events of one call equal: for an observer that hears of calls in more than one way."""
    return context.call_id


class DeduplicateObserver(RelayObserver):
    """Passes on only the first of equal calls to another observer.

    By default equal are failures of one function with one type of exception and one text; a call without an exception
    always passes, and the observer is not told the beginnings of calls. With a `key` of your own, calls of one key are
    equal: it is asked for at each state the observer is told, until it gives something other than None; that decides
    the call, to its end. A call of which a state before the body was passed on is passed on to its end.

    The first call that is passed on after some were suppressed says how many, in `context.metadata["suppressed"]`. If
    a key raises, or is not hashable, the call passes, and that counts as a failure of this observer.

    On an event bus the `key` is called with the event; by default equal are events of one `uuid`.

    A lock is held for a look at the keys. They are kept as they are, so let them be text or numbers rather than
    objects of the program.

    Args:
        observer: Who is told. Guards and critical observers are refused, and those without `update(context)`.
        key: Called with the context; what it returns is compared. None means that the call is not compared. By default
            `failure_of`; `call_of` is for an observer that hears of the same calls in more than one way.
        window: Seconds after which an equal call passes again; None for never, as long as the key is remembered.
        max_keys: The greatest number of keys that are remembered; beyond it the one met longest ago is forgotten.
        time_source: Where time comes from; the system's clock by default.
        states: What the observer is told; by default its own `states`, without those before the body if there is no
            `key`.
        priority: Higher is told earlier; by default that of the observer.
        name: How it is shown; by default as the observer.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, MockTimeSource, on_failure
        >>> clock = MockTimeSource()
        >>> alarm = on_failure(lambda exception, metadata: print(exception, metadata))
        >>> alarms = DeduplicateObserver(alarm, window=60, time_source=clock)
        >>> @CallPyBack(observers=[alarms], default_return=None)
        ... def connect(host):
        ...     raise ConnectionError(f"no route to {host}")
        >>> for host in ("bank", "bank", "shop", "bank"):
        ...     connect(host)
        no route to bank {}
        no route to shop {}
        >>> clock.advance(60)
        >>> connect("bank")
        no route to bank {'suppressed': 2}
    """

    def __init__(
        self,
        observer: Any,
        key: Callable[[Any], Hashable] | None = None,
        *,
        window: float | None = None,
        max_keys: int = 10_000,
        time_source: TimeSource | None = None,
        states: States | None = None,
        priority: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(observer, states=states, priority=priority, name=name)
        if not callable(getattr(observer, "update", None)):
            refuse("observer", observer, "one with update(context): what is compared is read from the context")
        self._key: Callable[[Any], Hashable] = failure_of if key is None else _checked_key(key)
        self._window = None if window is None else checked_seconds("window", window)
        _, self._clock = checked_clocks(time_source)
        if states is None and key is None:
            self._tell_at(self._states_after_the_body())
        self._known: RecentKeys[_Known] = RecentKeys(checked_count("max_keys", max_keys))
        self._mark: Any = object()
        self._passed, self._suppressed = Tally(), Tally()

    def _states_after_the_body(self) -> frozenset[ExecutionState]:
        states = (PLAIN_STATES if self.states is None else self.states) & ENDED_STATES
        if not states and not self.notices:
            expected = (
                "a function of the context: this observer hears nothing of the ends of calls, where failures show"
            )
            refuse("key", None, expected)
        return states

    def passes(self, context: ExecutionContext) -> bool:
        """Return whether the observer is told this, and note in the context how many were not.

        Raises:
            OfOneCall: The key raised, or cannot be hashed.
        """
        is_only_time = self._hears_ends_alone and context.state in TERMINAL_STATES
        decisions = None if is_only_time else self.decisions_of(context)
        decision: _Decision | None = None if decisions is None else decisions.get(self._mark)
        if decision is None:
            try:
                key = self._key(context)
                hash(key)
            except Exception as error:  # noqa: BLE001 - the user's key
                if decisions is not None:
                    decisions[self._mark] = _PASSES
                raise OfOneCall(error) from None
            decision = _PASSES if key is None else self._decided(key)
            if decisions is not None and (key is not None or context.state not in ENDED_STATES):
                decisions[self._mark] = decision
        passes, suppressed = decision
        if suppressed:
            context.metadata[SUPPRESSED] = suppressed
        return passes

    def passes_event(self, event: Event) -> bool:
        """Return whether the observer is told of an event on a bus.

        Raises:
            OfOneCall: The key raised, or cannot be hashed.
        """
        try:
            key = event.uuid if self._key is failure_of else self._key(event)
            hash(key)
        except Exception as error:  # noqa: BLE001 - the user's key
            raise OfOneCall(error) from None
        return key is None or self._decided(key)[0]

    def _decided(self, key: Hashable) -> _Decision:
        now = self._clock()
        with self._known.lock:
            known = self._known.use(key, _Known)
            if not self._is_due(known, now):
                known.suppressed += 1
                next(self._suppressed)
                return False, 0
            suppressed, known.suppressed, known.passed_at = known.suppressed, 0, now
        next(self._passed)
        return True, suppressed

    def _is_due(self, known: _Known, now: float) -> bool:
        if known.passed_at is None:
            return True
        if self._window is None:
            return False
        elapsed = now - known.passed_at
        if elapsed >= self._window:
            return True
        if not elapsed >= 0:  # the clock failed, or went back: the window begins now
            known.passed_at = now
        return False

    def _update(self, context: ExecutionContext) -> Any:
        try:
            return super()._update(context)
        except OfOneCall:
            self.observer.update(context)
            raise

    async def _update_async(self, context: ExecutionContext) -> None:
        try:
            await super()._update_async(context)
        except OfOneCall:
            await self.observer.update(context)
            raise

    def _on_event(self, event: Event) -> Any:
        try:
            return super()._on_event(event)
        except OfOneCall as fault:
            self._handler(event)
            raise fault.error from None

    async def _on_event_async(self, event: Event) -> Any:
        try:
            return await super()._on_event_async(event)
        except OfOneCall as fault:
            await self._handler(event)
            raise fault.error from None

    def get_metrics(self) -> dict[str, Any]:
        """Return how many calls that have a key were passed on and suppressed, and how many keys are remembered.

        `evicted` is how many keys were forgotten for want of room; `most_suppressed` has, for the ten keys with the
        most calls suppressed since the last one passed, the key as bounded text and that number. If the observer has
        `get_metrics`, what that returns is under `observer`.
        """
        pending = sorted(((known.suppressed, key) for key, known in self._known.items()), key=_number, reverse=True)
        most = [{"key": safe_repr(key), "suppressed": n} for n, key in pending[:_SHOWN_KEYS] if n]
        metrics = {
            "passed": self._passed.count,
            "suppressed": self._suppressed.count,
            "keys": len(self._known),
            "max_keys": self._known.max_keys,
            "evicted": self._known.evicted,
            "most_suppressed": most,
        }
        return self._with_observer(metrics)

    def reset(self) -> None:
        """Forget the keys and the counts, and have the observer forget what it collected."""
        self._known.clear()
        self._passed, self._suppressed = Tally(), Tally()
        super().reset()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_known": copy.deepcopy(self._known)}
        state.update(_passed=Tally(self._passed.count), _suppressed=Tally(self._suppressed.count))
        del state["_mark"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _mark=object())


_Decision = tuple[bool, int]
"""Whether a call is passed on, and how many equal ones were suppressed before."""

_PASSES: Final[_Decision] = (True, 0)


class _Known:
    """What is remembered of a key."""

    __slots__ = ("passed_at", "suppressed")

    def __init__(self) -> None:
        self.passed_at: float | None = None
        self.suppressed = 0


def _number(pair: tuple[int, Hashable]) -> int:
    return pair[0]


def _checked_key(key: Any) -> Callable[[Any], Hashable]:
    with looking_at("key", key):
        expected = "a plain function of the context, such as key=lambda context: context.arguments['order']"
        if not callable(key) or kind_of(key) is not FunctionKind.FUNCTION:
            refuse("key", key, expected)
        signature = signature_of(key)
        try:
            if signature is not None:
                signature.bind(None)
        except TypeError as wrong:
            refuse("key", key, f"{expected}; called so, it has {wrong}")
        return key  # type: ignore[no-any-return]
